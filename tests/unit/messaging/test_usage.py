"""Reports of what was admitted wait for no connection: the next one has the totals."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from app import tasks
from app.access.limits import Limits
from app.access.rates import RateLedger, UsageReport
from app.messaging.usage import UsageExchange

LIMITS = Limits(rate_per_s=1, burst=1)
LOOKS = 5


class Reconnecting:
    """A connection that is back after some looks."""

    def __init__(self, ledger: RateLedger) -> None:
        self._ledger = ledger
        self.looks = 0
        self.told: list[UsageReport] = []
        self.was_told = asyncio.Event()

    @property
    def is_connected(self) -> bool:
        self.looks += 1
        if self.looks <= LOOKS:
            self._ledger.spend("key", LIMITS, 1)  # Each is a report that does not wait for the interval.
        return self.looks > LOOKS

    async def subscribe(self, subject: str, cb: object) -> None: ...

    async def publish(self, subject: str, payload: bytes) -> None:
        self.told.append(UsageReport.model_validate_json(payload))
        self.was_told.set()


async def test_without_a_connection_nothing_is_published_and_the_next_report_has_the_total() -> None:
    ledger = RateLedger("0" * 32, lambda _: LIMITS)
    connection: Any = Reconnecting(ledger)
    exchange = UsageExchange(ledger)
    await exchange.open(connection, cast("Any", None))
    running = asyncio.create_task(exchange.run(connection, cast("Any", None)))
    async with asyncio.timeout(10):
        await connection.was_told.wait()
    await tasks.end([running])
    assert connection.looks > LOOKS
    spending = connection.told[0].spent["key"]
    assert (spending.total, spending.latest) == (LOOKS, 1)
