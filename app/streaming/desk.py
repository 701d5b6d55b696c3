"""Where streams are opened: as many at once as the settings allow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from app.contracts import DEFAULT_TENANT
from app.errors import Overloaded
from app.settings import StreamSettings
from app.stream_contracts import StreamOpening
from app.streaming.session import Judge, StreamParts, StreamSession
from app.telemetry import metrics


@dataclass
class StreamDesk:
    parts: StreamParts
    limits: StreamSettings
    open: int = field(default=0, init=False)
    """Streams under way."""

    @asynccontextmanager
    async def stream(
        self, opening: StreamOpening, judge: Judge, longest: int | None = None, *, tenant: str = DEFAULT_TENANT
    ) -> AsyncIterator[StreamSession]:
        """Open a stream for as long as the context lasts; `longest` is the most code points of this caller's answers.

        Raises:
            Overloaded: too many are under way.
            InvalidRequest, RestoreMapRefused: the opening cannot be used.
        """
        if self.open >= self.limits.max_open:
            raise Overloaded("as many streams as this process takes are under way; try again later")
        limit = self.parts.text_limit
        parts = replace(self.parts, text_limit=limit if longest is None else min(limit, longest))
        begin = partial(StreamSession, opening, parts, judge, tenant=tenant)
        # Secrets and a restore map may take tens of milliseconds to read, for which all other requests would wait.
        beside = opening.canaries or opening.system_prompt or opening.restore_map
        self.open += 1
        metrics.STREAMS_OPEN.set(self.open)
        try:
            yield await asyncio.get_running_loop().run_in_executor(parts.threads, begin) if beside else begin()
        finally:
            self.open -= 1
            metrics.STREAMS_OPEN.set(self.open)
