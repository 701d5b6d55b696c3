"""Jobs and policies for the arbiter's tests: a harmless text and the default policy, changed by what a test names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.arbiter.policy import Policy
from app.contracts import (
    BranchName,
    BranchResult,
    Category,
    DecideJob,
    DetectionReport,
    Finding,
    GuardedText,
    Mode,
    PiiEntity,
    PiiReport,
    Source,
)
from app.identity import text_digest

H, S, C = BranchName.HEURISTICS, BranchName.SEMANTIC, BranchName.CLASSIFIER
TEXT = "Write to ann@example.org about the invoice."
REDACTED = "Write to [EMAIL_ADDRESS] about the invoice."
EMAIL = PiiEntity(type="EMAIL_ADDRESS", start=9, end=24, score=0.9)
CLEAN_SCAN = PiiReport(scanned=True, language="en")
EMAIL_SCAN = PiiReport(scanned=True, language="en", entities=[EMAIL], count=1)
FAILED_SCAN = PiiReport(degraded=True)

BOOSTS: dict[str, dict[str, Any]] = {
    "conservative_override": {"attack_at": 50, "confidence_over": 0.95, "below": 50, "raise_to": 65},
    "semantic_similarity": {"at_least": 80, "raise_to": 70},
    "critical_heuristics": {"at_least": 75, "signal": "obfuscation", "raise_to": 70},
    "classifier_confidence": {"attack_at": 50, "confidence_over": 0.9, "raise_to": 85},
    "unanimous_high": {"raise_to": 90},
}


def result(score: float, confidence: float = 0.5, **fields: Any) -> BranchResult:
    return BranchResult(score=score, confidence=confidence, **fields)


def failed(score: float = 0.0) -> BranchResult:
    return BranchResult(score=score, confidence=0.0, degraded=True)


def even(score: float) -> dict[BranchName, BranchResult]:
    """Return three branches that agree, so that the weighted mean is their score."""
    return {name: result(score) for name in BranchName}


def job(
    branches: Mapping[BranchName, BranchResult] | None = None,
    *,
    mode: Mode = Mode.FULL,
    categories: list[Category] | None = None,
    findings: list[Finding] | None = None,
    pii: PiiReport = CLEAN_SCAN,
    redacted_text: str | None = None,
    digest: str = text_digest(TEXT),
    kept: int = 0,
) -> DecideJob:
    return DecideJob(
        subject=GuardedText(digest=digest, length=len(TEXT), mode=mode, source=Source.INPUT),
        detection=DetectionReport(
            branches=dict(even(5) if branches is None else branches),
            categories=categories or [],
            findings=findings or [],
            model_version="test",
        ),
        pii=pii,
        redacted_text=redacted_text,
        kept=kept,
        log_text="what may be stored" if kept else None,
        restore_map="v1.sealed" if redacted_text is not None else None,
    )


def boost(name: str, **changes: Any) -> dict[str, Any]:
    return {"name": name, **BOOSTS[name], **changes}


def fields(**changes: Any) -> dict[str, Any]:
    """Return the content of a policy file without boosts."""
    return {
        "name": "test",
        "version": 1,
        "description": "A policy of the tests.",
        "weights": {"heuristics": 0.30, "semantic": 0.35, "classifier": 0.35},
        "levels": {"low_up_to": 30, "medium_up_to": 65},
        "block_at": 50,
        "degraded_factor": 0.1,
        **changes,
    }


def policy(*boosts: dict[str, Any] | str, **changes: Any) -> Policy:
    listed = [boost(entry) if isinstance(entry, str) else entry for entry in boosts]
    return Policy.model_validate(fields(boosts=listed, **changes))
