"""The arbiter stage: from all that is known to the answer and the record of it."""

from __future__ import annotations

from dataclasses import dataclass

from app.arbiter.decide import decide
from app.arbiter.policy import PolicyBook
from app.contracts import DecideJob, DecisionRecord, Envelope, GuardAnswer, Mode
from app.identity import now


@dataclass(frozen=True, slots=True)
class ArbiterWorker:
    policies: PolicyBook

    def __call__(self, job: DecideJob, envelope: Envelope) -> DecisionRecord:
        """Decide.

        Raises:
            InvalidRequest: the request names a policy that does not exist.
        """
        policy = self.policies.get(job.subject.policy)
        judgement = decide(job, policy)
        decided_at = now()
        answer = GuardAnswer(
            request_id=envelope.request_id,
            decision=judgement.verdict,
            score=judgement.score,
            threat_level=judgement.threat_level,
            categories=judgement.categories,
            explanations=judgement.explanations,
            branches=job.detection.branches,
            findings=judgement.findings,
            boosts=judgement.boosts,
            pii=job.pii,
            sanitized_text=judgement.sanitized_text,
            restore_map=job.restore_map if judgement.sanitized_text is not None else None,
            mode=job.subject.mode,
            source=job.subject.source,
            policy=policy.name,
            latency_ms=round(max((decided_at - envelope.received_at).total_seconds(), 0.0) * 1000, 3),
            model_version=job.detection.model_version,
        )
        return DecisionRecord(
            answer=answer,
            received_at=envelope.received_at,
            decided_at=decided_at,
            text_digest=job.subject.digest,
            text_length=job.subject.length,
            redacted_text=_storable(job, sanitized=judgement.sanitized_text is not None),
            metadata=job.subject.metadata,
            tenant=envelope.tenant,
            key_id=envelope.key_id,
        )


def _storable(job: DecideJob, *, sanitized: bool) -> str | None:
    """Return what may be stored of the text, when the answer does not carry that already: twice would not always fit a
    message. A secret is not stored, and neither is personal data that a policy keeps; a text of fast mode never is, for
    nobody looked for names in it."""
    if job.detection.leaked or job.subject.mode is Mode.FAST:
        return None
    if job.kept:
        return job.log_text
    return None if sanitized else job.redacted_text
