"""What another policy would have decided about the same text: tried beside the one in force, without any effect."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from app.arbiter.conversation import SEVERITY, UNJUDGED, job_of
from app.arbiter.decide import PiiState, is_threat, rate, verdict_on
from app.arbiter.policy import Policy
from app.contracts import DecideJob, DetectionReport, MessageReport, Mode, ShadowDecision, Verdict


def why_not_beside(policy: Policy, shadow: Policy) -> str | None:
    """Return why a policy cannot be tried beside the one in force; None where it can.

    No branch runs for a shadow alone. One that did not run would count as having found nothing, and the scores of the
    two could not be compared.
    """
    if shadow.branches.on <= policy.branches.on:
        return None
    return f"{shadow.name} judges by a branch that {policy.name} does not run: its scores would be too low"


def shadow_decision(job: DecideJob, policy: Policy) -> ShadowDecision:
    """Decide what the shadow would have decided from what was found for the policy in force.

    So the mode, the branches that ran and the allow list are those of the policy in force; weights, thresholds, boosts,
    the deny list and what is done with each kind are the shadow's. A redaction that it asks for counts as possible
    where the scan succeeded. Of a chat it is the worst decision and the highest score of its messages.
    """
    if job.conversation is None:
        decided = [_decide(job, policy)]
    else:
        decided = [_decide(each, policy) for each in _parts(job, job.conversation)]
    return ShadowDecision(
        policy=policy.name,
        policy_version=policy.version,
        decision=max((verdict for verdict, _ in decided), key=SEVERITY.index),
        score=max(score for _, score in decided),
    )


def _parts(job: DecideJob, conversation: Sequence[MessageReport]) -> Iterator[DecideJob]:
    """Yield each message as a text of its own, and what was read together with those before it."""
    for report in conversation:
        unjudged = DetectionReport(branches=UNJUDGED, model_version=job.detection.model_version)
        yield job_of(report, report.detection or unjudged, job)
        if report.together is not None:
            yield job_of(report, report.together, job)


def _decide(job: DecideJob, policy: Policy) -> tuple[Verdict, int]:
    detection = job.detection.model_copy(update={"denied": job.detection.shadow_denied})
    rating = rate(detection, policy)
    verdict = verdict_on(policy, _pii_state(job, policy), threat_blocked=is_threat(detection, policy, rating))
    return verdict, rating.score


def _pii_state(job: DecideJob, policy: Policy) -> PiiState:
    pii = job.pii
    unlisted = max(pii.count - len(pii.entities), 0)
    redacts = unlisted > 0 or any(not policy.redaction.keeps(entity.type) for entity in pii.entities)
    return PiiState(
        found=bool(pii.entities) or unlisted > 0,
        scan_failed=pii.degraded or (job.subject.mode is Mode.FULL and not pii.scanned),
        redacted_text="" if redacts else None,
        unredacted=False,
    )
