"""When the encoder's first judgement is enough."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from app.detection.impression import Impression, Share
from app.training import exits


def windows(values: NDArray[np.float64]) -> list[NDArray[np.float32]]:
    return [part.astype(np.float32) for part in np.array_split(values, 50)]


def two_judgements(noise: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the first logits, on a scale of their own, and the last ones."""
    chance = np.random.default_rng(4)
    last = np.where(chance.random(4_000) < 0.3, 4, -4) + chance.normal(0, 2, 4_000)
    return (last + chance.normal(0, noise, 4_000)) / 3 + 1, last


def test_the_first_judgement_is_put_on_the_scale_of_the_last() -> None:
    first, last = two_judgements(noise=0.0)
    fitted = exits.line(windows(first), windows(last))
    assert fitted.factor * first + fitted.summand == pytest.approx(last, abs=0.01)


def test_few_windows_are_decided_against_the_last_judgement() -> None:
    first, last = two_judgements(noise=2.0)
    fitted = exits.line(windows(first), windows(last))
    scaled = fitted.factor * first + fitted.summand
    low, high = fitted.doubtful
    assert low < 0 < high
    assert np.mean(scaled[last > 0] < low) == pytest.approx(exits.TEACHER_MISSED, abs=2e-3)
    assert np.mean(scaled[last <= 0] > high) == pytest.approx(exits.STOPPED, abs=1e-3)
    assert np.mean((scaled >= low) & (scaled <= high)) == pytest.approx(fitted.share, abs=1e-3)


@pytest.mark.parametrize("shift", [20.0, -20.0])
def test_where_the_last_judgement_never_differs_all_is_doubtful(shift: float) -> None:
    first, last = two_judgements(noise=1.0)
    fitted = exits.line(windows(first), windows(last + shift))
    assert fitted.share > 0.99


def test_the_better_the_first_judgement_the_less_is_read_to_the_end() -> None:
    shares = [exits.line(*map(windows, two_judgements(noise))).share for noise in (0.0, 1.0, 3.0)]
    assert shares[0] < 0.02
    assert shares == sorted(shares)
    assert shares[2] > 0.2


def impressions(last: NDArray[np.float64], noise: float) -> list[Impression]:
    """Return what light models that are right but for some noise make of each of the texts."""
    chance = np.random.default_rng(6)
    each = [part.mean() + chance.normal(0, noise) for part in np.array_split(last, 50)]
    return [Impression(value, chance.normal()) for value in each]


def test_what_the_light_models_know_counts_as_much_as_it_tells() -> None:
    first, last = two_judgements(noise=6.0)
    last = last + np.repeat(np.random.default_rng(7).normal(0, 4, 50), 80)  # Some texts are harmless as a whole.
    told = exits.fit(windows(first), windows(last), impressions(last, noise=0.1))
    guessed = exits.fit(windows(first), windows(last), impressions(last, noise=50.0))
    assert told.doubt_share.wording > 10 * guessed.doubt_share.wording
    assert told.doubt_share.wording > 10 * told.doubt_share.meaning
    assert told.share < guessed.share - 0.05


def test_what_speaks_the_other_way_does_not_count() -> None:
    first, last = two_judgements(noise=2.0)
    turned = [Impression(-each.wording, -each.wording) for each in impressions(last, noise=0.1)]
    assert exits.fit(windows(first), windows(last), turned).doubt_share == Share(0.0, 0.0)


def test_few_windows_are_decided_against_the_last_judgement_with_an_impression_too() -> None:
    first, last = two_judgements(noise=2.0)
    seen = impressions(last, noise=0.5)
    found = exits.fit(windows(first), windows(last), seen)
    doubtful = np.concatenate(list(map(found.is_doubtful, windows(first), seen)))
    value = first + np.repeat([found.doubt_share.logit(each) for each in seen], 80)
    assert np.mean(value[last > 0] < found.doubtful[0]) == pytest.approx(exits.MISSED, abs=2e-3)
    assert np.mean(value[last <= 0] > found.doubtful[1]) == pytest.approx(exits.STOPPED, abs=1e-3)
    assert doubtful.mean() == pytest.approx(found.share, abs=1e-3)
