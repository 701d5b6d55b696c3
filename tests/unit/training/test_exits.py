"""When the encoder's first judgement is enough."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

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
    fitted = exits.fit(windows(first), windows(last))
    assert fitted.factor * first + fitted.summand == pytest.approx(last, abs=0.01)


def test_few_windows_are_decided_against_the_last_judgement() -> None:
    first, last = two_judgements(noise=2.0)
    fitted = exits.fit(windows(first), windows(last))
    scaled = fitted.factor * first + fitted.summand
    low, high = fitted.doubtful
    assert low < 0 < high
    assert np.mean(scaled[last > 0] < low) == pytest.approx(exits.MISSED, abs=2e-3)
    assert np.mean(scaled[last <= 0] > high) == pytest.approx(exits.STOPPED, abs=1e-3)
    assert np.mean((scaled >= low) & (scaled <= high)) == pytest.approx(fitted.share, abs=1e-3)


@pytest.mark.parametrize("shift", [20.0, -20.0])
def test_where_the_last_judgement_never_differs_all_is_doubtful(shift: float) -> None:
    first, last = two_judgements(noise=1.0)
    fitted = exits.fit(windows(first), windows(last + shift))
    assert fitted.share > 0.99


def test_the_better_the_first_judgement_the_less_is_read_to_the_end() -> None:
    shares = [exits.fit(*map(windows, two_judgements(noise))).share for noise in (0.0, 1.0, 3.0)]
    assert shares[0] < 0.02
    assert shares == sorted(shares)
    assert shares[2] > 0.2
