"""Shows that the arithmetic gives the values that are published or can be counted by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from app.evaluation.measures import (
    Labels,
    Scores,
    Share,
    area_under_curve,
    bins_of,
    calibration_error,
    curve,
    percentile,
    share,
)


def scores(*values: float) -> Scores:
    return np.array(values, np.float64)


def labels(*values: int) -> Labels:
    return np.array(values, np.bool_)


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (20, 20, 0.8389, 1),
    ],
)
def test_intervals_are_those_of_newcombe_1998(hits: int, of: int, low: float, high: float) -> None:
    found = Share.counted(hits, of)
    assert (found.hits, found.of, found.value) == (hits, of, hits / of)
    assert found.low == pytest.approx(low, abs=5e-5)
    assert found.high == pytest.approx(high, abs=5e-5)
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_a_share_of_nothing_is_none() -> None:
    assert share(labels()) is None
    found = share(labels(1, 0, 0, 1))
    assert found is not None
    assert found.value == 0.5


def test_scores_fall_into_ten_parts_and_the_highest_into_the_last() -> None:
    bins = bins_of(scores(0.0, 0.05, 0.1, 0.95, 1.0), labels(0, 1, 1, 1, 1))
    assert [(part.low, part.texts) for part in bins] == [(0.0, 2), (0.1, 1), (0.9, 2)]
    assert (bins[0].mean_score, bins[0].attack_share) == (pytest.approx(0.025), 0.5)


@pytest.mark.parametrize(
    ("found", "attack", "expected"),
    [
        (scores(1, 1, 0, 0), labels(1, 1, 0, 0), 0),
        (scores(1, 1, 0, 0), labels(0, 0, 1, 1), 1),
        (scores(0.75, 0.75, 0.75, 0.75), labels(1, 1, 1, 0), 0),
        # Three of four texts are 0.2 off, one is right.
        (scores(0.8, 0.8, 0.8, 0.0), labels(1, 1, 1, 0), 0.15),
    ],
)
def test_calibration_error_is_the_mean_gap(found: Scores, attack: Labels, expected: float) -> None:
    assert calibration_error(bins_of(found, attack)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("found", "attack", "expected"),
    [
        (scores(0.9, 0.8, 0.2, 0.1), labels(1, 1, 0, 0), 1),
        (scores(0.9, 0.8, 0.2, 0.1), labels(0, 0, 1, 1), 0),
        (scores(0.5, 0.5, 0.5), labels(1, 0, 0), 0.5),
        # Of the four pairs of an attack and a harmless text, two are in order and one is a tie.
        (scores(0.9, 0.3, 0.3, 0.4), labels(1, 1, 0, 0), 0.625),
        (scores(0.9, 0.8), labels(1, 1), None),
        (scores(0.9, 0.8), labels(0, 0), None),
    ],
)
def test_area_is_the_share_of_pairs_in_order(found: Scores, attack: Labels, expected: float | None) -> None:
    assert area_under_curve(found, attack) == (expected if expected is None else pytest.approx(expected))


def test_the_curve_goes_from_nothing_to_everything_by_every_threshold() -> None:
    found = curve(scores(0.9, 0.6, 0.6, 0.1), labels(1, 1, 0, 0))
    assert found == [(0, 0), (0, 0.5), (0.5, 1), (1, 1)]


@pytest.mark.parametrize(("values", "percent", "expected"), [([3.0], 95, 3), ([1, 2, 3], 50, 2), ([0, 10], 95, 9.5)])
def test_percentiles_stand_between_neighbours(values: Sequence[float], percent: float, expected: float) -> None:
    assert percentile(values, percent) == pytest.approx(expected)
