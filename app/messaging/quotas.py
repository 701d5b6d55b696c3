"""Counts of quotas in a bucket: each process adds there what it admitted, so that they outlast it."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import APIError, KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue

from app.access.quotas import NAME, QuotaBook
from app.messaging.buckets import snapshot
from app.topology import QUOTAS_BUCKET

logger: Final = logging.getLogger("vigil.access")

WRITE_INTERVAL_S: Final = 0.5
"""What a process that is killed admitted since the last time is not counted."""
TRIES: Final = 20
"""Replicas that add to one count at once take turns."""


class QuotaCounts:
    def __init__(self, book: QuotaBook) -> None:
        self._book = book

    async def open(self, connection: Client, jetstream: JetStreamContext) -> None:
        """Read what was used before."""
        for entry in await snapshot(jetstream, QUOTAS_BUCKET.name):
            if entry.operation is None and NAME.fullmatch(entry.key):
                self._book.learn(entry.key, _count(entry))

    async def run(self, connection: Client, jetstream: JetStreamContext) -> None:
        """Write until cancelled, and once more then."""
        try:
            while True:
                await asyncio.sleep(WRITE_INTERVAL_S)
                await self._write(jetstream)
        finally:
            await self._write(jetstream)

    async def _write(self, jetstream: JetStreamContext) -> None:
        pending = self._book.pending()
        if not pending:
            return
        try:
            bucket = await jetstream.key_value(QUOTAS_BUCKET.name)
            for name, texts in pending.items():
                self._book.settle(name, texts, await _add(bucket, name, texts))
        except (NatsError, APIError, TimeoutError) as error:
            logger.warning("quotas not written, again in %g s: %s", WRITE_INTERVAL_S, type(error).__name__)


async def _add(bucket: KeyValue, name: str, texts: int) -> int:
    """Add to a count and return it; fewer than none, for texts that were counted and then not accepted, take away."""
    for _ in range(TRIES):
        try:
            entry = await bucket.get(name)
        except KeyNotFoundError:
            total = max(texts, 0)
            try:
                await bucket.create(name, str(total).encode())
            except KeyWrongLastSequenceError:
                continue
            return total
        total = max(_count(entry) + texts, 0)
        try:
            await bucket.update(name, str(total).encode(), last=entry.revision)
        except KeyWrongLastSequenceError:
            continue
        return total
    raise TimeoutError


def _count(entry: KeyValue.Entry) -> int:
    text = (entry.value or b"").decode("ascii", "replace")
    return int(text) if text.isdecimal() and len(text) < 16 else 0
