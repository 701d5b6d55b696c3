"""All messages that a stream holds, oldest first, whatever its retention."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import uuid4

from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, RetentionPolicy
from nats.js.errors import NotFoundError

from app.identity import now

FETCH: Final = 256
FETCH_WAIT_S: Final = 5.0
IDLE_S: Final = 30.0
"""Seconds after which the server forgets the consumer of a read that broke off."""
WALKERS: Final = 8
"""Readers of a work queue side by side: each asks for one message after the other."""
WALK: Final = 128
"""Sequences that each of them takes at a time: a work queue of 10 GB is not read as a whole."""


@dataclass(frozen=True, slots=True)
class StoredMessage:
    sequence: int
    subject: str
    headers: Mapping[str, str]
    payload: bytes
    stored_at: datetime


async def stored_messages(jetstream: JetStreamContext, stream: str) -> AsyncIterator[StoredMessage]:
    """Return what the stream holds now; nothing is consumed, and what comes while this runs may be left out.

    Raises:
        nats.js.errors.NotFoundError: there is no such stream.
        nats.errors.Error, TimeoutError: the server cannot be asked.
    """
    info = await jetstream.stream_info(stream)
    state = info.state
    if not state.messages:
        return
    if info.config.retention == RetentionPolicy.WORK_QUEUE:
        # A second consumer of what the workers consume is refused.
        first: int | None = state.first_seq
        while first is not None and first <= state.last_seq:
            starts = range(first, first + WALKERS * WALK, WALK)
            walks = await asyncio.gather(*(_walked(jetstream, stream, start, start + WALK) for start in starts))
            for found, _ in walks:
                for message in found:
                    yield message
            first = walks[-1][1]
        return
    async for message in _consumed(jetstream, stream, state.last_seq):
        yield message


async def _walked(
    jetstream: JetStreamContext, stream: str, first: int, end: int
) -> tuple[list[StoredMessage], int | None]:
    """Return what is stored from one sequence to another, and the sequence of the next message; None after the last."""
    found: list[StoredMessage] = []
    sequence = first
    while True:
        try:
            raw = await jetstream.get_msg(stream, seq=sequence, subject=">", next=True)
        except NotFoundError:
            return found, None
        sequence = raw.seq or 0
        if sequence >= end:
            return found, sequence
        found.append(StoredMessage(sequence, raw.subject or "", raw.headers or {}, raw.data or b"", raw.time or now()))
        sequence += 1


async def _consumed(jetstream: JetStreamContext, stream: str, last: int) -> AsyncIterator[StoredMessage]:
    config = ConsumerConfig(
        name=f"vigil-read-{uuid4().hex}",
        deliver_policy=DeliverPolicy.ALL,
        ack_policy=AckPolicy.NONE,
        mem_storage=True,
        inactive_threshold=IDLE_S,
    )
    pending = (await jetstream.add_consumer(stream, config)).num_pending or 0
    reader = await jetstream.pull_subscribe_bind(consumer=config.name, stream=stream)
    try:
        while pending:
            for message in await reader.fetch(min(FETCH, pending), timeout=FETCH_WAIT_S):
                pending = message.metadata.num_pending
                sequence = message.metadata.sequence.stream
                if sequence > last:
                    return
                yield StoredMessage(
                    sequence, message.subject, message.headers or {}, message.data, message.metadata.timestamp
                )
    finally:
        await reader.unsubscribe()
        await jetstream.delete_consumer(stream, config.name or "")
