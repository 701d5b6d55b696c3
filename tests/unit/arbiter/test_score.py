"""How branch scores become one score, a level and a verdict."""

from __future__ import annotations

import pytest

from app.arbiter.decide import decide
from app.contracts import BranchName, BranchResult, ThreatLevel, Verdict
from tests.unit.arbiter.jobs import C, H, S, even, failed, job, policy, result


@pytest.mark.parametrize(
    ("branch_score", "score", "level", "verdict"),
    [
        (0, 0, ThreatLevel.LOW, Verdict.ALLOWED),
        (29.4, 29, ThreatLevel.LOW, Verdict.ALLOWED),
        (29.5, 30, ThreatLevel.LOW, Verdict.ALLOWED),
        (30, 30, ThreatLevel.LOW, Verdict.ALLOWED),
        (30.4, 30, ThreatLevel.LOW, Verdict.ALLOWED),
        (30.5, 31, ThreatLevel.MEDIUM, Verdict.ALLOWED),
        (49.4, 49, ThreatLevel.MEDIUM, Verdict.ALLOWED),
        (49.5, 50, ThreatLevel.MEDIUM, Verdict.BLOCKED),
        (50, 50, ThreatLevel.MEDIUM, Verdict.BLOCKED),
        (65, 65, ThreatLevel.MEDIUM, Verdict.BLOCKED),
        (65.4, 65, ThreatLevel.MEDIUM, Verdict.BLOCKED),
        (66, 66, ThreatLevel.HIGH, Verdict.BLOCKED),
        (100, 100, ThreatLevel.HIGH, Verdict.BLOCKED),
    ],
)
def test_score_is_rounded_half_up_before_level_and_verdict(
    branch_score: float, score: int, level: ThreatLevel, verdict: Verdict
) -> None:
    judgement = decide(job(even(branch_score)), policy())
    assert (judgement.score, judgement.threat_level, judgement.verdict) == (score, level, verdict)


@pytest.mark.parametrize(
    ("branches", "score"),
    [
        ({H: result(100), S: result(0), C: result(0)}, 30),
        ({H: result(0), S: result(100), C: result(0)}, 35),
        ({H: result(0), S: result(0), C: result(100)}, 35),
        ({H: result(80), S: result(40), C: result(20)}, 45),
        # 14.5, which binary fractions make 14.499999999999998.
        ({H: result(4), S: result(24), C: result(14)}, 15),
        # One degraded: (0.30 * 60 + 0.35 * 60) / (0.30 + 0.35 + 0.035) = 56.9
        ({H: result(60), S: result(60), C: failed()}, 57),
        # (0.35 * 60 * 2) / (0.03 + 0.7) = 57.5
        ({H: failed(), S: result(60), C: result(60)}, 58),
        # Its score still counts a tenth: (39 + 0.035 * 100) / 0.685 = 62.0
        ({H: result(60), S: result(60), C: failed(100)}, 62),
        # Two degraded: 0.30 * 90 / (0.30 + 0.07) = 73.0
        ({H: result(90), S: failed(), C: failed()}, 73),
        # 0.35 * 90 / (0.35 + 0.03 + 0.035) = 75.9
        ({H: failed(), S: failed(), C: result(90)}, 76),
        # A missing branch counts as a degraded one.
        ({H: result(60), S: result(60)}, 57),
        ({H: result(90)}, 73),
    ],
)
def test_score_is_the_weighted_mean_with_degraded_branches_at_a_tenth(
    branches: dict[BranchName, BranchResult], score: int
) -> None:
    assert decide(job(branches), policy()).score == score


def test_degraded_factor_zero_leaves_a_failed_branch_out() -> None:
    branches = {H: result(60), S: result(60), C: failed(100)}
    assert decide(job(branches), policy(degraded_factor=0)).score == 60


@pytest.mark.parametrize("branches", [{}, {H: failed(100)}, dict.fromkeys(BranchName, failed(100))])
def test_all_degraded_blocks_at_the_lowest_blocking_score(branches: dict[BranchName, BranchResult]) -> None:
    judgement = decide(job(branches), policy("unanimous_high", block_at=45))
    assert (judgement.verdict, judgement.score, judgement.boosts) == (Verdict.BLOCKED, 45, [])
    assert "No detection branch could judge the text" in judgement.explanations[0]


def test_all_degraded_can_be_let_through_and_says_so() -> None:
    judgement = decide(job(dict.fromkeys(BranchName, failed(100))), policy("unanimous_high", all_degraded="allow"))
    assert (judgement.verdict, judgement.score) == (Verdict.ALLOWED, 0)
    assert "pass unjudged" in judgement.explanations[0]


@pytest.mark.parametrize("block_at", [31, 50, 100])
def test_block_threshold_is_the_policys(block_at: int) -> None:
    chosen = policy(block_at=block_at)
    assert decide(job(even(block_at)), chosen).verdict is Verdict.BLOCKED
    assert decide(job(even(block_at - 1)), chosen).verdict is Verdict.ALLOWED
