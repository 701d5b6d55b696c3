"""Repeats of a request that is under way wait for its decision; how many may wait is bounded."""

from __future__ import annotations

import asyncio
import json
from contextlib import nullcontext
from typing import Any

import pytest

from app.contracts import DecideJob, DetectionReport, Envelope, GuardedText, Mode, PiiReport, Source, Verdict
from app.errors import RequestExpired, RequestIdConflict, VigilError
from app.identity import new_request_id, now
from app.messaging import subscribers
from app.messaging.decisions import MemoryDecisions, check_repeat
from app.messaging.subscribers import Latecomers
from tests.support import decision_record


def subject(*, dry_run: bool = False) -> GuardedText:
    return GuardedText(digest="digest", length=5, mode=Mode.FAST, source=Source.INPUT, dry_run=dry_run)


async def test_no_more_repeats_wait_than_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscribers, "LATECOMERS", 2)
    broker: Any = None  # Nothing is answered here.
    latecomers = Latecomers(broker, MemoryDecisions(), timeout_s=60)
    envelope = Envelope(request_id=new_request_id(), received_at=now(), reply_to="_INBOX.a")
    for _ in range(5):
        latecomers.answer_later(envelope, subject())
    waiting = list(latecomers._tasks)
    assert len(waiting) == 2
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    latecomers.answer_later(envelope, subject())
    assert len(latecomers._tasks) == 1
    for task in latecomers._tasks:
        task.cancel()


@pytest.mark.parametrize("first", [True, False])
async def test_a_repeat_gets_no_decision_of_a_dry_run_nor_a_dry_run_one_that_counts(*, first: bool) -> None:
    sent: list[bytes] = []

    class Broker:
        async def publish(self, body: bytes, *_: Any, **__: Any) -> None:
            sent.append(body)

    broker: Any = Broker()
    decisions = MemoryDecisions()
    latecomers = Latecomers(broker, decisions, timeout_s=60)
    envelope = Envelope(request_id=new_request_id(), received_at=now(), reply_to="_INBOX.a")
    detection = DetectionReport(branches={}, model_version="test")
    job = DecideJob(subject=subject(dry_run=first), detection=detection, pii=PiiReport(), redacted_text=None)
    await decisions.keep_first(decision_record(job, envelope))
    for repeat in (not first, first):
        latecomers.answer_later(envelope, subject(dry_run=repeat))
        await asyncio.gather(*latecomers._tasks)
    refused, answered = map(json.loads, sent)
    assert refused["type"].endswith("request-id-conflict")
    assert answered["dry_run"] is first


@pytest.mark.parametrize(
    ("first", "repeat", "refused"),
    [
        ({}, {}, None),
        ({}, {"tenant": "acme"}, RequestIdConflict),
        ({}, {"digest": "other"}, RequestIdConflict),
        ({}, {"dry_run": True}, RequestIdConflict),
        ({"decision": Verdict.EXPIRED}, {"digest": "other"}, RequestExpired),
        ({"decision": Verdict.EXPIRED}, {"tenant": "acme"}, RequestIdConflict),
    ],
)
def test_what_a_repeat_is_told(first: dict[str, Any], repeat: dict[str, Any], refused: type[VigilError] | None) -> None:
    """An expired id is free for another text, and of another tenant's nothing is told."""
    envelope = Envelope(request_id=new_request_id(), received_at=now())
    detection = DetectionReport(branches={}, model_version="test")
    job = DecideJob(subject=subject(), detection=detection, pii=PiiReport(), redacted_text=None)
    record = decision_record(job, envelope)
    record = record.model_copy(update={"answer": record.answer.model_copy(update=first)})
    asked: dict[str, Any] = {"tenant": record.tenant, "digest": "digest", "dry_run": False, **repeat}
    with pytest.raises(refused) if refused is not None else nullcontext():
        check_repeat(record, **asked)
