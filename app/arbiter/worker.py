"""The arbiter stage: from all that is known to the answer and the record of it."""

from __future__ import annotations

from dataclasses import dataclass

from app.arbiter.conversation import decide_chat
from app.arbiter.decide import decide
from app.arbiter.policy import PolicyBook
from app.contracts import DecideJob, DecisionRecord, Envelope, GuardAnswer, Mode, Verdict
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
        chat = decide_chat(job, job.conversation, policy) if job.conversation is not None else None
        judgement = decide(job, policy) if chat is None else chat.whole
        sanitized = judgement.verdict is Verdict.SANITIZED
        decided_at = now()
        answer = GuardAnswer(
            request_id=envelope.request_id,
            decision=judgement.verdict,
            score=judgement.score,
            threat_level=judgement.threat_level,
            categories=judgement.categories,
            explanations=judgement.explanations,
            branches=job.detection.branches if chat is None else chat.branches,
            findings=judgement.findings,
            boosts=judgement.boosts,
            pii=job.pii,
            sanitized_text=judgement.sanitized_text,
            restore_map=job.restore_map if sanitized else None,
            mode=job.subject.mode,
            source=job.subject.source,
            policy=policy.name,
            latency_ms=round(max((decided_at - envelope.received_at).total_seconds(), 0.0) * 1000, 3),
            model_version=job.detection.model_version,
            messages=None if chat is None else chat.messages,
        )
        return DecisionRecord(
            answer=answer,
            received_at=envelope.received_at,
            decided_at=decided_at,
            text_digest=job.subject.digest,
            text_length=job.subject.length,
            redacted_text=_storable(job, carried=judgement.sanitized_text is not None),
            metadata=job.subject.metadata,
            tenant=envelope.tenant,
            key_id=envelope.key_id,
        )


def _storable(job: DecideJob, *, carried: bool) -> str | None:
    """Return what may be stored of the text, when the answer does not carry that already: twice would not always fit a
    message. A secret is not stored, and neither is personal data that a policy keeps; a text of fast mode never is, for
    nobody looked for names in it."""
    if job.subject.mode is Mode.FAST or _leaked(job):
        return None
    if job.kept:
        return job.log_text
    return None if carried else job.redacted_text


def _leaked(job: DecideJob) -> bool:
    if job.conversation is None:
        return job.detection.leaked
    reports = (report for each in job.conversation for report in (each.detection, each.together))
    return any(report is not None and report.leaked for report in reports)
