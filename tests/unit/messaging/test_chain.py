"""The chain of the four subscribers in FastStream's in-memory TestBroker: order, routing, ids, refusals."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import pytest
from faststream.nats import NatsBroker, NatsMessage, TestNatsBroker

from app.contracts import (
    BranchName,
    BranchResult,
    DecideJob,
    DecisionRecord,
    DetectionReport,
    Envelope,
    GuardAnswer,
    GuardedText,
    GuardRequest,
    Mode,
    PiiReport,
    ScanJob,
    ThreatLevel,
    Verdict,
)
from app.errors import InvalidRequest
from app.identity import now, text_digest
from app.messaging.backbone import Pipeline
from app.messaging.decisions import MemoryDecisions
from app.messaging.subscribers import Workers
from app.settings import Settings
from app.topology import DETECTION_STREAM, DLQ_STREAM, Header

INBOX = "_INBOX.test.1"


@dataclass
class Chain:
    """The pipeline on a TestBroker, with what each stage was given and what left it."""

    broker: NatsBroker
    stages: list[tuple[str, Any]] = field(default_factory=list)
    answers: list[NatsMessage] = field(default_factory=list)
    dead: list[NatsMessage] = field(default_factory=list)
    failure: Exception | None = None

    async def publish(self, body: bytes | dict[str, Any], subject: str = "vigil.guard.input", **headers: str) -> None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        await self.broker.publish(
            raw,
            subject,
            stream=DETECTION_STREAM.name,
            headers={"content-type": "application/json", "reply_to": INBOX, **headers},
        )

    @property
    def order(self) -> list[str]:
        return [name for name, _ in self.stages]


@pytest.fixture
async def chain(settings: Settings) -> AsyncIterator[Chain]:
    async def detect(request: GuardRequest, envelope: Envelope) -> ScanJob | DecideJob:
        built.stages.append(("detect", (request, envelope)))
        if built.failure is not None:
            raise built.failure
        subject = GuardedText(
            digest=text_digest(request.text), length=len(request.text), mode=request.mode, source=request.source
        )
        report = DetectionReport(
            branches={BranchName.HEURISTICS: BranchResult(score=1, confidence=1)}, model_version="test"
        )
        if request.mode is Mode.FULL:
            return ScanJob(
                text=request.text, language=None, allow_list=request.allow_list, subject=subject, detection=report
            )
        return DecideJob(subject=subject, detection=report, pii=PiiReport(), redacted_text=None)

    async def scan(job: ScanJob) -> DecideJob:
        built.stages.append(("scan", job))
        return DecideJob(
            subject=job.subject, detection=job.detection, pii=PiiReport(scanned=True), redacted_text=job.text
        )

    def arbitrate(job: DecideJob, envelope: Envelope) -> DecisionRecord:
        built.stages.append(("arbitrate", (job, envelope)))
        return record_of(job, envelope)

    async def record(records: list[DecisionRecord]) -> None:
        built.stages.append(("record", records))

    pipeline = Pipeline(
        "nats://unused:4222", Workers(detect, scan, arbitrate, record), settings, decisions=MemoryDecisions()
    )
    built = Chain(pipeline.broker)

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


def record_of(job: DecideJob, envelope: Envelope) -> DecisionRecord:
    return DecisionRecord(
        answer=GuardAnswer(
            request_id=envelope.request_id,
            decision=Verdict.ALLOWED,
            score=1,
            threat_level=ThreatLevel.LOW,
            categories=[],
            explanations=[],
            branches=job.detection.branches,
            findings=[],
            boosts=[],
            pii=job.pii,
            sanitized_text=None,
            mode=job.subject.mode,
            source=job.subject.source,
            policy="test",
            latency_ms=1,
            model_version=job.detection.model_version,
        ),
        received_at=envelope.received_at,
        decided_at=now(),
        text_digest=job.subject.digest,
        text_length=job.subject.length,
        redacted_text=job.redacted_text,
        metadata={},
    )


async def test_fast_mode_goes_from_detection_to_the_arbiter_to_the_log(chain: Chain) -> None:
    await chain.publish({"text": "hello", "mode": "fast"})
    assert chain.order == ["detect", "arbitrate", "record"]


async def test_full_mode_scans_for_personal_data_between(chain: Chain) -> None:
    await chain.publish({"text": "hello"})
    assert chain.order == ["detect", "scan", "arbitrate", "record"]


async def test_the_caller_gets_the_decision_in_the_inbox_of_the_header(chain: Chain) -> None:
    request_id = uuid4()
    await chain.publish({"text": "hello", "request_id": str(request_id)})
    assert [GuardAnswer.model_validate_json(each.body).request_id for each in chain.answers] == [request_id]


async def test_request_id_arrival_and_deadline_reach_the_last_stage(chain: Chain) -> None:
    request_id = uuid4()
    arrival, deadline = "2026-05-01T12:00:00+00:00", "2026-05-01T12:00:05+00:00"
    await chain.publish(
        {"text": "hello"},
        **{Header.CORRELATION_ID: str(request_id), Header.RECEIVED_AT: arrival, Header.DEADLINE: deadline},
    )
    envelope: Envelope = dict(chain.stages)["arbitrate"][1]
    assert envelope.request_id == request_id
    assert envelope.received_at.isoformat() == arrival
    assert envelope.deadline is not None
    assert envelope.deadline.isoformat() == deadline


async def test_the_id_of_the_body_wins_over_the_header(chain: Chain) -> None:
    in_body = uuid4()
    await chain.publish({"text": "hello", "request_id": str(in_body)}, **{Header.CORRELATION_ID: str(uuid4())})
    assert dict(chain.stages)["arbitrate"][1].request_id == in_body


@pytest.mark.parametrize("source", ["input", "output", "tool"])
async def test_the_subject_says_what_is_guarded(chain: Chain, source: str) -> None:
    await chain.publish({"text": "hello"}, f"vigil.guard.{source}")
    assert dict(chain.stages)["detect"][0].source == source


async def test_asynchronous_work_runs_through_the_same_pipeline(chain: Chain) -> None:
    await chain.publish({"text": "hello", "source": "tool"}, "vigil.detection.batch")
    assert chain.order == ["detect", "scan", "arbitrate", "record"]
    assert dict(chain.stages)["detect"][0].source == "tool"


async def test_a_repeated_request_id_gets_the_first_decision(chain: Chain) -> None:
    request_id = str(uuid4())
    await chain.publish({"text": "hello", "request_id": request_id})
    await chain.publish({"text": "hello", "request_id": request_id})
    assert chain.answers[0].body == chain.answers[1].body


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
    assert chain.stages == []
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
    assert chain.order == []
    assert chain.dead[0].raw_message.subject == "vigil.dlq.logging-worker"


async def test_a_permanent_error_of_a_worker_is_dead_lettered_with_its_message(chain: Chain) -> None:
    chain.failure = InvalidRequest("no such policy", field="policy")
    await chain.publish({"text": "hello"})
    assert chain.dead[0].headers[Header.DEAD_ERROR_MESSAGE] == "no such policy"
    assert json.loads(chain.answers[0].body)["errors"] == [{"field": "policy", "reason": "no such policy"}]


async def test_a_passing_failure_is_neither_dead_lettered_nor_answered(chain: Chain) -> None:
    chain.failure = RuntimeError("the text itself")
    await chain.publish({"text": "hello"})
    assert chain.dead == []
    assert chain.answers == []
