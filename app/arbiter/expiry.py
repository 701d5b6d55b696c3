"""The record of a request that was not judged because nobody could be waiting for it any more."""

from __future__ import annotations

from dataclasses import dataclass

from app.contracts import (
    DecisionRecord,
    Envelope,
    GuardAnswer,
    GuardedText,
    GuardRequest,
    PiiReport,
    ScanJob,
    ThreatLevel,
    Verdict,
)
from app.identity import now, text_digest


@dataclass(frozen=True, slots=True)
class ExpiryWorker:
    hash_key: bytes

    def __call__(self, job: GuardRequest | ScanJob, envelope: Envelope) -> DecisionRecord:
        subject = job.subject if isinstance(job, ScanJob) else self._subject_of(job)
        expired_at = now()
        return DecisionRecord(
            answer=GuardAnswer(
                request_id=envelope.request_id,
                decision=Verdict.EXPIRED,
                score=0,
                threat_level=ThreatLevel.LOW,
                categories=[],
                explanations=["The deadline had passed before the text was judged."],
                branches={},
                findings=[],
                boosts=[],
                pii=PiiReport(),
                sanitized_text=None,
                mode=subject.mode,
                source=subject.source,
                policy=subject.policy or "",
                dry_run=subject.dry_run,
                latency_ms=round(max((expired_at - envelope.received_at).total_seconds(), 0.0) * 1000, 3),
                model_version="",
            ),
            received_at=envelope.received_at,
            decided_at=expired_at,
            text_digest=subject.digest,
            text_length=subject.length,
            redacted_text=None,
            metadata=subject.metadata,
            tenant=envelope.tenant,
            key_id=envelope.key_id,
        )

    def _subject_of(self, request: GuardRequest) -> GuardedText:
        return GuardedText(
            digest=text_digest(request.identity, self.hash_key),
            length=len(request.whole_text),
            mode=request.mode,
            source=request.origin,
            policy=request.policy,
            dry_run=request.dry_run,
            metadata=request.metadata,
        )
