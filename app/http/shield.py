"""The last resort of the HTTP room: a failure nobody foresaw is a problem without details, and logged by class alone.

The framework's own handler raises the exception again after answering; the web server would then log its message, which
may quote a text.
"""

from __future__ import annotations

import logging
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import VigilError
from app.problems import MEDIA_TYPE, to_problem
from app.telemetry import metrics

logger: Final = logging.getLogger("vigil.http")


class Shield:
    """A plain ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

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
            metrics.REQUEST_ERRORS.labels(VigilError.code).inc()
            logger.error("a request failed: %s", type(error).__name__)
            if not started:
                await _answer(send)


async def _answer(send: Send) -> None:
    body = to_problem(VigilError()).model_dump_json().encode()
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": VigilError.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
