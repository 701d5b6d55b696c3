"""Fits where the encoder's first judgement is enough, and puts it on the scale of the last one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

MISSED: Final = 0.005
"""Share of the windows that the last judgement calls an attack which the first one may wave through by itself. On the
held-out tenth of the own text this reads 37 % of the harmless windows to the end, 1 % would 30 %; of the attacks 86 %
are found at 2 % false positives, as where everything is read to the end, and at 5 % 92.0 instead of 92.6 %."""
STOPPED: Final = 0.001
"""Share of the windows that the last judgement calls harmless which the first one may call an attack by itself: of the
attacks' windows 54 % are then read to the end. Five times as much would cost 6 points of what is found at 2 %."""


@dataclass(frozen=True, slots=True)
class Exits:
    factor: float
    """What the first judgement's logit is multiplied with, so that it is on the scale of the last one's."""
    summand: float
    doubtful: tuple[float, float]
    """Scaled logits of the first judgement from and up to which a window is read to the end."""
    share: float
    """Of the windows it was fitted on that are read to the end."""


def fit(first: Sequence[NDArray[np.float32]], last: Sequence[NDArray[np.float32]]) -> Exits:
    """Fit on the windows' logits of texts that no weight has seen, at both exits.

    The line is that of the two logits' means and spreads, so that both call as many windows an attack. Where the last
    judgement calls all windows the same, all are doubtful.
    """
    shallow, deep = (np.concatenate(logits).astype(np.float64) for logits in (first, last))
    factor = float(deep.std() / max(shallow.std(), 1e-6))
    summand = float(deep.mean() - factor * shallow.mean())
    scaled = factor * shallow + summand
    attacks, harmless = scaled[deep > 0], scaled[deep <= 0]
    low = float(np.quantile(attacks, MISSED) if len(attacks) else scaled.min())
    high = max(low, float(np.quantile(harmless, 1 - STOPPED) if len(harmless) else scaled.max()))
    return Exits(factor, summand, (low, high), float(np.mean((scaled >= low) & (scaled <= high))))
