"""Deny and allow lists, switched-off branches, dry runs and shadow policies in the decision."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from app.arbiter.book import PolicyBook
from app.arbiter.decide import decide
from app.arbiter.documents import pin_of
from app.arbiter.live import LivePolicies
from app.arbiter.shadow import shadow_decision
from app.arbiter.worker import ArbiterWorker
from app.contracts import Action, DecideJob, DecisionRecord, Envelope, Finding, Mode, ShadowDecision, Verdict
from app.identity import now
from tests.unit.arbiter.jobs import EMAIL_SCAN, FAILED_SCAN, REDACTED, TEXT, C, H, S, even, failed, job, policy, result

KEEPS_MAIL = {"redaction": {"entities": {"EMAIL_ADDRESS": "keep"}}}


def detected(given: DecideJob, **changes: Any) -> DecideJob:
    return given.model_copy(update={"detection": given.detection.model_copy(update=changes)})


def about(given: DecideJob, **changes: Any) -> DecideJob:
    return given.model_copy(update={"subject": given.subject.model_copy(update=changes)})


def test_a_denied_text_is_blocked_at_the_score_it_has_and_the_rule_is_named() -> None:
    span = Finding(detector="deny_list", rule="projects", start=0, end=5, score=100)
    judgement = decide(detected(job(even(5)), denied=["projects"], findings=[span]), policy(block_at=100))
    assert (judgement.verdict, judgement.score) == (Verdict.BLOCKED, 5)
    assert judgement.findings == [span.model_copy(update={"action": Action.BLOCK})]
    assert judgement.explanations[0] == "The text holds what the policy's deny list names: projects."


@pytest.mark.parametrize(("allowed", "said"), [("text", "was not searched"), ("part", "was left out"), (None, "")])
def test_what_was_not_judged_is_said(allowed: str | None, said: str) -> None:
    explanations = decide(detected(job(), allowed=allowed), policy()).explanations
    assert any("allow list" in line and said in line for line in explanations) is (allowed is not None)


def test_the_weights_of_the_branches_that_are_on_are_brought_to_one() -> None:
    switched = policy(branches={"semantic": False})
    branches = {H: result(10), S: result(100), C: result(40)}
    assert decide(job(branches), switched).score == round((0.30 * 10 + 0.35 * 40) / 0.65)
    assert decide(job({H: result(10), C: result(40)}), switched).score == round((0.30 * 10 + 0.35 * 40) / 0.65)


def test_a_branch_that_is_off_neither_boosts_nor_fails_nor_speaks() -> None:
    switched = policy("semantic_similarity", branches={"semantic": False})
    loud = decide(job({H: result(0), S: result(99, explanations=["Loud."]), C: result(0)}), switched)
    assert (loud.boosts, loud.score, loud.explanations) == ([], 0, [])
    assert decide(job({H: result(0), C: result(0)}), switched).explanations == []
    alone = policy(branches={"heuristics": True, "semantic": False, "classifier": False})
    assert decide(job({H: failed(), S: result(0), C: result(0)}), alone).verdict is Verdict.BLOCKED


async def record(given: DecideJob, **changes: Any) -> DecisionRecord:
    policies = LivePolicies(
        PolicyBook({"test": policy(**changes), "next": policy(name="next", version=7, block_at=40)}, "test")
    )
    pins = {"pin": pin_of(policies.get("test")), "shadow": given.subject.shadow and pin_of(policies.get("next"))}
    return await ArbiterWorker(policies)(about(given, **pins), Envelope(request_id=UUID(int=1), received_at=now()))


async def test_the_answer_names_the_version_that_decided() -> None:
    answer = (await record(job(), version=5)).answer
    assert (answer.policy, answer.policy_version, answer.dry_run, answer.would_decide) == ("test", 5, False, None)


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        (job(even(90)), Verdict.BLOCKED),
        (job(pii=EMAIL_SCAN, redacted_text=REDACTED), Verdict.SANITIZED),
        (job(), Verdict.ALLOWED),
    ],
)
async def test_a_dry_run_lets_every_text_pass_and_says_what_it_would_have_decided(
    given: DecideJob, verdict: Verdict
) -> None:
    real, dry = await record(given), await record(about(given, dry_run=True))
    assert real.answer.decision is verdict
    answer = dry.answer
    assert (answer.decision, answer.would_decide, answer.dry_run) == (Verdict.ALLOWED, verdict, True)
    assert (answer.sanitized_text, answer.restore_map) == (None, None)
    assert (answer.score, answer.explanations, answer.findings) == (
        real.answer.score,
        real.answer.explanations,
        real.answer.findings,
    )
    assert dry.redacted_text == (REDACTED if verdict is Verdict.SANITIZED else None)


async def test_a_shadow_is_recorded_and_told_only_to_who_asks() -> None:
    shadowed = about(job(even(45)), shadow=pin_of(policy()))
    quiet = await record(shadowed)
    assert quiet.shadow == ShadowDecision(policy="next", policy_version=7, decision=Verdict.BLOCKED, score=45)
    assert (quiet.answer.decision, quiet.answer.shadow) == (Verdict.ALLOWED, None)
    assert (await record(about(shadowed, show_shadow=True))).answer.shadow == quiet.shadow
    assert (await record(job(even(45)))).shadow is None


async def test_a_shadow_that_cannot_be_tried_costs_nothing() -> None:
    policies = LivePolicies(PolicyBook({"test": policy()}, "test"))
    unknown = about(job(), pin=pin_of(policy()), shadow=pin_of(policy(name="gone")), show_shadow=True)
    found = await ArbiterWorker(policies)(unknown, Envelope(request_id=UUID(int=1), received_at=now()))
    assert (found.answer.decision, found.shadow) == (Verdict.ALLOWED, None)


@pytest.mark.parametrize(
    ("given", "changes", "decision"),
    [
        (job(pii=EMAIL_SCAN, redacted_text=REDACTED), KEEPS_MAIL, Verdict.ALLOWED),
        (job(pii=EMAIL_SCAN, redacted_text=TEXT, kept=1), {}, Verdict.SANITIZED),
        (job(pii=EMAIL_SCAN, redacted_text=REDACTED), {"redact": False}, Verdict.ALLOWED),
        (job(pii=FAILED_SCAN), {}, Verdict.BLOCKED),
        (job(pii=FAILED_SCAN), {"pii_degraded": "allow"}, Verdict.ALLOWED),
        (job(pii=EMAIL_SCAN.model_copy(update={"scanned": False}), mode=Mode.FAST), {}, Verdict.SANITIZED),
        (detected(job(), denied=["r"]), {}, Verdict.ALLOWED),
        (detected(job(), shadow_denied=["r"]), {}, Verdict.BLOCKED),
    ],
)
def test_a_shadow_decides_by_its_own_table_and_lists(
    given: DecideJob, changes: dict[str, Any], decision: Verdict
) -> None:
    assert shadow_decision(given, policy(**changes)).decision is decision
