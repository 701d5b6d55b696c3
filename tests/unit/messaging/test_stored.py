"""Reading a work queue: every message once and in order, and never all of them at the same time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from nats.js.api import RetentionPolicy
from nats.js.errors import NotFoundError

from app.identity import now
from app.messaging.stored import WALK, WALKERS, stored_messages


class WorkQueue:
    """A stream that holds messages at some sequences."""

    def __init__(self, sequences: list[int]) -> None:
        self.sequences = sequences
        self.asked = 0

    async def stream_info(self, name: str) -> SimpleNamespace:
        held = self.sequences or [0]
        state = SimpleNamespace(messages=len(self.sequences), first_seq=held[0], last_seq=held[-1])
        return SimpleNamespace(state=state, config=SimpleNamespace(retention=RetentionPolicy.WORK_QUEUE))

    async def get_msg(self, stream: str, *, seq: int, **_: object) -> SimpleNamespace:
        self.asked += 1
        for sequence in self.sequences:
            if sequence >= seq:
                return SimpleNamespace(seq=sequence, subject="vigil.guard.input", headers=None, data=b"", time=now())
        raise NotFoundError


SPARSE = [7, 8, 300, 10_000_000, 10_000_001]


@pytest.mark.parametrize("sequences", [[], [1], list(range(5, 900)), list(range(1, 900, 3)), SPARSE])
async def test_every_message_is_found_once_and_in_order(sequences: list[int]) -> None:
    stream: Any = WorkQueue(sequences)
    assert [message.sequence async for message in stored_messages(stream, "VIGIL_DETECTION")] == sequences


async def test_gaps_are_stepped_over() -> None:
    stream: Any = WorkQueue(SPARSE)
    assert len([message async for message in stored_messages(stream, "VIGIL_DETECTION")]) == len(SPARSE)
    assert stream.asked < 100


async def test_a_long_queue_is_not_held_at_once() -> None:
    stream: Any = WorkQueue(list(range(1, 5_000)))
    reading = stored_messages(stream, "VIGIL_DETECTION")
    await anext(reading)
    assert stream.asked <= WALKERS * (WALK + 1)
