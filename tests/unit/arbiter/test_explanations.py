"""What the answer tells people: which branch said what, why the score rose, what failed; short and without repeats."""

from __future__ import annotations

from app.arbiter.decide import MAX_EXPLANATIONS, decide
from app.contracts import BranchName, Category, PiiEntity, PiiReport
from tests.unit.arbiter.jobs import BOOSTS, EMAIL_SCAN, REDACTED, TEXT, C, H, S, even, failed, job, policy, result


def test_block_names_score_and_threshold_first() -> None:
    explanations = decide(job(even(60)), policy()).explanations
    assert explanations[0] == "The score of 60 reaches the policy's blocking threshold of 50."


def test_nothing_to_say_about_a_clean_text() -> None:
    assert decide(job(), policy()).explanations == []


def test_branch_sentences_name_their_branch_and_come_once() -> None:
    branches = {
        H: result(20, explanations=["It asks to ignore rules.", "It hides text."]),
        S: result(20, explanations=["It asks to ignore rules."]),
        C: result(20, explanations=["It reads like an attack."]),
    }
    assert decide(job(branches), policy()).explanations == [
        "heuristics: It asks to ignore rules.",
        "classifier: It reads like an attack.",
        "heuristics: It hides text.",
    ]


def test_silent_branch_is_quoted_by_its_score_when_above_low() -> None:
    branches = {H: result(0), S: result(30), C: result(70)}
    assert decide(job(branches), policy()).explanations == ["classifier: scored 70 of 100 (HIGH)."]


def test_each_boost_that_raised_the_score_is_explained_with_its_target() -> None:
    branches = {H: result(75, signals=["obfuscation"]), S: result(0), C: result(60, 0.96)}
    explanations = decide(job(branches), policy(*BOOSTS)).explanations
    assert [line.rpartition(": ")[2] for line in explanations[1:4]] == [
        "score raised to 65.",
        "score raised to 70.",
        "score raised to 85.",
    ]
    assert "95%" in explanations[1]


def test_degraded_and_missing_branches_are_named() -> None:
    explanations = decide(job({H: result(5), S: failed()}), policy()).explanations
    assert explanations == [
        "The semantic branch failed and counts 10% of its weight.",
        "The classifier branch gave no result and counts 10% of its weight.",
    ]


def test_a_degraded_branchs_own_sentences_are_left_out() -> None:
    broken = failed().model_copy(update={"explanations": ["It reads like an attack."]})
    assert decide(job({**even(5), C: broken}), policy()).explanations == [
        "The classifier branch failed and counts 10% of its weight."
    ]


def test_chatty_branches_share_the_room_and_the_arbiters_sentences_stay() -> None:
    branches = {name: result(80, 0.97, explanations=[f"{name} {n}." for n in range(20)]) for name in BranchName}
    explanations = decide(
        job(branches, categories=[Category.HARMFUL_CONTENT], pii=EMAIL_SCAN, redacted_text=REDACTED), policy(*BOOSTS)
    ).explanations
    assert len(explanations) == len(set(explanations)) == MAX_EXPLANATIONS
    assert all(any(line.startswith(f"{name}: ") for line in explanations) for name in BranchName)
    assert explanations[-1] == "Personal data was found: EMAIL_ADDRESS."


def test_many_kinds_of_personal_data_are_cut_short() -> None:
    entities = [PiiEntity(type=f"KIND_{n}", start=n, end=n + 1, score=1) for n in range(7)] * 2
    pii = PiiReport(scanned=True, entities=entities, count=len(entities))
    assert decide(job(pii=pii, redacted_text=REDACTED), policy()).explanations == [
        "Personal data was redacted: KIND_0, KIND_1, KIND_2, KIND_3, KIND_4 and others."
    ]


def test_explanations_never_quote_the_text() -> None:
    judgement = decide(job(even(80), pii=EMAIL_SCAN, redacted_text=REDACTED), policy(*BOOSTS))
    assert not any("ann@example.org" in line or TEXT in line for line in judgement.explanations)
