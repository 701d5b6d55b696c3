"""Which passages of a text the encoder reads: all of a short one; of a long one its ends and what looks suspicious."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from app.detection.encoder import WINDOW, SubWords
from app.detection.evidence import Calibration, loudest
from app.detection.features import PreparedFeatures, TextFeatures, extract, runs

PASSAGE: Final = 96
"""Sub-words of one passage. In documents of 5,000 to 20,000 characters with one planted line, 512 sub-words in
passages of 96 hold the line as often as five whole windows of 255 do, and 1,280 more often (docs/hardening.md)."""
CUT_AT_MOST: Final = 16
"""Code points for each sub-word of the budget, beyond which a text is not cut into sub-words as a whole: English has
four or five to one, and cutting 100,000 characters takes up to 140 ms."""
CUT_AT_AN_END: Final = 16
"""Code points that are cut of a longer text for each sub-word that is read at its beginning, and at its end."""
CUT_BETWEEN: Final = 8
"""Code points that are cut of it for each sub-word of the budget where the light models suspect most."""


class LightModel(Protocol):
    """A branch of fast mode, which has a first impression of a text and sees where in it to look closer."""

    @property
    def calibration(self) -> Calibration: ...

    def window_logits(self, features: TextFeatures) -> NDArray[np.float32]: ...


@dataclass(frozen=True, slots=True)
class Once:
    """A light model that works out only once what it makes of a text; belongs to one request."""

    light: LightModel
    _known: list[tuple[TextFeatures, NDArray[np.float32]]] = field(default_factory=list)

    def window_logits(self, features: TextFeatures) -> NDArray[np.float32]:
        for known, logits in self._known:
            if known is features:
                return logits
        logits = self.light.window_logits(features)
        self._known.append((features, logits))
        return logits

    def probability(self, features: PreparedFeatures) -> float:
        """Return the probability of an attack, 0 to 1, in a text and all that was hidden in it."""
        return loudest(features, self.window_logits, self.light.calibration).probability


class Suspecting(Protocol):
    """A light model, as far as it tells passages."""

    def window_logits(self, features: TextFeatures) -> NDArray[np.float32]: ...


class Passages:
    """What is read of one text, of which the encoder reads at most `budget` sub-words."""

    def __init__(self, text: str, hashed: TextFeatures | None, lights: Sequence[Suspecting], budget: int) -> None:
        """Take a text with what was hidden in it unfolded.

        Args:
            hashed: its n-grams, where they are known already.
            lights: their logits are standardised over the text and added up.
        """
        self._text = text
        self._known = hashed
        self._lights = lights
        self._budget = budget
        self._edge = min(budget // 4, WINDOW - 1)
        self._wanted: NDArray[np.bool_] | None = None

    @cached_property
    def _hashed(self) -> TextFeatures:
        return self._known if self._known is not None else extract(self._text)

    @cached_property
    def _suspicion(self) -> NDArray[np.float32]:
        """How much each window of n-grams looks like an attack; shape (windows,)."""
        suspicion: NDArray[np.float32] = np.sum(
            [_standardised(light.window_logits(self._hashed)) for light in self._lights], axis=0
        )
        return suspicion

    def worth_cutting(self) -> list[tuple[int, int]] | None:
        """Return the stretches of a very long text that may be read (code points, end exclusive), ascending and apart;
        None where all of it is to be cut into sub-words."""
        length = len(self._text)
        if length <= CUT_AT_MOST * self._budget or not self._hashed.blocks:
            return None
        spans, last = self._hashed.spans, self._hashed.blocks - 1
        end = CUT_AT_AN_END * self._edge
        wanted = np.zeros(length, bool)
        wanted[:end] = wanted[length - end :] = True
        left = CUT_BETWEEN * self._budget
        for window in np.argsort(-self._suspicion, kind="stable").tolist():
            begin, stop = spans[max(window - 1, 0), 0], spans[min(window + 2, last), 1]
            left -= int(stop - begin) - int(np.count_nonzero(wanted[begin:stop]))
            wanted[begin:stop] = True
            if left <= 0:
                break
        self._wanted = wanted
        return runs(wanted)

    def choose(self, sub_words: SubWords) -> list[tuple[int, int]]:
        """Return the windows to read (first sub-word, one past the last), ascending, of at most the budget.

        All where that is enough, with less overlap where it is only just so; else a quarter of the budget goes to the
        beginning, a quarter to the end, and the rest to the passages that the light models suspect most.

        Args:
            sub_words: of the text, or of the stretches worth cutting.
        """
        windows, length, budget = sub_words.windows, len(sub_words.ids), self._budget
        if not sub_words.seams and sum(end - begin for begin, end in windows) <= budget:
            return windows
        if not sub_words.seams and length <= budget:
            return _spread(length, budget)
        middles = _middles(self._hashed)
        places = sub_words.spans[:, 0].searchsorted(middles, "right") - 1
        suspicion = self._suspicion
        if self._wanted is not None:
            suspicion = np.where(self._wanted[middles], suspicion, -np.inf)
        chosen = np.zeros(length, bool)
        chosen[: self._edge] = chosen[max(0, length - self._edge) :] = True
        while (left := budget - int(chosen.sum())) > 0:
            suspicion = np.where(chosen[places], -np.inf, suspicion)
            if not len(suspicion) or suspicion.max() == -np.inf:
                break
            size = min(PASSAGE, left)
            begin = max(min(int(places[suspicion.argmax()]) - size // 2, length - size), 0)
            chosen[begin : begin + size] = True
        return list(_within_windows(chosen, sub_words.seams))


def _spread(length: int, budget: int) -> list[tuple[int, int]]:
    """Return windows of one size, as few as cover so many sub-words, with as much overlap as the budget allows."""
    count = -(-length // (WINDOW - 1))
    size = min(WINDOW - 1, budget // count)
    begins = [(length - size) * number // max(count - 1, 1) for number in range(count)]
    return [(begin, begin + size) for begin in begins]


def _standardised(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    spread: NDArray[np.float32] = (logits - logits.mean()) / (logits.std() + 1e-6) if len(logits) else logits
    return spread


def _middles(hashed: TextFeatures) -> NDArray[np.int64]:
    """Return the code point in the middle of each window of n-grams; shape (windows,)."""
    firsts = np.arange(hashed.windows)
    lasts = np.minimum(firsts + 1, hashed.blocks - 1)
    middles: NDArray[np.int64] = (hashed.spans[firsts, 0] + hashed.spans[lasts, 1]) // 2
    return middles


def _within_windows(chosen: NDArray[np.bool_], seams: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the runs of what is chosen, cut at seams, those too long for one window in equal parts."""
    for first, last in runs(chosen):
        for begin, end in pairwise((first, *(seam for seam in seams if first < seam < last), last)):
            parts = -(-(end - begin) // (WINDOW - 1))
            cuts = [begin + (end - begin) * part // parts for part in range(parts + 1)]
            yield from pairwise(cuts)
