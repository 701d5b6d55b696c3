"""Fits where an earlier judgement of the encoder is enough, and puts it on the scale of the last one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.detection.encoder import Bounds
from app.detection.encoder_branches import Exit
from app.detection.impression import Impression, Share

MISSED: Final = 0.01
"""Share of the windows that the last judgement calls an attack which the first one may wave through. On the held-out
tenth of the own text, with the models of 2026.11-e5-6, 29 % of the harmless windows were then read on, with twice as
much 22 %; of the attacks 79 and 80 % were found at 2 % false positives, 87.9 and 87.5 % at 4 %."""
MISSED_LATER: Final = 0.003
"""The same for the judgements after it, which few windows come to."""
STOPPED: Final = 0.0001
"""Share of the windows that the last judgement calls harmless which an earlier one may call an attack. With the models
of 2026.11-e5-12 ten times as much, and MISSED at both exits, found 73.3 % of the attacks of the held-out tenth at 2 %
false positives where these find 74.4; of the harmless `unseen` windows 2.8 % were read to the end for 4.6."""
TEACHER_MISSED: Final = 0.005
"""MISSED while there are no light models yet, for the encoder that teaches them."""

Logits = Sequence[NDArray[np.float32]]
"""Of the windows of each text."""


@dataclass(frozen=True, slots=True)
class Line:
    """Puts an earlier judgement on the scale of the last one, and says where it is enough by itself."""

    factor: float
    """What the earlier judgement's logit is multiplied with."""
    summand: float
    doubtful: Bounds
    """Scaled logits from and up to which a window is read on."""
    share: float
    """Of the windows it was fitted on that are read on."""


@dataclass(frozen=True, slots=True)
class Found:
    """Where an earlier judgement and the light models' impression are enough together."""

    exit: Exit
    share: float
    """Of the windows it was fitted on that are read on."""


def lines(judged: Sequence[Logits]) -> list[Line]:
    """Fit on the windows' logits, at every exit, of texts that no weight has seen; one line for each exit but the last.

    A line is that of the two logits' means and spreads, so that both call as many windows an attack. Each is fitted on
    the windows that those before it leave doubtful. Where the last judgement calls all windows the same, all are.
    """
    *earlier, last = map(_all, judged)
    left = np.ones(len(last), bool)
    found = []
    for logits in earlier:
        deep, shallow = last[left], logits[left]
        factor = float(deep.std() / max(shallow.std(), 1e-6))
        summand = float(deep.mean() - factor * shallow.mean())
        doubtful, share = _bounds(factor * shallow + summand, deep, TEACHER_MISSED)
        found.append(Line(factor, summand, doubtful, share))
        left &= _within(factor * logits + summand, doubtful)
    return found


def fit(judged: Sequence[Logits], impressions: Sequence[Impression]) -> list[Found]:
    """Fit on texts that no weight has seen: the logits of their windows at every exit, each on the last one's scale,
    and what the light models make of each text. Each exit but the last is fitted on the windows that come to it.

    The impression counts as much as it does in a regression (least squares) of the last judgement on the earlier one
    and on it, and never against an attack.
    """
    *earlier, last = map(_all, judged)
    counts = [len(logits) for logits in judged[0]]
    wording = np.repeat([impression.wording for impression in impressions], counts)
    meaning = np.repeat([impression.meaning for impression in impressions], counts)
    left = np.ones(len(last), bool)
    found: list[Found] = []
    for logits in earlier:
        inputs = np.stack((logits, wording, meaning, np.ones(len(logits))), axis=1)
        weights, *_ = np.linalg.lstsq(inputs[left], last[left], rcond=None)
        seen = max(float(weights[0]), 1e-6)
        share = Share(max(float(weights[1]) / seen, 0.0), max(float(weights[2]) / seen, 0.0))
        value = logits + share.wording * wording + share.meaning * meaning
        doubtful, read_on = _bounds(value[left], last[left], MISSED_LATER if found else MISSED)
        found.append(Found(Exit(share, doubtful), read_on))
        left &= _within(value, doubtful)
    return found


def as_judged(
    at_exits: Sequence[Logits], values: Sequence[Logits], found: Sequence[Found], impressions: Sequence[Impression]
) -> list[NDArray[np.float32]]:
    """Return, of what each exit makes of each text's windows (`values`), that of the exit which decides; `at_exits` are
    the logits by which it is decided."""
    judged = []
    for number, impression in enumerate(impressions):
        chosen = values[0][number]
        left = np.ones(len(chosen), bool)
        for logits, following, each in zip(at_exits[:-1], values[1:], found, strict=True):
            left &= _within(logits[number] + each.exit.share.logit(impression), each.exit.doubtful)
            chosen = np.where(left, following[number], chosen)
        judged.append(chosen)
    return judged


def _all(logits: Logits) -> NDArray[np.float64]:
    return np.concatenate(logits).astype(np.float64)


def _within(values: NDArray[np.floating], bounds: Bounds) -> NDArray[np.bool_]:
    within: NDArray[np.bool_] = (values >= bounds[0]) & (values <= bounds[1])
    return within


def _bounds(value: NDArray[np.float64], last: NDArray[np.float64], missed: float) -> tuple[Bounds, float]:
    """Return from and up to where windows are doubtful, and their share."""
    attacks, harmless = value[last > 0], value[last <= 0]
    low = float(np.quantile(attacks, missed) if len(attacks) else value.min())
    high = max(low, float(np.quantile(harmless, 1 - STOPPED) if len(harmless) else value.max()))
    return (low, high), float(_within(value, (low, high)).mean())
