"""What a replica of a later version says beyond this one's fields breaks nothing that only reads it."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest
from nats.micro.request import ERROR_CODE_HEADER

from app.access.rates import RateLedger, UsageReport
from app.admin_contracts import AuditEvent
from app.chat import ChatMessage, Role
from app.contracts import (
    BranchName,
    BranchResult,
    DecideJob,
    GuardAnswer,
    Message,
    MessageVerdict,
    Problem,
    ThreatLevel,
    Verdict,
)
from app.errors import EventLogUnavailable, InvalidRequest, Overloaded, RateLimited, UnknownField, UnknownOrder
from app.identity import now
from app.log_contracts import (
    Answer,
    EventDetail,
    EventPage,
    EventQuery,
    EventQuestion,
    FeedbackPage,
    FeedbackQuery,
    ForgetKind,
    ForgetOrder,
    Question,
    Stats,
    StatsGroup,
    StatsQuery,
)
from app.messaging import audit, chats
from app.messaging.forgetting import Orders
from app.messaging.inbox import ReplyInbox
from app.messaging.questions import RemoteArchive
from app.messaging.usage import UsageExchange
from app.problems import MEDIA_TYPE, to_problem
from app.topology import Header
from app.validation import parse_job
from tests.unit.events.records import plain_record


def later(message: Message) -> bytes:
    return json.dumps(json.loads(message.model_dump_json()) | {"added": [1]}).encode()


async def test_a_problem_in_place_of_an_answer() -> None:
    inbox = ReplyInbox()
    inbox._prefix = "_INBOX.test"
    subject, reply = inbox.expect()
    problem = to_problem(RateLimited())
    message = SimpleNamespace(subject=subject, headers={Header.CONTENT_TYPE: MEDIA_TYPE}, data=later(problem))
    await inbox._on_reply(cast("Any", message))
    assert cast("Problem", await reply) == problem


async def test_a_report_of_usage() -> None:
    heard: list[UsageReport] = []
    ledger = cast("RateLedger", SimpleNamespace(absorb=heard.append))
    report = UsageReport(process="0" * 32, spent={})
    await UsageExchange(ledger)._hear(cast("Any", SimpleNamespace(data=later(report))))
    assert heard == [report]


def archive_that_answers(content: bytes, headers: dict[str, str] | None = None) -> RemoteArchive:
    async def request(*_: Any, **__: Any) -> SimpleNamespace:
        return SimpleNamespace(data=content, headers=headers)

    return RemoteArchive(cast("Any", SimpleNamespace(request=request)), query_timeout_s=1.0)


RECORD = plain_record()
STATS = Stats(
    since=now(),
    before=now(),
    bucket_s=60,
    by=StatsGroup.DECISION,
    total=0,
    latency_ms=None,
    starts=[],
    series=[],
)
ANSWERS: list[tuple[Question, Answer]] = [
    (EventQuery(), EventPage(events=[])),
    (EventQuestion(request_id=UUID(int=7)), EventDetail(record=RECORD, feedback=[])),
    (StatsQuery(), STATS),
    (FeedbackQuery(), FeedbackPage(reports=[])),
]


@pytest.mark.parametrize(("question", "answer"), ANSWERS, ids=[type(question).__name__ for question, _ in ANSWERS])
async def test_an_answer_from_the_event_log(question: Question, answer: Answer) -> None:
    content = json.loads(later(answer))
    if isinstance(answer, EventDetail):
        content["record"] = json.loads(later(answer.record))
    told = await archive_that_answers(json.dumps(content).encode())._ask(question, type(answer))
    assert told.model_dump_json() == answer.model_dump_json()


async def test_a_decision_from_the_event_log_keeps_what_its_caller_wrote() -> None:
    part = {"type": "text", "text": "call <PERSON_1>", "cache_control": {"type": "ephemeral"}}
    message = ChatMessage.model_validate({"role": "user", "content": [part]})
    chat = RECORD.answer.model_copy(update={"sanitized_messages": [message]})
    content = json.loads(later(RECORD)) | {"answer": json.loads(later(chat))}
    found = await archive_that_answers(json.dumps(content).encode()).find(RECORD.answer.request_id)
    assert found is not None
    answer = json.loads(found.answer.model_dump_json())
    assert "added" not in answer
    assert answer["sanitized_messages"][0]["content"] == [part]


async def test_a_refusal_from_the_event_log() -> None:
    problem = to_problem(Overloaded())
    archive = archive_that_answers(later(problem), {ERROR_CODE_HEADER: str(problem.status)})
    with pytest.raises(Overloaded):
        await archive.events(EventQuery())


async def test_an_answer_that_cannot_be_read_is_told_as_an_event_log_that_is_away() -> None:
    for answer in (archive_that_answers(b"{}").find(UUID(int=7)), archive_that_answers(b"{}").events(EventQuery())):
        with pytest.raises(EventLogUnavailable, match="cannot be read"):
            await answer


@pytest.mark.parametrize("kind", [ForgetKind.TENANT, "of a later version"])
async def test_an_order_to_forget(kind: str) -> None:
    order = ForgetOrder(forget_id=UUID(int=7), kind=ForgetKind.TENANT, salt="", fingerprint="", asked_at=now())
    kept = json.dumps(json.loads(later(order)) | {"kind": kind}).encode()

    async def get(_: str) -> SimpleNamespace:
        return SimpleNamespace(value=kept)

    async def key_value(_: str) -> SimpleNamespace:
        return SimpleNamespace(get=get)

    orders = Orders()
    orders.jetstream = cast("Any", SimpleNamespace(key_value=key_value))
    if kind == order.kind:
        assert await orders.find(order.forget_id) == order
    else:
        with pytest.raises(UnknownOrder):
            await orders.find(order.forget_id)


def test_an_entry_of_the_audit_record() -> None:
    event = AuditEvent(actor="a", action="keys.create")
    stored = SimpleNamespace(sequence=SimpleNamespace(stream=1), timestamp=plain_record().decided_at)
    message = SimpleNamespace(data=later(event), subject="vigil.audit.keys.create", metadata=stored)
    assert audit._entry(cast("Any", message)).action == "keys.create"


def test_an_answer_to_a_chat_keeps_what_its_caller_wrote() -> None:
    part = {"type": "text", "text": "call <PERSON_1>", "cache_control": {"type": "ephemeral"}}
    verdict = MessageVerdict(
        index=0,
        role=Role.USER,
        judged=True,
        decision=Verdict.SANITIZED,
        score=1,
        threat_level=ThreatLevel.LOW,
        categories=[],
        findings=[],
        sanitized_content=cast("Any", [part]),
    )
    answer = plain_record().answer.model_copy(update={"decision": Verdict.SANITIZED, "messages": [verdict]})
    message = ChatMessage.model_validate({"role": "user", "content": [{**part, "text": "call Anna"}], "name": "me"})
    completed = json.loads(chats.completed(later(answer), [message]))
    assert completed["sanitized_messages"] == [{"role": "user", "content": [part], "name": "me"}]
    assert GuardAnswer.model_validate(completed).messages is not None


def test_a_job_of_which_more_is_wrong_than_an_unknown_field_is_refused() -> None:
    result = BranchResult(score=1, confidence=1)
    with pytest.raises(UnknownField) as unknown:
        parse_job(BranchResult, later(result), text_limit=0)
    assert unknown.value.retryable
    assert unknown.value.faults == (("added", "is not a known field"),)
    for body in (b'{"score": 101, "confidence": 1, "added": 1}', b'{"added": 1}', b"{"):
        with pytest.raises(InvalidRequest):
            parse_job(BranchResult, body, text_limit=0)
    with pytest.raises(InvalidRequest):
        parse_job(DecideJob, json.dumps({"branches": {BranchName.SEMANTIC: 1}}).encode(), text_limit=0)
