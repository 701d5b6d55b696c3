"""A message that is worse together with those before it: score, branches and boosts tell of one reading."""

from __future__ import annotations

import pytest

from app.arbiter.conversation import decide_chat
from app.chat import Role
from app.contracts import DetectionReport, MessageReport, Verdict
from tests.unit.arbiter.jobs import CLEAN_SCAN, even, job, policy


def report(score: float, *, denied: bool = False) -> DetectionReport:
    return DetectionReport(branches=even(score), denied=["projects"] if denied else [], model_version="test")


@pytest.mark.parametrize(("alone", "together"), [(75, 10), (10, 75)])
def test_score_branches_and_boosts_are_those_of_the_reading_with_the_higher_score(alone: int, together: int) -> None:
    message = MessageReport(
        role=Role.USER,
        texts=[(0, 5)],
        detection=report(alone),
        together=report(together, denied=True),
        pii=CLEAN_SCAN,
    )
    judged = decide_chat(job(), [message], policy("unanimous_high", block_at=95))
    assert judged.whole.verdict is Verdict.BLOCKED
    assert (judged.whole.score, judged.whole.boosts) == (90, ["unanimous_high"])
    assert {result.score for result in judged.branches.values()} == {75}
