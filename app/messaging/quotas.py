"""Counts of quotas in a bucket: each process adds there what it admitted, so that they outlast it."""

from __future__ import annotations

import asyncio
import logging
import secrets
from dataclasses import dataclass
from itertools import count
from typing import Final

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import APIError, NotFoundError

from app.access.quotas import NAME, QuotaBook
from app.messaging.buckets import snapshot
from app.topology import QUOTAS_BUCKET

logger: Final = logging.getLogger("vigil.access")

WRITE_INTERVAL_S: Final = 0.5
"""What a process that is killed admitted since the last time is not counted."""
TRIES: Final = 20
"""Replicas that add to one count at once take turns."""
WRONG_REVISIONS: Final = (10071, 10164)
"""JetStream's error codes where a key has another revision than the one expected."""
EXPECTED_REVISION: Final = "Nats-Expected-Last-Subject-Sequence"
ADDITIONS: Final = "Vigil-Additions"
"""Header of a count: which addition of a process was the last, as `1f0c9a2b=17,77e01d4a=3`."""
MOST_WRITERS: Final = 8
"""So many processes that added to a count last are named beside it, each with its last addition. The bucket holds a
count for each key and day: 12 bytes a process are little beside 150."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """A count as the bucket has it."""

    total: int
    revision: int
    """0: there is none."""
    last_additions: dict[str, str]
    """Number of the last addition of each process that added to it lately, by the process."""


@dataclass(frozen=True, slots=True)
class _Addition:
    """What a process adds to a count. It can be made again: the server takes it on top of the revision that it was
    worked out from alone, and the count says then whether it is in it."""

    number: str
    texts: int
    total: int
    revision: int
    last_additions: dict[str, str]
    """Of the count that comes of it."""


class QuotaCounts:
    def __init__(self, book: QuotaBook) -> None:
        self._book = book
        self._process = secrets.token_hex(4)
        self._numbers = count(1)
        self._open: dict[str, _Addition] = {}
        """Additions of which it is not known whether the bucket has them."""

    async def open(self, connection: Client, jetstream: JetStreamContext) -> None:
        """Read what was used before."""
        for entry in await snapshot(jetstream, QUOTAS_BUCKET.name):
            if entry.operation is None and NAME.fullmatch(entry.key):
                self._book.learn(entry.key, _count(entry.value))

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
        try:
            for name in {**pending, **self._open}:
                await self._add(jetstream, name, pending.get(name, 0))
            for name in self._book.doubted():
                self._book.learn(name, (await _kept(jetstream, name)).total)
        except (NatsError, TimeoutError) as error:
            logger.warning("quotas not written, again in %g s: %s", WRITE_INTERVAL_S, type(error).__name__)

    async def _add(self, jetstream: JetStreamContext, name: str, texts: int) -> None:
        """Add to a count; fewer than none, for texts that were counted and then not accepted, take away."""
        for _ in range(TRIES):
            addition = self._open.get(name)
            if addition is None:
                if not texts:
                    return
                addition = self._open[name] = self._addition(await _kept(jetstream, name), texts)
            if not await _make(jetstream, name, addition):
                # Somebody else was faster, or it was made before and its acknowledgement lost.
                kept = await _kept(jetstream, name)
                if kept.last_additions.get(self._process) != addition.number:
                    del self._open[name]
                    continue
            del self._open[name]
            self._book.settle(name, addition.texts, addition.total)
            return
        raise TimeoutError

    def _addition(self, kept: _Kept, texts: int) -> _Addition:
        number = str(next(self._numbers))
        others = [(process, last) for process, last in kept.last_additions.items() if process != self._process]
        last_additions = dict([*others[1 - MOST_WRITERS :], (self._process, number)])
        return _Addition(number, texts, max(kept.total + texts, 0), kept.revision, last_additions)


async def _kept(jetstream: JetStreamContext, name: str) -> _Kept:
    try:
        message = await jetstream.get_last_msg(QUOTAS_BUCKET.stream, _subject(name))
    except NotFoundError:
        return _Kept(0, 0, {})
    told = (message.headers or {}).get(ADDITIONS) or ""
    pairs = (each.partition("=") for each in told.split(",") if each)
    return _Kept(_count(message.data), message.seq or 0, {process: number for process, _, number in pairs})


async def _make(jetstream: JetStreamContext, name: str, addition: _Addition) -> bool:
    """Return whether the count has the addition; not where it has another revision than that came of."""
    headers = {
        EXPECTED_REVISION: str(addition.revision),
        ADDITIONS: ",".join(f"{process}={number}" for process, number in addition.last_additions.items()),
    }
    try:
        await jetstream.publish(_subject(name), str(addition.total).encode(), headers=headers)
    except APIError as error:
        if error.err_code in WRONG_REVISIONS:
            return False
        raise
    return True


def _subject(name: str) -> str:
    return f"$KV.{QUOTAS_BUCKET.name}.{name}"


def _count(value: bytes | None) -> int:
    text = (value or b"").decode("ascii", "replace")
    return int(text) if text.isdecimal() and len(text) < 16 else 0
