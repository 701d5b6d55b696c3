"""Fits the step from window logits to a probability, at the share of false alarms that was asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize  # type: ignore[import-untyped]

from app.detection.evidence import MAX_WINDOWS_COUNTED, Calibration
from app.detection.impression import NEUTRAL, Impression, Share

FALSE_POSITIVE_RATE: Final = 0.05
"""Share of unseen harmless own texts, most of them written to look like attacks, that may reach a score of 50."""
LIGHT_FALSE_POSITIVE_RATE: Final = 0.07
"""The same for the light models, which would find too little at 5 %."""
MEAN_SHARE: Final = 0.5
"""The mean of the windows weighs at most so much of what the strongest one does: otherwise an attack could be talked
away by much harmless text around it, which texts to fit on, of one window most of them, say little about."""
_RIDGE: Final = 1e-3
_BINS: Final = 10
_MIXED: Final = np.eye(6) + np.eye(6, k=1) * np.array([1 / MEAN_SHARE, 0, 0, 0, 0, 0])[:, None]
"""From what is fitted to the weights: the strongest window's holds the mean's over its share, and more."""

Logits = Sequence[NDArray[np.float32]]
"""For each text, the logits of its windows; may be empty."""


@dataclass(frozen=True, slots=True)
class Fitted:
    calibration: Calibration
    share: Share
    """Of the light models' impression; nothing where none was given."""
    attack_share: float
    """The share of attacks in traffic at which 100 times the score is a probability."""


def fit(
    logits: Logits,
    attack: NDArray[np.bool_],
    rate: float = FALSE_POSITIVE_RATE,
    impressions: Sequence[Impression] | None = None,
) -> Fitted:
    """Fit on texts that the model has not seen; `attack` and, where the light models count, `impressions` have one
    entry per text.

    The bias is then moved until `rate` of the harmless ones reach one half: that is the same as assuming another share
    of attacks than the text has.
    """
    inputs = _inputs(logits, impressions) @ _MIXED
    target = attack.astype(np.float64)

    def loss(point: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        value = inputs @ point
        probability = 1 / (1 + np.exp(-np.clip(value, -40, 40)))
        total = np.logaddexp(0, np.where(target > 0, -value, value)).sum() + _RIDGE * (point @ point)
        return float(total), inputs.T @ (probability - target) + 2 * _RIDGE * point

    # The strongest window, the others and the light models speak for an attack, and having many windows never does.
    bounds = [(0, None), (0, None), (None, 0), (0, None), (0, None), (None, None)]
    found = minimize(loss, np.array([1.0, 0, 0, 0, 0, 0]), jac=True, bounds=bounds).x
    peak, mean, breadth, wording, meaning, bias = (_MIXED @ found).tolist()
    harmless = inputs[target == 0] @ found
    shift = float(np.quantile(harmless, 1 - rate))
    share = float(target.mean())
    assumed = 1 / (1 + math.exp(-(math.log(share / (1 - share)) - shift)))
    return Fitted(Calibration(peak, mean, breadth, bias - shift), Share(wording, meaning), assumed)


def probabilities(logits: Logits, calibration: Calibration) -> NDArray[np.float64]:
    """Return the probability of an attack of each text, as the branch would."""
    return np.array([calibration.probability(values) for values in logits])


def expected_calibration_error(
    probability: NDArray[np.float64], attack: NDArray[np.bool_], attack_share: float
) -> float:
    """Return the mean gap between probability and share of attacks over ten equal bins (Naeini et al., 2015).

    Attacks and harmless texts are weighted so that attacks make up `attack_share`.
    """
    measured = float(attack.mean())
    weight = np.where(attack, attack_share / measured, (1 - attack_share) / (1 - measured))
    bins = np.minimum((probability * _BINS).astype(int), _BINS - 1)
    gaps = np.bincount(bins, weights=weight * (probability - attack), minlength=_BINS)
    return float(np.abs(gaps).sum() / weight.sum())


def _inputs(logits: Logits, impressions: Sequence[Impression] | None) -> NDArray[np.float64]:
    if impressions is None:
        impressions = [NEUTRAL] * len(logits)
    return np.array(
        [
            (
                max(float(values.max()), -30.0) if len(values) else -30.0,
                float(values.mean()) if len(values) else 0.0,
                math.log(min(max(len(values), 1), MAX_WINDOWS_COUNTED)),
                impression.wording,
                impression.meaning,
                1.0,
            )
            for values, impression in zip(logits, impressions, strict=True)
        ]
    )
