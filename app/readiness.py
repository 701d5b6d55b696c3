"""Readiness, looked at once for all who ask, since anybody may, and within the patience of a health check."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from app.contracts import Readiness

LOOK_WITHIN_S: Final = 3.0
"""How long a part may take to answer: the health check of docker-compose.yml gives up after 4 s."""
KEPT_S: Final = 1.0
"""How long an answer is given again: a look costs a query of the event log and a request to NATS for each stream."""


class SharedReadiness:
    """Looks at the parts; who asks while a look is under way, or KEPT_S after it, gets what it finds."""

    def __init__(self, look: Callable[[], Awaitable[Readiness]], clock: Callable[[], float] = time.monotonic) -> None:
        self._look = look
        self._clock = clock
        self._looking: asyncio.Task[Readiness] | None = None
        self._until = 0.0

    async def __call__(self) -> Readiness:
        if self._looking is None or (self._looking.done() and self._clock() >= self._until):
            self._looking = asyncio.create_task(self._look_once(), name="readiness")
        # One caller who goes away takes nothing from the others.
        return await asyncio.shield(self._looking)

    async def _look_once(self) -> Readiness:
        try:
            return await self._look()
        finally:
            self._until = self._clock() + KEPT_S
