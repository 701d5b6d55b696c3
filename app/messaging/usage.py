"""What replicas tell each other of the requests they admitted, so that rate limits hold over all of them."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from pydantic import ValidationError

from app.access.rates import REPORT_INTERVAL_S, RateLedger, UsageReport
from app.topology import Subject

logger: Final = logging.getLogger("vigil.access")

SHORTEST_PAUSE_S: Final = 0.005
"""Between two reports, however urgent: 200 a second are enough, and cost nothing to speak of."""


class UsageExchange:
    """Plain messages without acknowledgement: one that is lost is made good by the totals of the next."""

    def __init__(self, ledger: RateLedger) -> None:
        self._ledger = ledger
        self._urgent = asyncio.Event()

    async def open(self, connection: Client, jetstream: JetStreamContext) -> None:
        """Listen to the others; the client repeats the subscription by itself after a reconnect."""
        self._ledger.on_urgent = self._urgent.set
        await connection.subscribe(Subject.USAGE, cb=self._hear)

    async def run(self, connection: Client, jetstream: JetStreamContext) -> None:
        """Tell the others until cancelled."""
        while True:
            report = self._ledger.report()
            # Not without a connection: the client would keep one report after the other, in the room that it has for
            # the results of work, and send them all at once when nobody is to pay for them any more.
            if report is not None and connection.is_connected:
                try:
                    await connection.publish(Subject.USAGE, report.model_dump_json().encode())
                except NatsError as error:
                    logger.debug("usage not told: %s", type(error).__name__)
            await asyncio.sleep(SHORTEST_PAUSE_S)
            try:
                async with asyncio.timeout(REPORT_INTERVAL_S - SHORTEST_PAUSE_S):
                    await self._urgent.wait()
            except TimeoutError:
                pass
            self._urgent.clear()

    async def _hear(self, message: Msg) -> None:
        try:
            self._ledger.absorb(UsageReport.model_validate_json(message.data, extra="ignore"))
        except ValidationError:
            logger.warning("a report of usage that cannot be read was left out")
