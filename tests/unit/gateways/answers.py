"""Answers of the guard as the translations get them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from app.chat import ChatMessage
from app.contracts import (
    Action,
    ArgumentsVerdict,
    BranchName,
    BranchResult,
    Finding,
    GuardAnswer,
    MessageVerdict,
    PiiEntity,
    PiiReport,
    ThreatLevel,
    Verdict,
)
from tests.support import plain_answer

REQUEST_ID = UUID("01a214a2-d5f1-7354-adeb-bb61793cf035")


def answer(decision: Verdict = Verdict.ALLOWED, **fields: Any) -> GuardAnswer:
    branches = {
        BranchName.HEURISTICS: BranchResult(score=97.6, confidence=0.9, signals=["override"], latency_ms=0.6),
        BranchName.SEMANTIC: BranchResult(score=25, confidence=0.6, latency_ms=11.2),
        BranchName.CLASSIFIER: BranchResult(score=4, confidence=0.9, latency_ms=10.9),
    }
    own = {
        "request_id": REQUEST_ID,
        "decision": decision,
        "score": 3,
        "branches": branches,
        "pii": PiiReport(scanned=True, scope="all"),
        "policy": "balanced",
        "latency_ms": 29.4,
        "model_version": "m1",
    }
    return plain_answer(**own | fields)


def of_chat(messages: Sequence[ChatMessage], *decided: GuardAnswer) -> GuardAnswer:
    """Return the answer to a chat, of whose messages this was decided."""
    worst = max(decided, key=lambda each: ORDER.index(each.decision))
    contents = [each.sanitized_text for each in decided]
    return worst.model_copy(
        update={
            "pii": PiiReport(scanned=True, count=sum(each.pii.count for each in decided)),
            "findings": [finding for each in decided for finding in each.findings],
            "messages": [
                MessageVerdict(
                    index=index,
                    role=message.role,
                    judged=True,
                    decision=each.decision,
                    score=each.score,
                    threat_level=each.threat_level,
                    categories=each.categories,
                    findings=each.findings,
                )
                for index, (message, each) in enumerate(zip(messages, decided, strict=True))
            ],
            "sanitized_messages": [
                message if content is None else message.model_copy(update={"content": content})
                for message, content in zip(messages, contents, strict=True)
            ]
            if worst.decision is Verdict.SANITIZED
            else None,
        }
    )


ORDER = (Verdict.ALLOWED, Verdict.SANITIZED, Verdict.BLOCKED)


def sanitized(text: str, *found: tuple[str, int, int], kept: tuple[str, int, int] | None = None) -> GuardAnswer:
    """Return an answer with personal data of these kinds at these places."""
    everything = [*found, *([kept] if kept else [])]
    return answer(
        Verdict.SANITIZED,
        sanitized_text=text,
        categories=["personal_data"],
        pii=PiiReport(
            scanned=True,
            scope="all",
            count=len(everything),
            entities=[PiiEntity(type=kind, start=start, end=end, score=0.9) for kind, start, end in everything],
        ),
        findings=[
            Finding(
                detector="pii",
                rule=kind,
                start=start,
                end=end,
                score=90,
                action=Action.NONE if (kind, start, end) == kept else Action.REDACT,
            )
            for kind, start, end in everything
        ],
    )


def redacted_arguments() -> ArgumentsVerdict:
    """Return what is said of a message's first tool call whose arguments held personal data."""
    return ArgumentsVerdict(
        path="tool_calls.0.function.arguments",
        decision=Verdict.SANITIZED,
        score=0,
        threat_level=ThreatLevel.LOW,
        categories=[],
        findings=[],
    )
