"""A refusal sent by a middleware, before the framework has a hand in it, with the fields its status calls for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from starlette.types import Send

from app.errors import VigilError
from app.http.shapes import Shapes
from app.problems import RETRY_AFTER_S, to_problem
from app.telemetry import metrics

CHALLENGE: Final = 'Bearer realm="vigil-guard"'


async def refuse(error: VigilError, path: str, shapes: Shapes, send: Send, *fields: tuple[str, str]) -> None:
    """Answer with a problem, in the shape of the path, and further header fields."""
    metrics.REQUEST_ERRORS.labels(error.code).inc()
    wait_s = getattr(error, "retry_after_s", RETRY_AFTER_S) if error.status in {429, 503} else None
    refusal = shapes.refusal(path, to_problem(error), wait_s)
    headers = [
        (b"content-type", refusal.media_type.encode()),
        (b"content-length", str(len(refusal.body)).encode()),
    ]
    if refusal.status == error.status:
        headers += [(name.lower().encode(), value.encode()) for name, value in (*_called_for(error, wait_s), *fields)]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": refusal.body})


def _called_for(error: VigilError, wait_s: int | None) -> Iterable[tuple[str, str]]:
    if wait_s is not None:
        yield "Retry-After", str(wait_s)
    if error.status == 401:
        yield "WWW-Authenticate", CHALLENGE
