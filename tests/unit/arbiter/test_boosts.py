"""When each boost applies, alone, switched off, in order, and that none ever lowers a score."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import pytest

from app.arbiter.book import load_policies
from app.arbiter.decide import decide
from app.arbiter.policy import Policy
from app.contracts import BranchName, BranchResult, Verdict
from app.settings import default_config_dir
from tests.unit.arbiter.jobs import BOOSTS, C, H, S, boost, even, failed, job, policy, result

Branches = dict[BranchName, BranchResult]
CONFIG_DIR: Path = default_config_dir()

CASES: list[tuple[str, Branches, int, bool]] = [
    # conservative_override: mean 0.35 * 60 = 21
    ("conservative_override", {H: result(0), S: result(0), C: result(60, 0.96)}, 65, True),
    ("conservative_override", {H: result(0), S: result(0), C: result(60, 0.95)}, 21, False),
    ("conservative_override", {H: result(0), S: result(0), C: result(50, 0.951)}, 65, True),
    ("conservative_override", {H: result(0), S: result(0), C: result(49.9, 0.99)}, 17, False),
    ("conservative_override", {H: result(49), S: result(49), C: result(50, 0.99)}, 65, True),
    ("conservative_override", {H: result(50), S: result(50), C: result(50, 0.99)}, 50, False),
    ("conservative_override", {H: result(0), S: result(0), C: failed(100)}, 5, False),
    # semantic_similarity: mean 0.35 * 80 = 28
    ("semantic_similarity", {H: result(0), S: result(80), C: result(0)}, 70, True),
    ("semantic_similarity", {H: result(0), S: result(79.9), C: result(0)}, 28, False),
    ("semantic_similarity", {H: result(0), S: failed(90), C: result(0)}, 5, False),
    ("semantic_similarity", {H: result(0), C: result(0)}, 0, False),
    # critical_heuristics: mean 0.3 * 75 = 22.5
    ("critical_heuristics", {H: result(75, signals=["x", "obfuscation"]), S: result(0), C: result(0)}, 70, True),
    ("critical_heuristics", {H: result(74.9, signals=["obfuscation"]), S: result(0), C: result(0)}, 22, False),
    ("critical_heuristics", {H: result(75, signals=["x"]), S: result(0), C: result(0)}, 23, False),
    ("critical_heuristics", {H: result(75), S: result(0, signals=["obfuscation"]), C: result(0)}, 23, False),
    # classifier_confidence: mean 0.35 * 60 = 21
    ("classifier_confidence", {H: result(0), S: result(0), C: result(60, 0.901)}, 85, True),
    ("classifier_confidence", {H: result(0), S: result(0), C: result(60, 0.9)}, 21, False),
    ("classifier_confidence", {H: result(0), S: result(0), C: result(49.9, 0.99)}, 17, False),
    ("classifier_confidence", {H: result(60), S: result(60), C: result(60, 0.91)}, 85, True),
    # unanimous_high
    ("unanimous_high", even(66), 90, True),
    ("unanimous_high", even(65.4), 65, False),
    ("unanimous_high", {H: result(100), S: result(100), C: result(65)}, 88, False),
    ("unanimous_high", {H: result(66), S: result(66), C: failed()}, 90, True),
    ("unanimous_high", {H: result(66), S: result(60), C: failed()}, 60, False),
    ("unanimous_high", {H: failed(), S: failed(), C: result(66)}, 90, True),
    ("unanimous_high", {H: result(70), C: result(70)}, 90, True),
]


@pytest.mark.parametrize(("name", "branches", "score", "applies"), CASES)
def test_boost_alone(name: str, branches: Branches, score: int, applies: bool) -> None:
    judgement = decide(job(branches), policy(name))
    assert (judgement.score, judgement.boosts) == (score, [name] if applies else [])


@pytest.mark.parametrize(("name", "branches"), [(name, branches) for name, branches, _, applies in CASES if applies])
def test_disabled_boost_does_nothing(name: str, branches: Branches) -> None:
    without, disabled = policy(), policy(boost(name, enabled=False))
    assert decide(job(branches), disabled) == decide(job(branches), without)


@pytest.mark.parametrize(("name", "branches"), [(name, branches) for name, branches, _, applies in CASES if applies])
def test_boost_takes_its_target_from_the_policy(name: str, branches: Branches) -> None:
    assert decide(job(branches), policy(boost(name, raise_to=97))).score == 97


def test_boosts_are_reported_in_the_policys_order_when_each_raises() -> None:
    branches = {H: result(75, signals=["obfuscation"]), S: result(0), C: result(60, 0.96)}
    assert decide(job(branches), policy(*BOOSTS)).boosts == [
        "conservative_override",
        "critical_heuristics",
        "classifier_confidence",
    ]
    reordered = policy("classifier_confidence", "critical_heuristics", "conservative_override")
    assert decide(job(branches), reordered).boosts == ["classifier_confidence"]


def test_a_boost_that_would_not_raise_is_not_reported() -> None:
    judgement = decide(job(even(95)), policy("semantic_similarity", "unanimous_high"))
    assert (judgement.score, judgement.boosts) == (95, [])


def random_branches(rng: random.Random) -> Branches:
    branches = {}
    for name in BranchName:
        score = rng.choice([rng.uniform(0, 100), 30.5, 49.5, 50, 65.5, 75, 80])
        confidence = rng.choice([0.5, 0.9, 0.91, 0.95, 0.96, 0.99])
        signals = rng.choice([[], ["obfuscation"]])
        branches[name] = result(score, confidence, signals=signals, degraded=rng.random() < 0.2)
    return branches


SHIPPED = [load_policies(CONFIG_DIR).get(name) for name in load_policies(CONFIG_DIR).names]
SUBSETS = [
    policy(*chosen, block_at=block_at)
    for size in range(len(BOOSTS) + 1)
    for chosen in itertools.combinations(BOOSTS, size)
    for block_at in (40, 50)
]


@pytest.mark.parametrize("chosen", [*SHIPPED, policy(*BOOSTS)], ids=lambda chosen: chosen.name)
def test_boosts_never_lower_the_score(chosen: Policy) -> None:
    bare = chosen.model_copy(update={"boosts": ()})
    rng = random.Random(1)  # noqa: S311
    for _ in range(1000):
        given = job(random_branches(rng))
        assert decide(given, chosen).score >= decide(given, bare).score


@pytest.mark.parametrize("chosen", [*SHIPPED, policy(*BOOSTS)], ids=lambda chosen: chosen.name)
def test_raising_a_branch_never_lowers_the_score(chosen: Policy) -> None:
    rng = random.Random(2)  # noqa: S311
    for _ in range(2000):
        branches = random_branches(rng)
        name = rng.choice(list(BranchName))
        more = min(100, branches[name].score + rng.choice([0.1, 1, 10, 50]))
        raised = {**branches, name: branches[name].model_copy(update={"score": more})}
        assert decide(job(raised), chosen).score >= decide(job(branches), chosen).score


@pytest.mark.parametrize("chosen", SUBSETS, ids=lambda chosen: "+".join(b.name for b in chosen.boosts) or "none")
def test_raising_a_branch_never_unblocks_whatever_boosts_are_on(chosen: Policy) -> None:
    rng = random.Random(3)  # noqa: S311
    for _ in range(200):
        branches = random_branches(rng)
        name = rng.choice(list(BranchName))
        more = min(100, branches[name].score + rng.choice([1, 10, 50]))
        raised: dict[str, Any] = {**branches, name: branches[name].model_copy(update={"score": more})}
        if decide(job(branches), chosen).verdict is Verdict.BLOCKED:
            assert decide(job(raised), chosen).verdict is Verdict.BLOCKED
