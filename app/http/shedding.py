"""Refuses guard requests before anything is read while the service is saturated: a refusal must stay cheap."""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import Overloaded
from app.problems import MEDIA_TYPE, to_problem
from app.telemetry import metrics

GUARD_PATHS = frozenset({"/guard", "/guard/batch"})


class LoadShedding:
    """A plain ASGI middleware around the whole application.

    `refusal` returns what a guard request that comes now is refused with, or None to let it in.
    """

    def __init__(self, app: ASGIApp, refusal: Callable[[], Overloaded | None]) -> None:
        self._app = app
        self._refusal = refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in GUARD_PATHS:
            error = self._refusal()
            if error is not None:
                await _refuse(error, send)
                return
        await self._app(scope, receive, send)


async def _refuse(error: Overloaded, send: Send) -> None:
    metrics.REQUEST_ERRORS.labels(error.code).inc()
    body = to_problem(error).model_dump_json().encode()
    headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"retry-after", str(error.retry_after_s).encode()),
    ]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
