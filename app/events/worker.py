"""The logging stage: one insert for each batch of decisions, repeated until the event log takes it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from app.errors import EventLogUnavailable, RowsRefused
from app.log_contracts import LogEntry
from app.telemetry import metrics

logger: Final = logging.getLogger("vigil.events")

FIRST_RETRY_S: Final = 0.5
LAST_RETRY_S: Final = 10.0
TRIES_TOGETHER: Final = 3
"""After as many refusals by a log that can be reached, the rows are tried one by one."""
TRIES_AT_ALL: Final = 60
"""After as many, about ten minutes, rows that are all refused are given up too: later ones must not wait for ever."""


class Log(Protocol):
    async def append(self, records: Sequence[LogEntry]) -> None: ...

    async def ping(self) -> None: ...


@dataclass(frozen=True, slots=True)
class EventWorker:
    log: Log
    forgotten: Callable[[LogEntry], bool] = lambda _: False
    """Whether an entry is to be forgotten, and so not to be written."""

    async def __call__(self, records: Sequence[LogEntry]) -> None:
        """Write a batch.

        While the event log is away the batch waits here, kept from redelivery by heartbeats, and all later events
        wait in the stream: an outage of minutes costs no delivery attempts and fills no dead-letter queue.

        Raises:
            RowsRefused: the log can be reached and refuses some rows, which are named; the others are written.
        """
        pause_s = FIRST_RETRY_S
        refusals = 0
        failed = False
        while True:
            started = time.perf_counter()
            try:
                written = await self._append(records)
            except EventLogUnavailable as error:
                metrics.EVENT_LOG_UP.set(0)
                metrics.EVENT_FAILURES.inc()
                failed = True
                logger.error("%d rows not written, again in %g s: %s", len(records), pause_s, error.message)
                refusals = refusals + 1 if await self._reached() else 0
                if refusals >= TRIES_TOGETHER and await self._one_by_one(records, last_try=refusals >= TRIES_AT_ALL):
                    return
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LAST_RETRY_S)
            else:
                # Where all that failed was forgotten meanwhile nothing was written, and no later batch may come.
                if written or (failed and await self._reached()):
                    metrics.EVENT_LOG_UP.set(1)
                if written:
                    metrics.EVENT_ROWS.inc(written)
                    metrics.EVENT_BATCH_ROWS.observe(written)
                    metrics.EVENT_BATCH_SECONDS.observe(time.perf_counter() - started)
                return

    async def _one_by_one(self, records: Sequence[LogEntry], *, last_try: bool) -> bool:
        """Write the rows alone.

        Returns:
            False when none is taken, which says more of the log than of the rows, or when the log goes away in between;
            the whole batch is then written again, and of a row that is written twice one stays.

        Raises:
            RowsRefused: some are not taken.
        """
        refused = await self._refused(records, range(len(records)))
        if refused is None or (len(refused) == len(records) and not last_try):
            return False
        # Once more: while it was short of memory, say, the log refused rows that nothing is wrong with.
        refused = await self._refused(records, refused)
        if refused is None:
            return False
        metrics.EVENT_ROWS.inc(len(records) - len(refused))
        # Also where none is taken: the log answered after each, and what is held against it ends with these rows.
        metrics.EVENT_LOG_UP.set(1)
        if refused:
            metrics.EVENT_ROWS_REFUSED.inc(len(refused))
            raise RowsRefused(positions=tuple(refused))
        return True

    async def _refused(self, records: Sequence[LogEntry], positions: Iterable[int]) -> list[int] | None:
        """Write the rows at these positions alone and return which are not taken; None when the log goes away."""
        refused = []
        for position in positions:
            if await self._refuses(records[position]):
                if not await self._reached():
                    return None
                refused.append(position)
        return refused

    async def _refuses(self, record: LogEntry) -> bool:
        try:
            await self._append([record])
        except EventLogUnavailable:
            return True
        return False

    async def _append(self, records: Sequence[LogEntry]) -> int:
        """Write what is not to be forgotten, and return how many rows that were.

        Asked before each try: while a batch waits for the log, an order may come, be carried out and be looked after
        for the last time.

        Raises:
            EventLogUnavailable: as the log's own `append`.
        """
        kept = [record for record in records if not self.forgotten(record)]
        if kept:
            await self.log.append(kept)
        return len(kept)

    async def _reached(self) -> bool:
        try:
            await self.log.ping()
        except EventLogUnavailable:
            return False
        return True
