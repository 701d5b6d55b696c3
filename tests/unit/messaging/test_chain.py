"""The chain of the four subscribers in FastStream's in-memory TestBroker: order, routing, ids, refusals."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from faststream.nats import NatsBroker, NatsMessage, TestNatsBroker

from app.contracts import DecideJob, DecisionRecord, Envelope, GuardAnswer, GuardRequest
from app.errors import InvalidRequest
from app.identity import now
from app.log_contracts import MOST_AHEAD
from app.messaging.backbone import Pipeline
from app.messaging.decisions import MemoryDecisions
from app.settings import Settings
from app.telemetry import correlation, logs
from app.telemetry.tracing import ATTRIBUTES
from app.topology import DETECTION_STREAM, DLQ_STREAM, Header
from tests import support
from tests.spans import CALLER, TRACE_ID, id_of, parent_of, recording, trace_of
from tests.support import PlainWorkers, decision_record
from tests.unit.events.records import plain_record

INBOX = "_INBOX.test.1"


@dataclass
class Chain:
    """The pipeline on a TestBroker, with what each stage was given and what left it."""

    broker: NatsBroker
    plain: PlainWorkers
    answers: list[NatsMessage] = field(default_factory=list)
    dead: list[NatsMessage] = field(default_factory=list)

    async def publish(self, body: bytes | dict[str, Any], subject: str = "vigil.guard.input", **headers: str) -> None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        await self.broker.publish(
            raw,
            subject,
            stream=DETECTION_STREAM.name,
            headers={"content-type": "application/json", "reply_to": INBOX, **headers},
        )

    def fail_with(self, failure: Exception) -> None:
        async def fail(_: GuardRequest) -> None:
            raise failure

        self.plain.before_detect = fail


@pytest.fixture
async def chain(settings: Settings) -> AsyncIterator[Chain]:
    plain = PlainWorkers()
    pipeline = Pipeline("nats://unused:4222", plain.workers(), settings, decisions=MemoryDecisions())
    built = Chain(pipeline.broker, plain)

    async def note(message: NatsMessage) -> bytes:
        (built.answers if message.raw_message.subject == INBOX else built.dead).append(message)
        return message.body

    @pipeline.broker.subscriber(INBOX, decoder=note)
    async def answers(body: bytes) -> None:
        """Note what the caller gets."""

    @pipeline.broker.subscriber("vigil.dlq.>", stream=DLQ_STREAM.name, decoder=note)
    async def dead(body: bytes) -> None:
        """Note what the dead-letter queue gets."""

    async with TestNatsBroker(pipeline.broker):
        yield built


async def test_fast_mode_goes_from_detection_to_the_arbiter_to_the_log(chain: Chain) -> None:
    await chain.publish({"text": "hello", "mode": "fast"})
    assert chain.plain.stages == ["detect", "arbitrate", "record"]


async def test_full_mode_scans_for_personal_data_between(chain: Chain) -> None:
    await chain.publish({"text": "hello"})
    assert chain.plain.stages == ["detect", "scan", "arbitrate", "record"]


async def test_the_caller_gets_the_decision_in_the_inbox_of_the_header(chain: Chain) -> None:
    request_id = uuid4()
    await chain.publish({"text": "hello", "request_id": str(request_id)})
    assert [GuardAnswer.model_validate_json(each.body).request_id for each in chain.answers] == [request_id]


async def test_request_id_arrival_and_deadline_reach_the_last_stage(chain: Chain) -> None:
    request_id = uuid4()
    arrival = (now() - timedelta(seconds=1)).isoformat()
    deadline = (now() + timedelta(seconds=4)).isoformat()
    await chain.publish(
        {"text": "hello"},
        **{Header.CORRELATION_ID: str(request_id), Header.RECEIVED_AT: arrival, Header.DEADLINE: deadline},
    )
    envelope: Envelope = chain.plain.envelopes[0]
    assert envelope.request_id == request_id
    assert envelope.received_at.isoformat() == arrival
    assert envelope.deadline is not None
    assert envelope.deadline.isoformat() == deadline


async def test_the_id_of_the_body_wins_over_the_header(chain: Chain) -> None:
    in_body = uuid4()
    await chain.publish({"text": "hello", "request_id": str(in_body)}, **{Header.CORRELATION_ID: str(uuid4())})
    assert chain.plain.envelopes[0].request_id == in_body


@pytest.mark.parametrize("source", ["input", "output", "tool"])
async def test_the_subject_says_what_is_guarded(chain: Chain, source: str) -> None:
    await chain.publish({"text": "hello"}, f"vigil.guard.{source}")
    assert chain.plain.requests[0].source == source


async def test_asynchronous_work_runs_through_the_same_pipeline(chain: Chain) -> None:
    await chain.publish({"text": "hello", "source": "tool"}, "vigil.detection.batch")
    assert chain.plain.stages == ["detect", "scan", "arbitrate", "record"]
    assert chain.plain.requests[0].source == "tool"


async def test_a_repeated_request_id_gets_the_first_decision(chain: Chain) -> None:
    request_id = str(uuid4())
    await chain.publish({"text": "hello", "request_id": request_id})
    await chain.publish({"text": "hello", "request_id": request_id})
    assert chain.answers[0].body == chain.answers[1].body


async def test_what_only_the_caller_may_have_does_not_reach_the_event_log(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(support, "decision_record", with_a_map)
    await chain.publish({"text": "hello", "restorable": True})
    assert [GuardAnswer.model_validate_json(each.body).restore_map for each in chain.answers] == ["v1.sealed"]
    assert [record.answer.restore_map for record in chain.plain.records] == [None]


def with_a_map(job: DecideJob, envelope: Envelope) -> DecisionRecord:
    record = decision_record(job, envelope)
    return record.model_copy(update={"answer": record.answer.model_copy(update={"restore_map": "v1.sealed"})})


async def test_a_dry_run_is_never_the_answer_to_a_request_that_counts(chain: Chain) -> None:
    request_id = str(uuid4())
    await chain.publish({"text": "hello", "request_id": request_id, "dry_run": True})
    await chain.publish({"text": "hello", "request_id": request_id})
    assert json.loads(chain.answers[0].body)["dry_run"] is True
    assert json.loads(chain.answers[1].body)["status"] == 409


async def test_an_old_request_id_with_another_text_gets_no_decision_of_the_first(chain: Chain) -> None:
    """In memory nothing is deduplicated: so it is on a server once the duplicate window is over."""
    request_id = str(uuid4())
    await chain.publish({"text": "harmless", "request_id": request_id})
    await chain.publish({"text": "another text", "request_id": request_id})
    assert json.loads(chain.answers[1].body)["status"] == 409
    assert chain.plain.stages.count("record") == 1


@pytest.mark.parametrize(
    ("body", "subject", "error_type", "status"),
    [
        (b"not json", "vigil.guard.input", "MalformedJson", 400),
        (b'{"text": ""}', "vigil.guard.input", "InvalidRequest", 422),
        (b'{"text": "x"}', "vigil.guard.elsewhere", "InvalidRequest", 422),
        (b'{"text": "x", "source": "tool"}', "vigil.guard.input", "InvalidRequest", 422),
        (b'{"text": "x"}', "vigil.arbiter.decide", "InvalidRequest", 422),
        (b"[]", "vigil.pii.scan", "InvalidRequest", 422),
    ],
)
async def test_what_can_never_succeed_is_dead_lettered_at_once_and_the_caller_is_told(
    chain: Chain, body: bytes, subject: str, error_type: str, status: int
) -> None:
    await chain.publish(body, subject)
    assert chain.plain.stages == []
    assert [each.body for each in chain.dead] == [body]
    headers = chain.dead[0].headers
    assert headers[Header.DEAD_ERROR_TYPE] == error_type
    assert headers[Header.DEAD_SUBJECT] == subject
    assert headers[Header.DEAD_STREAM] == DETECTION_STREAM.name
    assert headers[Header.DEAD_DELIVERIES] == "1"
    assert UUID(headers[Header.CORRELATION_ID])
    assert json.loads(chain.answers[0].body)["status"] == status


async def test_a_log_event_that_cannot_be_read_does_not_hold_up_the_batch(chain: Chain) -> None:
    await chain.publish(b"{}", "vigil.logs.event")
    assert chain.plain.stages == []
    assert chain.dead[0].raw_message.subject == "vigil.dlq.logging-worker"


@pytest.mark.parametrize("name", ["received_at", "decided_at"])
async def test_an_event_of_a_time_to_come_is_dead_lettered_and_one_of_a_clock_that_is_ahead_is_not(
    chain: Chain, name: str
) -> None:
    for ahead in (MOST_AHEAD - timedelta(minutes=1), MOST_AHEAD + timedelta(minutes=1)):
        event = plain_record().model_copy(update={name: now() + ahead})
        await chain.publish(event.model_dump_json().encode(), "vigil.logs.event")
    assert chain.plain.stages.count("record") == 1
    (dead,) = chain.dead
    assert dead.headers[Header.DEAD_ERROR_MESSAGE] == f"{name} is more than a day ahead of the clock"


async def test_a_permanent_error_of_a_worker_is_dead_lettered_with_its_message(chain: Chain) -> None:
    chain.fail_with(InvalidRequest("no such policy", field="policy"))
    await chain.publish({"text": "hello"})
    assert chain.dead[0].headers[Header.DEAD_ERROR_MESSAGE] == "no such policy"
    assert json.loads(chain.answers[0].body)["errors"] == [{"field": "policy", "reason": "no such policy"}]


async def test_a_passing_failure_is_neither_dead_lettered_nor_answered(chain: Chain) -> None:
    chain.fail_with(RuntimeError("the text itself"))
    await chain.publish({"text": "hello"})
    assert chain.dead == []
    assert chain.answers == []


async def test_tenant_and_key_reach_the_record(chain: Chain) -> None:
    await chain.publish({"text": "hello"}, **{Header.TENANT: "acme", Header.KEY_ID: "key1"})
    assert [(each.tenant, each.key_id) for each in chain.plain.records] == [("acme", "key1")]


async def test_each_stage_continues_the_span_of_the_one_before(chain: Chain) -> None:
    with recording() as recorded:
        await chain.publish({"text": "a secret text", "source": "tool"}, "vigil.guard.tool", traceparent=CALLER)
    stages = ["detection-worker", "pii-worker", "arbiter-worker", "logging-worker"]
    spans = [recorded.named(stage) for stage in stages]
    assert {trace_of(span) for span in spans} == {TRACE_ID}
    assert [parent_of(span) for span in spans] == ["b7ad6b7169203331", *map(id_of, spans[:-1])]
    assert [span.attributes["vigil.outcome"] for span in spans] == ["ack"] * 4
    assert {span.attributes["vigil.source"] for span in spans[:3]} == {"tool"}
    decided = dict(spans[2].attributes)
    wanted = {"vigil.mode": "full", "vigil.decision": "ALLOWED", "vigil.score": 1, "vigil.policy": "test"}
    assert wanted.items() <= decided.items()
    assert "secret" not in "".join(span.to_json() for span in spans)
    named = {name for span in spans for name in span.attributes if not name.startswith(("messaging.", "error."))}
    assert named <= ATTRIBUTES


async def test_a_trace_context_is_handed_on_though_nothing_is_traced_here(chain: Chain) -> None:
    await chain.publish({"text": "hello"}, traceparent=CALLER)
    assert [envelope.traceparent for envelope in chain.plain.envelopes] == [CALLER]


async def test_a_dead_letter_keeps_its_trace_and_the_span_says_why(chain: Chain) -> None:
    with recording() as recorded:
        await chain.publish({"text": "hello", "mode": "a secret mode"}, traceparent=CALLER)
    span = recorded.named("detection-worker")
    assert span.attributes["vigil.outcome"] == "dead_letter"
    assert span.attributes["error.type"] == "InvalidRequest"
    assert not span.status.is_ok
    assert span.events == ()
    assert "secret" not in span.to_json()
    assert chain.dead[0].headers[Header.TRACEPARENT] == CALLER


async def test_every_log_line_of_a_delivery_carries_request_and_trace(
    chain: Chain, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("vigil"), "propagate", True)
    caplog.handler.setFormatter(logs.JsonLines())
    request_id = str(uuid4())

    async def mention(_: GuardRequest) -> None:
        logging.getLogger("vigil.test").info("a handler's own line")
        raise InvalidRequest("no such policy", field="policy")

    chain.plain.before_detect = mention
    with caplog.at_level(logging.INFO):
        await chain.publish({"text": "hello", "request_id": request_id}, traceparent=CALLER)
    lines = [json.loads(line) for line in caplog.text.splitlines()]
    assert {line["message"] for line in lines} >= {
        "a handler's own line",
        "moved to the dead-letter queue: no such policy",
    }
    assert {(line["request_id"], line["trace_id"]) for line in lines} == {(request_id, TRACE_ID)}
    assert correlation.current() is None
