"""What the light models make of a text, on the scale that the encoder's judgements are made on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest

from app.detection.features import PreparedFeatures, featurise
from app.detection.impression import LIMIT, NONE, Impression, Share, log_odds
from app.detection.normalise import prepare


@dataclass
class Light:
    answer: float

    def probability(self, features: PreparedFeatures) -> float:
        return self.answer


def test_log_odds_are_bounded_on_both_sides() -> None:
    assert log_odds(0.5) == 0
    assert log_odds(0.9) == pytest.approx(math.log(9))
    assert log_odds(0.1) == pytest.approx(-math.log(9))
    assert [log_odds(value) for value in (0.0, 1e-9, 1.0, 1 - 1e-9)] == [-LIMIT, -LIMIT, LIMIT, LIMIT]


def test_wording_comes_first_and_meaning_second() -> None:
    impression = Impression.of(featurise(prepare("good morning")), (Light(0.9), Light(0.1)))
    assert impression == Impression(pytest.approx(math.log(9)), pytest.approx(-math.log(9)))
    assert Share(2.0, 0.5).logit(impression) == pytest.approx(1.5 * math.log(9))
    assert NONE.logit(impression) == 0


@pytest.mark.parametrize("described", [{}, {"wording": 1}, {"wording": "x", "meaning": 1}, {"wording": None}])
def test_weights_that_are_not_there_are_refused(described: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        Share.read(described)


@pytest.mark.parametrize("value", [-0.1, math.inf, math.nan])
def test_weights_that_are_no_weights_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="light models"):
        Share.read({"wording": 0.1, "meaning": value})
