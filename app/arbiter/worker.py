"""The arbiter stage: from all that is known to the answer and the record of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from app.arbiter.conversation import decide_chat
from app.arbiter.decide import decide
from app.arbiter.live import LivePolicies
from app.arbiter.shadow import shadow_decision
from app.contracts import (
    DecideJob,
    DecisionRecord,
    Envelope,
    GuardAnswer,
    MessageVerdict,
    Mode,
    ShadowDecision,
    Verdict,
    gives_secret_away,
)
from app.identity import now
from app.telemetry import metrics

logger: Final = logging.getLogger("vigil.arbiter")


@dataclass(frozen=True, slots=True)
class ArbiterWorker:
    policies: LivePolicies

    async def __call__(self, job: DecideJob, envelope: Envelope) -> DecisionRecord:
        """Decide by the version of the policy that the first stage pinned the request to.

        A dry run is answered with ALLOWED, so that no caller, gateway or count takes its verdict for a block.

        Raises:
            InvalidRequest: the request names a policy that does not exist.
            PolicyUnavailable: the version that it is pinned to cannot be read.
        """
        subject = job.subject
        policy = await self.policies.judging(subject)
        shadow = await self._shadow(job)
        chat = decide_chat(job, job.conversation, policy) if job.conversation is not None else None
        judgement = decide(job, policy) if chat is None else chat.whole
        decided_at = now()
        dry_run = subject.dry_run
        branches = job.detection.branches if chat is None else chat.branches
        on = policy.branches.on
        sanitized_text = None if dry_run else judgement.sanitized_text
        answer = GuardAnswer(
            request_id=envelope.request_id,
            decision=Verdict.ALLOWED if dry_run else judgement.verdict,
            score=judgement.score,
            threat_level=judgement.threat_level,
            categories=judgement.categories,
            explanations=judgement.explanations,
            branches=branches if on.issuperset(branches) else {name: branches[name] for name in branches if name in on},
            findings=judgement.findings,
            boosts=judgement.boosts,
            pii=job.pii,
            sanitized_text=sanitized_text,
            restore_map=job.restore_map if judgement.verdict is Verdict.SANITIZED and not dry_run else None,
            mode=job.subject.mode,
            source=job.subject.source,
            policy=policy.name,
            policy_version=policy.version,
            dry_run=dry_run,
            would_decide=judgement.verdict if dry_run else None,
            shadow=shadow if subject.show_shadow else None,
            latency_ms=round(max((decided_at - envelope.received_at).total_seconds(), 0.0) * 1000, 3),
            model_version=job.detection.model_version,
            messages=None if chat is None else _let_pass(chat.messages) if dry_run else chat.messages,
        )
        return DecisionRecord(
            answer=answer,
            received_at=envelope.received_at,
            decided_at=decided_at,
            text_digest=job.subject.digest,
            text_length=job.subject.length,
            redacted_text=_storable(job, carried=sanitized_text is not None),
            metadata=job.subject.metadata,
            tenant=envelope.tenant,
            key_id=envelope.key_id,
            shadow=shadow,
        )

    async def _shadow(self, job: DecideJob) -> ShadowDecision | None:
        """Try the shadow that the request is pinned to; whatever goes wrong with it, the answer stays."""
        if job.subject.shadow is None:
            return None
        try:
            return shadow_decision(job, await self.policies.version(job.subject.shadow))
        except Exception as error:  # noqa: BLE001 - a policy on trial must not cost a decision
            metrics.SHADOW_FAILURES.inc()
            logger.error("the shadow policy was not tried: %s", type(error).__name__)
            return None


def _let_pass(messages: Sequence[MessageVerdict]) -> list[MessageVerdict]:
    """Return the verdicts of a dry run's messages: findings as they are, and nothing that a caller could act on."""
    return [_passing(each) for each in messages]


def _passing(verdict: MessageVerdict) -> MessageVerdict:
    arguments = verdict.arguments and [
        each.model_copy(update={"decision": Verdict.ALLOWED, "sanitized_texts": None}) for each in verdict.arguments
    ]
    return verdict.model_copy(update={"decision": Verdict.ALLOWED, "sanitized_content": None, "arguments": arguments})


def _storable(job: DecideJob, *, carried: bool) -> str | None:
    """Return what may be stored of the text, when the answer does not carry that already: twice would not always fit a
    message. A secret is not stored, and neither is personal data that a policy or a caller keeps; a text of fast mode
    never is, for nobody looked for names in it."""
    if job.subject.mode is Mode.FAST or gives_secret_away(job):
        return None
    if job.kept or job.log_text is not None:
        return job.log_text
    return None if carried else job.redacted_text
