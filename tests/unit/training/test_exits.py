"""When an earlier judgement of the encoder is enough."""

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
    fitted = exits.lines([windows(first), windows(last)])[0]
    assert fitted.factor * first + fitted.summand == pytest.approx(last, abs=0.01)


def test_few_windows_are_decided_against_the_last_judgement() -> None:
    first, last = two_judgements(noise=2.0)
    fitted = exits.lines([windows(first), windows(last)])[0]
    scaled = fitted.factor * first + fitted.summand
    low, high = fitted.doubtful
    assert low < 0 < high
    assert np.mean(scaled[last > 0] < low) == pytest.approx(exits.TEACHER_MISSED, abs=2e-3)
    assert np.mean(scaled[last <= 0] > high) == pytest.approx(exits.STOPPED, abs=1e-3)
    assert np.mean((scaled >= low) & (scaled <= high)) == pytest.approx(fitted.share, abs=1e-3)


@pytest.mark.parametrize("shift", [20.0, -20.0])
def test_where_the_last_judgement_never_differs_all_is_doubtful(shift: float) -> None:
    first, last = two_judgements(noise=1.0)
    fitted = exits.lines([windows(first), windows(last + shift)])[0]
    assert fitted.share > 0.99


def test_the_better_the_first_judgement_the_less_is_read_to_the_end() -> None:
    shares = [exits.lines(list(map(windows, two_judgements(noise))))[0].share for noise in (0.0, 1.0, 3.0)]
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
    (told,), (guessed,) = (
        exits.fit([windows(first), windows(last)], impressions(last, noise)) for noise in (0.1, 50.0)
    )
    assert told.exit.share.wording > 10 * guessed.exit.share.wording
    assert told.exit.share.wording > 10 * told.exit.share.meaning
    assert told.share < guessed.share - 0.05


def test_what_speaks_the_other_way_does_not_count() -> None:
    first, last = two_judgements(noise=2.0)
    turned = [Impression(-each.wording, -each.wording) for each in impressions(last, noise=0.1)]
    (found,) = exits.fit([windows(first), windows(last)], turned)
    assert found.exit.share == Share(0.0, 0.0)


def test_few_windows_are_decided_against_the_last_judgement_with_an_impression_too() -> None:
    first, last = two_judgements(noise=2.0)
    seen = impressions(last, noise=0.5)
    (found,) = exits.fit([windows(first), windows(last)], seen)
    value = first + np.repeat([found.exit.share.logit(each) for each in seen], 80)
    low, high = found.exit.doubtful
    assert np.mean(value[last > 0] < low) == pytest.approx(exits.MISSED, abs=2e-3)
    assert np.mean(value[last <= 0] > high) == pytest.approx(exits.STOPPED, abs=1e-3)
    assert np.mean((value >= low) & (value <= high)) == pytest.approx(found.share, abs=1e-3)


def test_each_exit_is_fitted_on_the_windows_that_come_to_it_and_decides_those_it_is_sure_of() -> None:
    first, last = two_judgements(noise=4.0)
    middle = (last + np.random.default_rng(5).normal(0, 1, len(last))) / 2
    seen = impressions(last, noise=50.0)
    judged = [windows(first), windows(middle), windows(last)]
    for line in exits.lines(judged):
        assert 0 < line.share < 1
    found = exits.fit(judged, seen)
    (alone,) = exits.fit([judged[0], judged[2]], seen)
    assert found[0] == alone
    values = [
        value + np.repeat([each.exit.share.logit(impression) for impression in seen], 80)
        for value, each in zip((first, middle), found, strict=True)
    ]
    doubtful = [
        (value >= each.exit.doubtful[0]) & (value <= each.exit.doubtful[1])
        for value, each in zip(values, found, strict=True)
    ]
    assert np.mean(doubtful[1][doubtful[0]]) == pytest.approx(found[1].share, abs=1e-3)
    assert np.mean((values[1] < found[1].exit.doubtful[0])[doubtful[0] & (last > 0)]) < exits.MISSED_LATER + 2e-3
    names = [windows(np.full(len(last), name)) for name in (1.0, 2.0, 3.0)]
    deciding = np.concatenate(exits.as_judged(judged, names, found, seen))
    assert deciding.tolist() == np.where(doubtful[0], np.where(doubtful[1], 3.0, 2.0), 1.0).tolist()
    assert set(deciding.tolist()) == {1.0, 2.0, 3.0}
