"""Refuses guard requests before anything is read while the service is saturated: a refusal must stay cheap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import Overloaded
from app.http.shapes import Shapes
from app.problems import to_problem
from app.telemetry import metrics

GUARD_PATHS: Final = frozenset(
    {
        "/guard",
        "/guard/batch",
        "/guard/stream",
        "/v1/guard/input",
        "/v1/guard/output",
        "/v1/guard/analyze",
        "/v1/guard/batch",
        "/v2/guard",
        "/beta/litellm_basic_guardrail_api",
        "/presidio/analyze",
        "/presidio/anonymize",
    }
)


class LoadShedding:
    """A plain ASGI middleware around the whole application.

    `refusal` returns what a guard request that comes now is refused with, or None to let it in.
    """

    def __init__(self, app: ASGIApp, refusal: Callable[[], Overloaded | None], shapes: Shapes) -> None:
        self._app = app
        self._refusal = refusal
        self._shapes = shapes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in GUARD_PATHS:
            error = self._refusal()
            if error is not None:
                await self._refuse(scope["path"], error, send)
                return
        await self._app(scope, receive, send)

    async def _refuse(self, path: str, error: Overloaded, send: Send) -> None:
        metrics.REQUEST_ERRORS.labels(error.code).inc()
        refusal = self._shapes.refusal(path, to_problem(error), error.retry_after_s)
        headers = [
            (b"content-type", refusal.media_type.encode()),
            (b"content-length", str(len(refusal.body)).encode()),
        ]
        if refusal.status == error.status:
            headers.append((b"retry-after", str(error.retry_after_s).encode()))
        await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
        await send({"type": "http.response.body", "body": refusal.body})
