"""The logging stage: one insert for each batch of decisions, repeated until the event log takes it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from app.contracts import DecisionRecord
from app.errors import EventLogUnavailable
from app.events.log import EventLog
from app.telemetry import metrics

logger: Final = logging.getLogger("vigil.events")

FIRST_RETRY_S: Final = 0.5
LAST_RETRY_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class EventWorker:
    log: EventLog

    async def __call__(self, records: Sequence[DecisionRecord]) -> None:
        """Write a batch.

        While the event log is away the batch waits here, kept from redelivery by heartbeats, and all later events
        wait in the stream: an outage of minutes costs no delivery attempts and fills no dead-letter queue.
        """
        pause = FIRST_RETRY_S
        while True:
            started = time.perf_counter()
            try:
                await self.log.append(records)
            except EventLogUnavailable as error:
                metrics.EVENT_LOG_UP.set(0)
                logger.error("%d rows not written, again in %g s: %s", len(records), pause, error.message)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LAST_RETRY_S)
            else:
                metrics.EVENT_LOG_UP.set(1)
                metrics.EVENT_ROWS.inc(len(records))
                metrics.EVENT_BATCH_SECONDS.observe(time.perf_counter() - started)
                return
