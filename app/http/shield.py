"""The last resort of the HTTP room: a failure nobody foresaw is a problem without details, and logged by class alone.

The framework's own handler raises the exception again after answering; the web server would then log its message, which
may quote a text.
"""

from __future__ import annotations

import logging
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import VigilError
from app.http.paths import route_path
from app.http.refusal import refuse
from app.http.shapes import Shapes
from app.telemetry import metrics

logger: Final = logging.getLogger("vigil.http")


class Shield:
    """A plain ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, shapes: Shapes) -> None:
        self._app = app
        self._shapes = shapes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def note_start(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, note_start)
        except Exception as error:  # noqa: BLE001 - whatever it is, its message stays inside
            logger.error("a request failed: %s", type(error).__name__)
            if started:
                metrics.REQUEST_ERRORS.labels(VigilError.code).inc()
            else:
                await refuse(VigilError(), route_path(scope), self._shapes, send)
