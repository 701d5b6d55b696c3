"""How long connections stay open: between two requests for as long as the settings say, and without asking anything
not for ever, as uvicorn waits for headers.

The gate limits how long a body takes; before the headers are there, only the web server knows of a connection.
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
"""How the metric of refused requests names them."""
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
                no longer. It closes those that ask nothing by itself, and does not where headers have begun.
        """
        self._server = server
        self._timeout_s = timeout_s
        self._between_s = max(timeout_s, float(server.config.timeout_keep_alive))
        self._waiting: dict[Any, tuple[Any, float]] = {}

    async def watch(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(self._timeout_s / LOOKS_PER_TIMEOUT)
            self.look(time.monotonic())

    def look(self, at: float) -> None:
        """Close what has waited too long at a time (monotonic seconds)."""
        waiting: dict[Any, tuple[Any, float]] = {}
        for connection in list(self._server.server_state.connections):
            cycle = getattr(connection, "cycle", None)
            if cycle is not None and not cycle.response_complete:
                continue
            before, since = self._waiting.get(connection, (cycle, at))
            if before is not cycle:
                since = at
            if at - since < (self._timeout_s if cycle is None else self._between_s):
                waiting[connection] = (cycle, since)
            else:
                metrics.REQUEST_ERRORS.labels(CODE).inc()
                connection.transport.close()
        self._waiting = waiting
