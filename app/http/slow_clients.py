"""How long connections stay open: between two requests for as long as the settings say, and not for ever without asking
anything, or without taking an answer: uvicorn waits for headers, and for what it sent to be taken.

The gate limits how long a body takes; before the headers are there, and once an answer is sent, only the web server
knows of a connection.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, Final

from app.telemetry import metrics

logger: Final = logging.getLogger("vigil.http")

LOOKS_PER_TIMEOUT: Final = 4
CODE: Final = "header-timeout"
UNTAKEN: Final = "answer-untaken"
"""How the metric of refused requests names those that send no request, and those that take no answer."""
USUAL_KEEP_ALIVE_S: Final = 5
"""uvicorn's, where nobody gave it another: as long as many clients keep theirs, so that one is closed just when a
request is sent on it."""


def keep_alive(server: Any, seconds: int) -> None:
    """Have a uvicorn server keep new connections for so long between two requests, unless it was told how long."""
    if server.config.timeout_keep_alive == USUAL_KEEP_ALIVE_S:
        server.config.timeout_keep_alive = seconds


class HeaderDeadline:
    """Watches the connections of one uvicorn server."""

    def __init__(self, server: Any, timeout_s: float) -> None:
        """Begin with no connection known.

        Args:
            server: uvicorn's Server; its connections tell of their present request in `cycle`.
            timeout_s: how long a connection may be open before its first request, and between two if uvicorn keeps it
                no longer. It closes those that ask nothing by itself, and does not where headers have begun. Between
                two requests is also how long nothing of an answer may be taken.
        """
        self._server = server
        self._timeout_s = timeout_s
        self._between_s = max(timeout_s, float(server.config.timeout_keep_alive))
        self._waiting: dict[Any, tuple[Any, int, float]] = {}

    async def watch(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(self._timeout_s / LOOKS_PER_TIMEOUT)
            self.look(time.monotonic())

    def look(self, at: float) -> None:
        """Close what has waited too long at a time (monotonic seconds)."""
        waiting: dict[Any, tuple[Any, int, float]] = {}
        for connection in list(self._server.server_state.connections):
            cycle, transport = getattr(connection, "cycle", None), connection.transport
            untaken = transport.get_write_buffer_size()
            if cycle is not None and not cycle.response_complete and not untaken:
                continue
            before, untaken_before, since = self._waiting.get(connection, (cycle, untaken, at))
            if before is not cycle or untaken_before != untaken:
                since = at
            if at - since < (self._timeout_s if cycle is None else self._between_s):
                waiting[connection] = (cycle, untaken, since)
            elif untaken:
                metrics.REQUEST_ERRORS.labels(UNTAKEN).inc()
                transport.abort()  # To close it would be to wait until all is taken.
            else:
                metrics.REQUEST_ERRORS.labels(CODE).inc()
                transport.close()
        self._waiting = waiting
