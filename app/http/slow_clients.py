"""Cuts off connections that stay open without asking anything: uvicorn waits for the first headers for ever.

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


class HeaderDeadline:
    """Watches the connections of one uvicorn server."""

    def __init__(self, server: Any, timeout_s: float) -> None:
        """Begin with no connection known.

        Args:
            server: uvicorn's Server; its connections tell of their present request in `cycle`.
            timeout_s: how long a connection may be open between two requests or before the first. Idle connections
                that have had a request are closed by uvicorn itself, after its `--timeout-keep-alive`.
        """
        self._server = server
        self._timeout_s = max(timeout_s, float(server.config.timeout_keep_alive))
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
            if at - since < self._timeout_s:
                waiting[connection] = (cycle, since)
            else:
                metrics.REQUEST_ERRORS.labels(CODE).inc()
                connection.transport.close()
        self._waiting = waiting
