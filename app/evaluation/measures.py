"""The arithmetic of an evaluation: shares with their intervals, ranking and calibration of scores, percentiles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

Z_95: Final = 1.959963984540054
"""Standard deviations of a normal distribution that hold 95 % of it."""
BINS: Final = 10

Scores = NDArray[np.float64]
"""Scores of 0 to 1; shape (texts,)."""
Labels = NDArray[np.bool_]
"""Whether each text is an attack; shape (texts,)."""


@dataclass(frozen=True, slots=True)
class Share:
    """A share that was counted, with its Wilson score interval of 95 % (Wilson, 1927); all of 0 to 1."""

    hits: int
    of: int
    value: float
    low: float
    high: float

    @classmethod
    def counted(cls, hits: int, of: int) -> Self:
        """Return the share `hits` of `of`, which must be at least 1."""
        value, spread = hits / of, Z_95 * Z_95 / of
        middle = value + spread / 2
        half = math.sqrt(spread * (value * (1 - value) + spread / 4))
        low, high = (middle - half) / (1 + spread), (middle + half) / (1 + spread)
        # At the ends the formula gives 0 and 1, but for what binary fractions lose.
        return cls(hits, of, value, 0.0 if hits == 0 else low, 1.0 if hits == of else high)


@dataclass(frozen=True, slots=True)
class Bin:
    """The texts whose scores fall into one of BINS equal parts."""

    low: float
    """Lower end of the part, 0 to 1; the last part holds its upper end too."""
    texts: int
    mean_score: float
    attack_share: float


def share(chosen: Labels) -> Share | None:
    """Return the share of what is true; None of nothing."""
    return Share.counted(int(chosen.sum()), len(chosen)) if len(chosen) else None


def bins_of(scores: Scores, attack: Labels) -> list[Bin]:
    """Return the parts that hold texts, lowest scores first."""
    places = np.minimum((scores * BINS).astype(int), BINS - 1)
    found = []
    for place in np.unique(places).tolist():
        inside = places == place
        mean_score, attack_share = float(scores[inside].mean()), float(attack[inside].mean())
        found.append(Bin(place / BINS, int(inside.sum()), mean_score, attack_share))
    return found


def calibration_error(bins: Sequence[Bin]) -> float:
    """Return the mean gap between score and share of attacks, weighted by texts (Naeini et al., 2015)."""
    texts = sum(part.texts for part in bins)
    return sum(part.texts * abs(part.mean_score - part.attack_share) for part in bins) / texts


def area_under_curve(scores: Scores, attack: Labels) -> float | None:
    """Return the chance that an attack scores above a harmless text, ties counting half; None without both labels."""
    attacks, harmless = scores[attack], np.sort(scores[~attack])
    if not len(attacks) or not len(harmless):
        return None
    below = harmless.searchsorted(attacks, "left") + harmless.searchsorted(attacks, "right")
    return float(below.mean() / (2 * len(harmless)))


def curve(scores: Scores, attack: Labels) -> list[tuple[float, float]]:
    """Return the ROC curve, (false-positive rate, recall) of each threshold, highest first; needs both labels."""
    attacks, harmless = np.sort(scores[attack]), np.sort(scores[~attack])
    thresholds = np.unique(scores)[::-1]
    recall = 1 - attacks.searchsorted(thresholds, "left") / len(attacks)
    false_positives = 1 - harmless.searchsorted(thresholds, "left") / len(harmless)
    return [(0.0, 0.0), *zip(false_positives.tolist(), recall.tolist(), strict=True)]


def percentile(values: Sequence[float], percent: float) -> float:
    """Return a percentile of values, of which there must be one, between neighbours where none is at that place."""
    return float(np.percentile(np.asarray(values, np.float64), percent))
