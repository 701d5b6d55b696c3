"""Joins an HTTP request to its trace: its log lines carry the ids, and a span is made where tracing is on."""

from __future__ import annotations

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.paths import route_path
from app.telemetry import correlation, tracing
from app.telemetry.correlation import Correlation

TRACEPARENT: Final = b"traceparent"
UNTRACED: Final = frozenset({"/health", "/livez", "/health/ready", "/readyz", "/metrics"})
"""Asked every few seconds by machines; nobody wants to see them among traces."""
METHODS: Final = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})


class Correlate:
    """A plain ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        traceparent = ""
        for name, value in scope["headers"]:
            if name == TRACEPARENT:
                traceparent = correlation.usable(value.decode("latin-1"))
        work = Correlation(traceparent=traceparent)
        if route_path(scope) not in UNTRACED:
            work.span = tracing.start("HTTP", tracing.Kind.SERVER, traceparent)
        token = correlation.begin(work)
        try:
            if work.span is None:
                await self._app(scope, receive, send)
            else:
                work.traceparent = work.span.traceparent
                await self._traced(work, work.span, scope, receive, send)
        finally:
            correlation.end(token)

    async def _traced(self, work: Correlation, span: tracing.Span, scope: Scope, receive: Receive, send: Send) -> None:
        status = 500

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note_status)
        finally:
            # The route's template and never the path, which a caller writes.
            method = scope["method"] if scope["method"] in METHODS else "HTTP"
            route = getattr(scope.get("route"), "path", None)
            span.rename(f"{method} {route}" if route is not None else method)
            span.note("http.request.method", method)
            if route is not None:
                span.note("http.route", route)
            span.note("http.response.status_code", status)
            if work.request_id is not None:
                span.note("vigil.request_id", str(work.request_id))
            if status >= 500:
                span.fail(str(status))
            span.end()
