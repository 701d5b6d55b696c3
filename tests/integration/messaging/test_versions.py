"""Replicas of two versions side by side: what a later one wrote, with a field that this one does not know."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest

from app.contracts import (
    BranchName,
    BranchResult,
    DecideJob,
    DetectionReport,
    Envelope,
    GuardAnswer,
    GuardedText,
    GuardRequest,
    Message,
    Mode,
    PiiReport,
    Source,
)
from app.identity import new_request_id, now, text_digest
from app.messaging import envelope as envelopes
from app.messaging import subscribers
from app.topology import DECISIONS_BUCKET, Header, Subject
from app.validation import MessageType, parse, parse_job
from tests.integration.messaging.conftest import Running
from tests.support import decision_record, eventually

pytestmark = pytest.mark.integration

JOB = DecideJob(
    subject=GuardedText(digest=text_digest("hello"), length=5, mode=Mode.FULL, source=Source.INPUT),
    detection=DetectionReport(
        branches={BranchName.HEURISTICS: BranchResult(score=1, confidence=1)}, model_version="test"
    ),
    pii=PiiReport(scanned=True),
    redacted_text=None,
)


def later(message: Message) -> dict[str, Any]:
    """Return a message as a later version might write it."""
    content: dict[str, Any] = json.loads(message.model_dump_json())
    return content | {"added": {"of": "a later version"}}


async def publish_job(running: Running, *, reply_to: str | None = None) -> bytes:
    envelope = Envelope(request_id=new_request_id(), received_at=now(), reply_to=reply_to)
    content = later(JOB)
    content["detection"] = later(JOB.detection)
    payload = json.dumps(content).encode()
    headers = envelopes.to_headers(envelope, envelopes.message_id(envelope, Subject.ARBITER_DECIDE))
    await running.jetstream.publish(Subject.ARBITER_DECIDE, payload, headers=headers)
    return payload


async def test_a_job_with_an_unknown_field_waits_for_a_replica_that_knows_it(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0

    def known_at_the_second_try(model: type[MessageType], body: bytes, *, text_limit: int) -> MessageType:
        nonlocal tries
        tries += 1
        return (
            parse_job(model, body, text_limit=text_limit)
            if tries == 1
            else parse(model, body, text_limit=text_limit, extra="ignore")
        )

    monkeypatch.setattr(subscribers, "parse_job", known_at_the_second_try)
    inbox = running.client.new_inbox()
    replies = await running.client.subscribe(inbox)
    await publish_job(running, reply_to=inbox)
    assert GuardAnswer.model_validate_json((await replies.next_msg(5)).data).decision == "ALLOWED"
    assert tries == 2
    assert await running.dead_letters() == 0


async def test_a_job_with_a_field_that_no_replica_knows_is_a_dead_letter_after_its_deliveries(running: Running) -> None:
    payload = await publish_job(running)
    await eventually(running.idle)
    dead = await running.jetstream.get_last_msg("VIGIL_DLQ", "vigil.dlq.arbiter-worker")
    assert dead.data == payload
    headers = dead.headers or {}
    assert (headers[Header.DEAD_ERROR_TYPE], headers[Header.DEAD_DELIVERIES]) == ("UnknownField", "3")
    assert running.plain.stages == []


async def test_a_request_with_an_unknown_field_is_refused_at_once(running: Running) -> None:
    await running.jetstream.publish(Subject.GUARD_INPUT, b'{"text": "hello", "added": 1}')
    await eventually(running.idle)
    dead = await running.jetstream.get_last_msg("VIGIL_DLQ", "vigil.dlq.detection-worker")
    headers = dead.headers or {}
    assert (headers[Header.DEAD_ERROR_TYPE], headers[Header.DEAD_DELIVERIES]) == ("InvalidRequest", "1")


async def test_a_decision_that_a_later_version_kept_is_given_again(running: Running) -> None:
    request = GuardRequest(text="hello", request_id=uuid4())
    first = await running.gateway.guard(request)
    record = await running.backbone.decisions.find(request.request_id or uuid4())
    assert record is not None
    content = later(record)
    content["answer"] = later(record.answer)
    bucket = await running.jetstream.key_value(DECISIONS_BUCKET.name)
    await bucket.put(str(request.request_id), json.dumps(content).encode())
    assert await running.gateway.guard(request) == first


async def test_a_row_that_a_later_version_wrote_is_kept(running: Running) -> None:
    envelope = Envelope(request_id=new_request_id(), received_at=now())
    record = decision_record(JOB, envelope)
    content = later(record)
    content["answer"] = later(record.answer)
    await running.jetstream.publish(Subject.LOGS_EVENT, json.dumps(content).encode())
    await eventually(running.idle)
    assert running.plain.records == [record]
    assert await running.dead_letters() == 0
