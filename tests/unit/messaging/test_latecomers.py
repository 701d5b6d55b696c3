"""Repeats of a request that is under way wait for its decision; how many may wait is bounded."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from app.contracts import Envelope
from app.identity import new_request_id, now
from app.messaging import subscribers
from app.messaging.decisions import MemoryDecisions
from app.messaging.subscribers import Latecomers


async def test_no_more_repeats_wait_than_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscribers, "LATECOMERS", 2)
    broker: Any = None  # Nothing is answered here.
    latecomers = Latecomers(broker, MemoryDecisions(), timeout_s=60)
    envelope = Envelope(request_id=new_request_id(), received_at=now(), reply_to="_INBOX.a")
    for _ in range(5):
        latecomers.answer_later(envelope, "digest")
    waiting = list(latecomers._tasks)
    assert len(waiting) == 2
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    latecomers.answer_later(envelope, "digest")
    assert len(latecomers._tasks) == 1
    for task in latecomers._tasks:
        task.cancel()
