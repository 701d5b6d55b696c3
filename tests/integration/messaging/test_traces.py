"""Traces across a real server: redeliveries, batches, dead letters and what is published again from there."""

from __future__ import annotations

import json

import pytest

from app.contracts import GuardRequest, Mode, Source, Verdict
from app.identity import new_request_id, now
from app.log_contracts import FeedbackRecord, FeedbackVerdict
from app.messaging.dead_letter_queue import DeadLetterEntry, replay_headers
from app.telemetry import correlation
from app.telemetry.correlation import Correlation
from app.topology import Header
from tests.integration.messaging.conftest import Running
from tests.spans import CALLER, TRACE_ID, parent_of, recording, trace_of
from tests.support import eventually

pytestmark = pytest.mark.integration


async def test_a_redelivery_is_a_span_of_the_same_parent(running: Running) -> None:
    tries = 0

    async def fail_once(_: GuardRequest) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise RuntimeError("a secret text")

    running.plain.before_detect = fail_once
    with recording() as recorded:
        body, headers = b'{"text": "hello"}', {"traceparent": CALLER}
        await running.client.request("vigil.api.guard", body, headers=headers, timeout=10)
        await eventually(running.idle)
    root = recorded.named("vigil.api.guard")
    first, second = (span for span in recorded.spans if span.name == "detection-worker")
    assert parent_of(root) == "b7ad6b7169203331"
    assert parent_of(first) == parent_of(second)
    assert {trace_of(span) for span in recorded.spans} == {TRACE_ID}
    assert [span.attributes["vigil.outcome"] for span in (first, second)] == ["retry", "ack"]
    assert [span.attributes["vigil.deliveries"] for span in (first, second)] == [1, 2]
    assert first.attributes["error.type"] == "RuntimeError"
    assert "secret" not in "".join(span.to_json() for span in recorded.spans)


async def test_each_record_of_a_batch_ends_its_own_trace(running: Running) -> None:
    other = CALLER.replace(TRACE_ID, TRACE_ID[::-1])
    with recording() as recorded:
        for traceparent in (CALLER, other):
            headers = {"traceparent": traceparent, "Nats-Msg-Id": traceparent}
            await running.jetstream.publish("vigil.guard.input", b'{"text": "hello", "mode": "fast"}', headers=headers)
        await eventually(running.idle)
    logged = [span for span in recorded.spans if span.name == "logging-worker"]
    decided = [span for span in recorded.spans if span.name == "arbiter-worker"]
    assert {trace_of(span) for span in logged} == {TRACE_ID, TRACE_ID[::-1]}
    assert {parent_of(span) for span in logged} == {f"{span.context.span_id:016x}" for span in decided}


async def test_a_report_stays_in_the_trace_of_who_gives_it(running: Running) -> None:
    report = FeedbackRecord(
        feedback_id=new_request_id(),
        request_id=new_request_id(),
        given_at=now(),
        verdict=FeedbackVerdict.CORRECT,
        decision=Verdict.ALLOWED,
        score=0,
        mode=Mode.FAST,
        source=Source.INPUT,
        policy="balanced",
        text_digest="ab" * 32,
    )
    token = correlation.begin(Correlation(traceparent=CALLER))
    with recording() as recorded:
        await running.backbone.keep_feedback(report)
        await eventually(running.idle)
    correlation.end(token)
    assert trace_of(recorded.named("logging-worker")) == TRACE_ID


async def test_a_dead_letter_and_its_replay_stay_in_the_trace(running: Running) -> None:
    poison = json.dumps({"text": "", "request_id": str(new_request_id())}).encode()
    await running.jetstream.publish("vigil.guard.input", poison, headers={"traceparent": CALLER})
    await eventually(running.idle)
    dead = await running.jetstream.get_last_msg("VIGIL_DLQ", "vigil.dlq.detection-worker")
    headers = dict(dead.headers or {})
    assert headers[Header.TRACEPARENT] == CALLER
    assert dead.time is not None
    entry = DeadLetterEntry(1, dead.time, "detection-worker", "", "", "vigil.guard.input", 1, None, 0, headers)
    assert replay_headers(entry)[Header.TRACEPARENT] == CALLER
