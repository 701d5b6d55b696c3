"""Decision records for the event log's tests: a plain one, and one with everything that is hard to store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from app.contracts import (
    Action,
    BranchName,
    BranchResult,
    Category,
    DecisionRecord,
    Finding,
    GuardAnswer,
    Mode,
    PiiEntity,
    PiiReport,
    ShadowDecision,
    Source,
    ThreatLevel,
    Verdict,
)
from tests.support import plain_answer

TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
RECEIVED_AT = TODAY - timedelta(microseconds=1)
"""The last microsecond of yesterday: recent, because the event log drops what is older than its retention."""


def plain_record(
    request_id: UUID | None = None, *, decision: Verdict = Verdict.ALLOWED, **changes: Any
) -> DecisionRecord:
    """A fast decision on harmless text; changes replace fields of the record."""
    answer = plain_answer(
        request_id=request_id or uuid4(),
        decision=decision,
        score=3,
        branches={
            BranchName.HEURISTICS: BranchResult(score=0.0, confidence=0.9, latency_ms=0.21),
            BranchName.SEMANTIC: BranchResult(score=4.25, confidence=0.71, latency_ms=2.4),
            BranchName.CLASSIFIER: BranchResult(score=1.5, confidence=0.99, latency_ms=3.1),
        },
        mode=Mode.FAST,
        policy="balanced",
        latency_ms=7.75,
        model_version="guard-1",
    )
    record = DecisionRecord(
        answer=answer,
        received_at=RECEIVED_AT,
        decided_at=RECEIVED_AT + timedelta(milliseconds=8),
        text_digest="ab" * 32,
        text_length=42,
        redacted_text=None,
        metadata={},
    )
    return record.model_copy(update=changes)


def full_record(request_id: UUID | None = None) -> DecisionRecord:
    """A full decision with 500 findings and entities, 100,000 characters of text and every metadata type."""
    redacted = ("Zażółć gęślą jaźń\x00 <PERSON>\n\t\\N 'x' \U0001f9ff " * 4_000)[:100_000]
    answer = GuardAnswer(
        request_id=request_id or uuid4(),
        decision=Verdict.SANITIZED,
        score=49,
        threat_level=ThreatLevel.MEDIUM,
        categories=[Category.PERSONAL_DATA, Category.OBFUSCATION],
        explanations=["Zdanie po polsku.", "", "tab\tand \x00 and 'quote'"],
        branches={
            BranchName.CLASSIFIER: BranchResult(
                score=1 / 3, confidence=0.1 + 0.2, degraded=True, signals=["timeout"], explanations=["Did not answer."]
            ),
            BranchName.HEURISTICS: BranchResult(
                score=99.999999, confidence=1.0, signals=["rule-7", "rule-7"], explanations=["Ślad."], latency_ms=1e-9
            ),
        },
        findings=[
            Finding(detector="heuristics", rule=f"rule-{n % 7}", start=n, end=n + 3, score=n / 7, action=Action.REDACT)
            for n in range(500)
        ],
        boosts=["critical_heuristics", "unanimous_high"],
        pii=PiiReport(
            scanned=True,
            scope="all",
            degraded=True,
            language="pl",
            entities=[PiiEntity(type="PERSON", start=n, end=n + 1, score=n / 501) for n in range(500)],
            count=701,
            latency_ms=12.5,
        ),
        sanitized_text=redacted,
        mode=Mode.FULL,
        source=Source.TOOL,
        policy="strict",
        policy_version=2**32 - 1,
        dry_run=True,
        would_decide=Verdict.BLOCKED,
        latency_ms=123.456789,
        model_version="guard-1",
    )
    return DecisionRecord(
        answer=answer,
        received_at=RECEIVED_AT,
        decided_at=RECEIVED_AT + timedelta(microseconds=123_457),
        text_digest="0f" * 32,
        text_length=100_000,
        redacted_text=redacted,
        metadata={
            "tenant": "Łódź\x00",
            "digits": "7",
            "answer": 7,
            "huge": 2**70,
            "ratio": 0.1,
            "whole": 2.0,
            "yes": True,
            "no": False,
            "nothing": None,
            "empty": "",
        },
        shadow=ShadowDecision(policy="next", policy_version=4, decision=Verdict.SANITIZED, score=100),
    )
