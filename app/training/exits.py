"""Fits where the encoder's first judgement is enough, and puts it on the scale of the last one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.detection.impression import Impression, Share

MISSED: Final = 0.01
"""Share of the windows that the last judgement calls an attack which may be waved through without it. On the held-out
tenth of the own text, with the models of 2026.11-e5-6, 29 % of the harmless windows were then read to the end, with
twice as much 22 %; of the attacks 79 and 80 % were found at 2 % false positives, 87.9 and 87.5 % at 4 %."""
STOPPED: Final = 0.001
"""Share of the windows that the last judgement calls harmless which may be called an attack without it. Five times as
much would cost 6 points of what is found at 2 % false positives."""
TEACHER_MISSED: Final = 0.005
"""MISSED while there are no light models yet, for the encoder that teaches them."""

Logits = Sequence[NDArray[np.float32]]
"""Of the windows of each text."""


@dataclass(frozen=True, slots=True)
class Line:
    """Puts the first judgement on the scale of the last one, and says where it is enough by itself."""

    factor: float
    """What the first judgement's logit is multiplied with."""
    summand: float
    doubtful: tuple[float, float]
    """Scaled logits of the first judgement from and up to which a window is read to the end."""
    share: float
    """Of the windows it was fitted on that are read to the end."""


@dataclass(frozen=True, slots=True)
class Exits:
    """Where the first judgement and the light models' impression are enough together."""

    doubt_share: Share
    """What of the impression is added to a window's first logit."""
    doubtful: tuple[float, float]
    """Sums from and up to which a window is read to the end."""
    share: float
    """Of the windows it was fitted on that are read to the end."""

    def is_doubtful(self, first: NDArray[np.float32], impression: Impression) -> NDArray[np.bool_]:
        """Return which windows of a text are read to the end."""
        value = first + self.doubt_share.logit(impression)
        doubtful: NDArray[np.bool_] = (value >= self.doubtful[0]) & (value <= self.doubtful[1])
        return doubtful


def line(first: Logits, last: Logits) -> Line:
    """Fit on the windows' logits of texts that no weight has seen, at both exits.

    The line is that of the two logits' means and spreads, so that both call as many windows an attack. Where the last
    judgement calls all windows the same, all are doubtful.
    """
    shallow, deep = _all(first), _all(last)
    factor = float(deep.std() / max(shallow.std(), 1e-6))
    summand = float(deep.mean() - factor * shallow.mean())
    doubtful, share = _bounds(factor * shallow + summand, deep, TEACHER_MISSED)
    return Line(factor, summand, doubtful, share)


def fit(first: Logits, last: Logits, impressions: Sequence[Impression]) -> Exits:
    """Fit on texts that no weight has seen: the logits of their windows at both exits, the first on the last one's
    scale, and what the light models make of each text.

    The impression counts as much as it does in a regression (least squares) of the last judgement on the first and on
    it, and never against an attack.
    """
    shallow, deep = _all(first), _all(last)
    counts = [len(logits) for logits in first]
    wording = np.repeat([impression.wording for impression in impressions], counts)
    meaning = np.repeat([impression.meaning for impression in impressions], counts)
    inputs = np.stack((shallow, wording, meaning, np.ones(len(shallow))), axis=1)
    weights, *_ = np.linalg.lstsq(inputs, deep, rcond=None)
    seen = max(float(weights[0]), 1e-6)
    doubt_share = Share(max(float(weights[1]) / seen, 0.0), max(float(weights[2]) / seen, 0.0))
    value = shallow + doubt_share.wording * wording + doubt_share.meaning * meaning
    doubtful, share = _bounds(value, deep, MISSED)
    return Exits(doubt_share, doubtful, share)


def _all(logits: Logits) -> NDArray[np.float64]:
    return np.concatenate(logits).astype(np.float64)


def _bounds(value: NDArray[np.float64], last: NDArray[np.float64], missed: float) -> tuple[tuple[float, float], float]:
    """Return from and up to where windows are doubtful, and their share."""
    attacks, harmless = value[last > 0], value[last <= 0]
    low = float(np.quantile(attacks, missed) if len(attacks) else value.min())
    high = max(low, float(np.quantile(harmless, 1 - STOPPED) if len(harmless) else value.max()))
    return (low, high), float(np.mean((value >= low) & (value <= high)))
