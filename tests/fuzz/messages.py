"""Sends mutated messages to a running service and accounts for each: decided, dead-lettered, refused, or answered."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import asdict, dataclass
from typing import Any

import nats
from nats.js import JetStreamContext

from app.topology import DETECTION_STREAM, DLQ_STREAM, Header
from tests.fuzz.mutations import message, request_id
from tests.fuzz.wire_client import WireClient
from tests.running_service import RunningService

AHEAD = 2000
"""Most messages whose outcome is outstanding: a queue of everything would only be deeper."""
STALLED_S = 150.0
"""A queue that does not shrink for so long is not worked on; what lost its worker comes again after 30 s."""


@dataclass(frozen=True, slots=True)
class Account:
    """What became of the messages of one run."""

    sent: int
    refused: int
    """By the server: no stream takes the subject, or it does not allow a header."""
    repeated: int
    answered: int
    """By a micro service."""
    forged: int
    """Asked a micro service to answer where no inbox is."""
    stored: int
    """Taken by the work queue."""
    dead: int
    decided: int
    unaccounted: tuple[int, ...]
    """Numbers of those that were stored and are neither."""
    left: int
    """Messages still in the work queue."""
    reconnects: int
    seconds: float

    def lines(self) -> list[str]:
        shown = asdict(self) | {"unaccounted": f"{len(self.unaccounted)} {self.unaccounted[:20]}"}
        return [f"{name:14} {value}" for name, value in shown.items()]


async def run(service: RunningService, count: int, seed: int) -> Account:
    """Send `count` messages, wait for the last and stop the service, whose event log is then read."""
    started = time.monotonic()
    client = await WireClient.connect(service.nats_url)
    forged = 0
    for number in range(count):
        mutated = message(number, seed)
        forged += mutated.reply is not None
        client.send(number, mutated)
        if number % 100 == 0:
            await client.drain()
            await client.settled(at_least=number - forged - AHEAD, within_s=30)
        assert not client.closed.is_set(), client.errors
    await client.drain()
    await client.settled(at_least=count - forged, within_s=30)
    assert not client.closed.is_set(), client.errors
    connection = await nats.connect(service.nats_url)
    try:
        jetstream = connection.jetstream()
        left = await _settled(jetstream)
        dead = await _dead(jetstream)
    finally:
        await connection.close()
        await client.close()
    assert service.process is not None
    assert service.process.poll() is None, "the process died"
    assert service.stop() == 0
    rows = service.rows()
    outcomes = client.outcomes
    undead = {number for number, (_, sequence) in outcomes.stored.items() if sequence not in dead}
    decided = {number for number in undead if request_id(message(number, seed)) in rows}
    return Account(
        sent=count,
        refused=len(outcomes.refused),
        repeated=len(outcomes.repeated),
        answered=len(outcomes.answered),
        forged=forged,
        stored=len(outcomes.stored),
        dead=len(outcomes.stored) - len(undead),
        decided=len(decided),
        unaccounted=tuple(sorted(undead - decided)),
        left=left,
        reconnects=service.log.count("vigil.nats: reconnected"),
        seconds=round(time.monotonic() - started, 1),
    )


async def _settled(jetstream: JetStreamContext) -> int:
    """Wait until the work queue is empty, or shrinks no more; return how many messages stay."""
    fewest, until = math.inf, time.monotonic() + STALLED_S
    while True:
        left = (await jetstream.stream_info(DETECTION_STREAM.name)).state.messages
        if left < fewest:
            fewest, until = left, time.monotonic() + STALLED_S
        if not left or time.monotonic() > until:
            return left
        await asyncio.sleep(0.1)


async def _dead(jetstream: JetStreamContext) -> set[int]:
    """Return the original sequences of all dead letters."""
    state = (await jetstream.stream_info(DLQ_STREAM.name)).state
    found: set[int] = set()
    if not state.messages:
        return found
    subscription = await jetstream.subscribe("vigil.dlq.>", ordered_consumer=True, stream=DLQ_STREAM.name)
    for _ in range(state.messages):
        letter = await subscription.next_msg(timeout=5)
        headers: dict[str, Any] = letter.headers or {}
        found.add(int(headers[Header.DEAD_SEQUENCE]))
    return found
