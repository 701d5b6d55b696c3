"""What personal data, failed scans and harmful content mean for the verdict, the findings and the text handed out."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from app.arbiter.book import PolicyBook
from app.arbiter.decide import decide
from app.arbiter.live import LivePolicies
from app.arbiter.worker import ArbiterWorker
from app.contracts import (
    MAX_LISTED_SPANS,
    Action,
    BranchName,
    Category,
    DecideJob,
    DecisionRecord,
    Envelope,
    Finding,
    Mode,
    PiiEntity,
    PiiReport,
    ThreatLevel,
    Verdict,
)
from app.identity import now, text_digest
from tests.unit.arbiter.jobs import EMAIL, EMAIL_SCAN, FAILED_SCAN, REDACTED, TEXT, C, even, failed, job, policy, result

FINDING = Finding(detector="heuristics", rule="ignore-instructions", start=0, end=5, score=80)
NO_SCAN = PiiReport()
MORE_THAN_LISTED = PiiReport(scanned=True, entities=[EMAIL], count=3)


def says(judgement_explanations: list[str], words: str) -> bool:
    return any(words in sentence for sentence in judgement_explanations)


def test_allowed_text_with_personal_data_is_sanitized() -> None:
    judgement = decide(job(pii=EMAIL_SCAN, redacted_text=REDACTED), policy())
    assert (judgement.verdict, judgement.sanitized_text, judgement.score) == (Verdict.SANITIZED, REDACTED, 5)
    assert judgement.categories == [Category.PERSONAL_DATA]
    assert judgement.findings == [
        Finding(detector="pii", rule="EMAIL_ADDRESS", start=9, end=24, score=90, action=Action.REDACT)
    ]
    assert says(judgement.explanations, "Personal data was redacted: EMAIL_ADDRESS.")


def test_blocked_text_is_not_handed_out_redacted() -> None:
    judgement = decide(job(even(80), pii=EMAIL_SCAN, redacted_text=REDACTED, findings=[FINDING]), policy())
    assert (judgement.verdict, judgement.sanitized_text) == (Verdict.BLOCKED, None)
    assert [finding.action for finding in judgement.findings] == [Action.BLOCK, Action.NONE]
    assert Category.PERSONAL_DATA in judgement.categories


def test_redacted_text_without_personal_data_is_ignored() -> None:
    judgement = decide(job(redacted_text=TEXT), policy())
    assert (judgement.verdict, judgement.sanitized_text, judgement.categories) == (Verdict.ALLOWED, None, [])


def test_policy_without_redaction_reports_personal_data_and_allows() -> None:
    judgement = decide(job(pii=EMAIL_SCAN, redacted_text=REDACTED), policy(redact=False))
    assert (judgement.verdict, judgement.sanitized_text) == (Verdict.ALLOWED, None)
    assert judgement.categories == [Category.PERSONAL_DATA]
    assert judgement.findings[0].action is Action.NONE
    assert says(judgement.explanations, "does not redact")


CANNOT_REDACT = [
    pytest.param(job(pii=FAILED_SCAN), "could not be searched for", id="scan failed"),
    pytest.param(job(pii=FAILED_SCAN, mode=Mode.FAST), "could not be searched for", id="scan failed in fast mode"),
    pytest.param(job(pii=NO_SCAN), "could not be searched for", id="full mode without a scan"),
    pytest.param(job(pii=EMAIL_SCAN), "could not be redacted: EMAIL_ADDRESS", id="no redacted text"),
    pytest.param(job(pii=EMAIL_SCAN, redacted_text=TEXT), "could not be redacted", id="unchanged text"),
]


@pytest.mark.parametrize(("given", "words"), CANNOT_REDACT)
def test_redaction_that_was_wanted_and_impossible_blocks_by_default(given: DecideJob, words: str) -> None:
    judgement = decide(given, policy())
    assert (judgement.verdict, judgement.sanitized_text) == (Verdict.BLOCKED, None)
    assert (judgement.score, judgement.threat_level) == (5, ThreatLevel.LOW)
    assert says(judgement.explanations, words)
    assert says(judgement.explanations, "the policy blocks")


@pytest.mark.parametrize(("given", "words"), CANNOT_REDACT)
@pytest.mark.parametrize("changes", [{"pii_degraded": "allow"}, {"redact": False}])
def test_redaction_that_failed_can_be_allowed_but_never_silently(
    given: DecideJob, words: str, changes: dict[str, object]
) -> None:
    judgement = decide(given, policy(**changes))
    assert (judgement.verdict, judgement.sanitized_text) == (Verdict.ALLOWED, None)
    assert says(judgement.explanations, "Personal data")
    assert not says(judgement.explanations, "the policy blocks")
    if "pii_degraded" in changes:
        assert says(judgement.explanations, words)


def test_a_failed_scan_blocks_without_blaming_detections_findings() -> None:
    judgement = decide(job(pii=FAILED_SCAN, findings=[FINDING]), policy())
    assert judgement.verdict is Verdict.BLOCKED
    assert judgement.findings == [FINDING]


def test_partial_scan_that_is_allowed_hands_out_the_redacted_part() -> None:
    partial = EMAIL_SCAN.model_copy(update={"degraded": True})
    judgement = decide(job(pii=partial, redacted_text=REDACTED), policy(pii_degraded="allow"))
    assert (judgement.verdict, judgement.sanitized_text) == (Verdict.SANITIZED, REDACTED)
    assert says(judgement.explanations, "may contain some")


def test_unchanged_text_behind_a_keyed_digest_cannot_be_recognised() -> None:
    given = job(pii=EMAIL_SCAN, redacted_text=TEXT, digest=text_digest(TEXT, b"key"))
    assert decide(given, policy()).verdict is Verdict.SANITIZED


def test_redaction_of_equal_length_is_a_redaction() -> None:
    redacted = TEXT.replace("ann@example.org", "***************")
    assert decide(job(pii=EMAIL_SCAN, redacted_text=redacted), policy()).sanitized_text == redacted


def test_fast_mode_says_that_personal_data_was_not_searched_for() -> None:
    judgement = decide(job(mode=Mode.FAST, pii=NO_SCAN), policy())
    assert judgement.verdict is Verdict.ALLOWED
    assert says(judgement.explanations, "fast mode")
    assert not says(decide(job(), policy()).explanations, "fast mode")


@pytest.mark.parametrize(
    ("setting", "verdict", "action", "words"),
    [
        ("none", Verdict.ALLOWED, Action.NONE, "only reports"),
        ("block", Verdict.BLOCKED, Action.BLOCK, "which the policy blocks"),
    ],
)
def test_harmful_content_is_the_policys_choice_and_leaves_the_score_alone(
    setting: str, verdict: Verdict, action: Action, words: str
) -> None:
    given = job(categories=[Category.HARMFUL_CONTENT], findings=[FINDING])
    judgement = decide(given, policy(harmful_content=setting))
    assert (judgement.verdict, judgement.score, judgement.findings[0].action) == (verdict, 5, action)
    assert says(judgement.explanations, words)


def test_categories_keep_their_order_and_come_once() -> None:
    given = [Category.JAILBREAK, Category.PROMPT_INJECTION, Category.JAILBREAK]
    judgement = decide(job(categories=given, pii=EMAIL_SCAN, redacted_text=REDACTED), policy())
    assert judgement.categories == [Category.JAILBREAK, Category.PROMPT_INJECTION, Category.PERSONAL_DATA]
    named = [Category.PERSONAL_DATA]
    assert decide(job(categories=named, pii=EMAIL_SCAN, redacted_text=REDACTED), policy()).categories == named


def test_an_action_that_detection_had_set_is_replaced() -> None:
    blocked = FINDING.model_copy(update={"action": Action.BLOCK})
    assert decide(job(findings=[blocked]), policy()).findings == [FINDING]
    assert decide(job(even(80), findings=[FINDING]), policy()).findings == [blocked]


@pytest.mark.parametrize("detected", [0, 3, MAX_LISTED_SPANS, MAX_LISTED_SPANS + 5])
def test_findings_are_capped_with_detections_first(detected: int) -> None:
    pii = PiiReport(scanned=True, entities=[EMAIL] * MAX_LISTED_SPANS, count=MAX_LISTED_SPANS)
    judgement = decide(job(findings=[FINDING] * detected, pii=pii, redacted_text=REDACTED), policy())
    kept = min(detected, MAX_LISTED_SPANS)
    assert [finding.detector for finding in judgement.findings] == ["heuristics"] * kept + ["pii"] * (
        MAX_LISTED_SPANS - kept
    )


def test_count_above_the_listed_entities_still_sanitizes() -> None:
    assert decide(job(pii=MORE_THAN_LISTED, redacted_text=REDACTED), policy()).verdict is Verdict.SANITIZED


def test_degraded_branch_does_not_stop_sanitizing() -> None:
    branches = {**even(5), C: failed()}
    assert decide(job(branches, pii=EMAIL_SCAN, redacted_text=REDACTED), policy()).verdict is Verdict.SANITIZED


def test_decision_is_deterministic_and_leaves_the_job_alone() -> None:
    given = job({**even(60), C: result(99, 0.99)}, findings=[FINDING], pii=EMAIL_SCAN, redacted_text=REDACTED)
    before = given.model_dump_json()
    assert decide(given, policy("classifier_confidence")) == decide(given, policy("classifier_confidence"))
    assert given.model_dump_json() == before


@pytest.mark.parametrize("scores", [0, 5, 80])
@pytest.mark.parametrize("changes", [{}, {"block_at": 100}, {"redact": False, "pii_degraded": "allow"}])
def test_a_text_that_gives_a_secret_away_is_blocked_under_every_policy(scores: int, changes: dict[str, Any]) -> None:
    given = job(even(scores), pii=EMAIL_SCAN, redacted_text=REDACTED, findings=[FINDING])
    leaking = given.model_copy(update={"detection": given.detection.model_copy(update={"leaked": True})})
    judgement = decide(leaking, policy(**changes))
    assert (judgement.verdict, judgement.score, judgement.sanitized_text) == (Verdict.BLOCKED, 100, None)
    assert judgement.threat_level is ThreatLevel.HIGH
    assert judgement.boosts == []
    assert judgement.findings[0].action is Action.BLOCK
    assert says(judgement.explanations, "which every policy blocks")


def test_a_secret_is_not_allowed_because_every_branch_failed() -> None:
    given = job({name: failed() for name in BranchName})
    leaking = given.model_copy(update={"detection": given.detection.model_copy(update={"leaked": True})})
    assert decide(leaking, policy(all_degraded="allow")).verdict is Verdict.BLOCKED


async def test_a_text_that_gives_a_secret_away_is_not_stored() -> None:
    given = job(pii=EMAIL_SCAN, redacted_text=REDACTED)
    leaking = given.model_copy(update={"detection": given.detection.model_copy(update={"leaked": True})})
    worker = ArbiterWorker(LivePolicies(PolicyBook({"test": policy(block_at=100)}, "test")))
    envelope = Envelope(request_id=UUID(int=1), received_at=now())
    assert (await worker(leaking, envelope)).redacted_text is None
    blocked = given.model_copy(update={"detection": given.detection.model_copy(update={"branches": even(100)})})
    assert (await worker(blocked, envelope)).redacted_text == REDACTED


KEEPS_MAIL = {"redaction": {"entities": {"EMAIL_ADDRESS": "keep"}}}
NAME = PiiEntity(type="PERSON", start=0, end=5, score=0.9)
BOTH = PiiReport(scanned=True, entities=[NAME, EMAIL], count=2)


def test_personal_data_that_the_policy_keeps_is_reported_and_left() -> None:
    given = job(pii=EMAIL_SCAN, redacted_text=TEXT, digest=text_digest(TEXT, b"key"), kept=1)
    judgement = decide(given, policy(**KEEPS_MAIL))
    assert (judgement.verdict, judgement.sanitized_text) == (Verdict.ALLOWED, None)
    assert Category.PERSONAL_DATA in judgement.categories
    assert [finding.action for finding in judgement.findings] == [Action.NONE]
    assert judgement.explanations == ["Personal data was left, as the policy says: EMAIL_ADDRESS."]


def test_what_is_not_kept_is_redacted_beside_what_is() -> None:
    judgement = decide(job(pii=BOTH, redacted_text=REDACTED, kept=1), policy(**KEEPS_MAIL))
    assert (judgement.verdict, judgement.sanitized_text) == (Verdict.SANITIZED, REDACTED)
    assert [finding.action for finding in judgement.findings] == [Action.REDACT, Action.NONE]
    assert judgement.explanations == [
        "Personal data was left, as the policy says: EMAIL_ADDRESS.",
        "Personal data was redacted: PERSON.",
    ]


def test_what_is_not_kept_and_cannot_be_redacted_blocks() -> None:
    judgement = decide(job(pii=BOTH, redacted_text=TEXT, kept=1), policy(**KEEPS_MAIL))
    assert judgement.verdict is Verdict.BLOCKED
    assert says(judgement.explanations, "could not be redacted: PERSON;")


async def record(given: DecideJob, **changes: Any) -> DecisionRecord:
    worker = ArbiterWorker(LivePolicies(PolicyBook({"test": policy(**changes)}, "test")))
    return await worker(given, Envelope(request_id=UUID(int=1), received_at=now()))


async def test_only_a_sanitized_answer_carries_the_map() -> None:
    given = job(pii=EMAIL_SCAN, redacted_text=REDACTED)
    assert (await record(given)).answer.restore_map == "v1.sealed"
    assert (await record(given, redact=False)).answer.restore_map is None
    blocked = given.model_copy(update={"detection": given.detection.model_copy(update={"branches": even(100)})})
    assert (await record(blocked)).answer.restore_map is None


async def test_the_event_log_gets_no_map_and_no_value_that_was_kept() -> None:
    sanitized = await record(job(pii=BOTH, redacted_text=REDACTED, kept=1), **KEEPS_MAIL)
    assert sanitized.answer.sanitized_text == REDACTED
    logged = sanitized.as_logged()
    assert (logged.answer.sanitized_text, logged.redacted_text) == ("what may be stored", None)
    assert logged.answer.restore_map is None
    allowed = (await record(job(pii=EMAIL_SCAN, redacted_text=TEXT, kept=1), **KEEPS_MAIL)).as_logged()
    assert (allowed.answer.sanitized_text, allowed.redacted_text) == (None, "what may be stored")
    plain = (await record(job(pii=EMAIL_SCAN, redacted_text=REDACTED))).as_logged()
    assert (plain.answer.sanitized_text, plain.redacted_text) == (REDACTED, None)
    untouched = await record(job())
    assert untouched.as_logged() is untouched
