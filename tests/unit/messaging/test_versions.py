"""What a replica of a later version says beyond this one's fields breaks nothing that only reads it."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

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
from app.errors import InvalidRequest, RateLimited, UnknownField
from app.messaging import audit, chats
from app.messaging.inbox import ReplyInbox
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
