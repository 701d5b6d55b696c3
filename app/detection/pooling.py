"""What the semantic branch of fast mode sees of a text: pretrained sub-words and short runs of them, pooled.

Each sub-word is projected on a few dimensions, and on filters that look at three sub-words in a row (a convolution:
Kim, "Convolutional Neural Networks for Sentence Classification", 2014). Both are products of its embedding alone, so
they are worked out once for each sub-word of the vocabulary and looked up from then on. They are pooled over each
window and over the whole text: mean, mean weighted by rarity (Arora et al., "A Simple but Tough-to-Beat Baseline for
Sentence Embeddings", 2017), and the extremes (Shen et al., "Baseline Needs More Love", 2018).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from app.detection.features import TextFeatures, runs
from app.subwords import WIDTH, SubWordTable

LINEAR: Final = 48
"""Dimensions that are pooled as they are."""
FILTERS: Final = 64
"""Filters over three sub-words in a row. With 64 dimensions and no filters the area under the ROC curve is 0.934 on
the held-out tenth, with 48 and 64 it is 0.942 (labels alone, six epochs)."""
SEEN: Final = LINEAR + FILTERS
PROJECTED: Final = LINEAR + 3 * FILTERS
"""What is looked up for a sub-word: its dimensions, and what it adds to each filter when it stands first, in the middle
and last."""
POOLED: Final = 3 * SEEN + LINEAR
"""Mean, mean by rarity and highest value of all that is seen, and the lowest of what is pooled as it is: filters are
never negative, and mostly nothing."""
CHARACTERS_READ: Final = 8_192
"""Code points of a text that are read: some 1,350 English words. Of a longer one the windows that another model
suspects most."""

_WORKED_OUT: Final = 4_096
"""Sub-words that are projected at a time: 10 MB on the way."""
_ONE_WINDOW: Final = np.zeros(1, np.int64)
_ONE_WINDOW.setflags(write=False)


class Projection:
    """What every sub-word adds, worked out for all of them at once: a third of a second, and 46 MB in 16 bits.

    Worked out when each is first met, memory would grow for as long as texts bring new ones. Nothing changes
    afterwards, so threads share it.
    """

    __slots__ = ("_rows", "bias", "rarity", "table", "weights")

    def __init__(
        self,
        table: SubWordTable,
        weights: NDArray[np.float32],
        bias: NDArray[np.float32],
        rarity: NDArray[np.float32],
    ) -> None:
        """Hold what a table's sub-words are projected with.

        Args:
            table: of sub-words.
            weights: shape (WIDTH, PROJECTED).
            bias: of the filters; shape (FILTERS,).
            rarity: weight of each sub-word in the mean by rarity; shape (rows of the table,).

        Raises:
            ValueError: one of them has another shape.
        """
        if (weights.shape, bias.shape, rarity.shape) != ((WIDTH, PROJECTED), (FILTERS,), (len(table.rows),)):
            raise ValueError("a projection of another shape")
        self.table, self.weights, self.bias, self.rarity = table, weights, bias, rarity
        ids = np.arange(len(table.rows))
        self._rows = np.empty((len(ids), PROJECTED), np.float16)
        for begin in range(0, len(ids), _WORKED_OUT):
            part = slice(begin, begin + _WORKED_OUT)
            self._rows[part] = table.embeddings(ids[part]) @ weights

    def seen(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return what is seen of sub-words that stand in a row; shape (ids, SEEN)."""
        rows = self._rows[ids].astype(np.float32)
        first, middle, last = (rows[:, LINEAR + at * FILTERS : LINEAR + (at + 1) * FILTERS] for at in range(3))
        filters = middle + self.bias
        filters[1:] += first[:-1]
        filters[:-1] += last[1:]
        seen = rows[:, :SEEN]
        np.maximum(filters, 0, out=seen[:, LINEAR:])
        return seen


@dataclass(frozen=True, slots=True)
class Pooled:
    """A text as far as it was read."""

    windows: NDArray[np.int64]
    """Windows of the text's features that were read, ascending; shape (read,)."""
    values: NDArray[np.float32]
    """Pooled over each of them; shape (read, POOLED)."""
    text: NDArray[np.float32]
    """Pooled over all that was read; shape (POOLED,)."""


WindowLogits = Callable[[TextFeatures], NDArray[np.float32]]
"""Returns one number for each window of a text; shape (windows,)."""


@dataclass(frozen=True, slots=True)
class _Sums:
    """Sub-words of some stretches of a text, added up; one row for each stretch."""

    weights: NDArray[np.float32]
    """Number of the sub-words, and sum of their rarity; shape (stretches, 2)."""
    seen: NDArray[np.float32]
    """Sum of what is seen, and by rarity; shape (stretches, 2, SEEN)."""
    high: NDArray[np.float32]
    """Shape (stretches, SEEN)."""
    low: NDArray[np.float32]
    """Shape (stretches, LINEAR)."""

    @classmethod
    def of(cls, seen: NDArray[np.float32], rarity: NDArray[np.float32], owners: NDArray[np.int64], size: int) -> Self:
        """Add up sub-words; `owners` is the stretch of each, ascending, below `size`."""
        weights = np.stack((np.ones_like(rarity), rarity))
        sums = cls(
            np.zeros((size, 2), np.float32),
            np.zeros((size, 2, SEEN), np.float32),
            np.full((size, SEEN), -np.inf, np.float32),
            np.full((size, LINEAR), np.inf, np.float32),
        )
        edges = owners.searchsorted(np.arange(size + 1)).tolist()
        for stretch, (begin, end) in enumerate(pairwise(edges)):
            if begin < end:  # One by one: five times as fast as `reduceat` over rows.
                part, shares = seen[begin:end], weights[:, begin:end]
                shares.sum(axis=1, out=sums.weights[stretch])
                np.matmul(shares, part, out=sums.seen[stretch])
                part.max(axis=0, out=sums.high[stretch])
                part[:, :LINEAR].min(axis=0, out=sums.low[stretch])
        return sums

    def joined(self, windows: NDArray[np.int64]) -> Self:
        """Add up each of these rows and the one behind it."""
        behind = windows + 1
        return type(self)(
            self.weights[windows] + self.weights[behind],
            self.seen[windows] + self.seen[behind],
            np.maximum(self.high[windows], self.high[behind]),
            np.minimum(self.low[windows], self.low[behind]),
        )

    def total(self) -> Self:
        """Add up all rows."""
        return type(self)(
            self.weights.sum(axis=0, keepdims=True),
            self.seen.sum(axis=0, keepdims=True),
            self.high.max(axis=0, keepdims=True),
            self.low.min(axis=0, keepdims=True),
        )

    def pooled(self) -> NDArray[np.float32]:
        """Return the rows pooled, all zeros where there is no sub-word; shape (stretches, POOLED)."""
        means = self.seen / np.maximum(self.weights, np.float32(1e-6))[:, :, None]
        result: NDArray[np.float32] = np.concatenate((means.reshape(-1, 2 * SEEN), self.high, self.low), axis=1)
        result[self.weights[:, 0] == 0] = 0
        return result


def read(features: TextFeatures, projection: Projection, guide: WindowLogits) -> Pooled:
    """Pool a text's sub-words.

    Args:
        features: of a text that has a block at least.
        projection: of the sub-words.
        guide: asked where to look in a text of more than CHARACTERS_READ code points.
    """
    if features.windows == 1:
        return _read_whole(features, projection)
    chosen = chosen_blocks(features, guide)
    cut = [cut_blocks(features, projection.table, first, end) for first, end in runs(chosen)]
    seen = np.concatenate([projection.seen(ids) for ids, _ in cut])
    ids, owners = (np.concatenate(parts) for parts in zip(*cut, strict=True))
    sums = _Sums.of(seen, projection.rarity[ids], owners, features.blocks)
    windows = np.flatnonzero(chosen[:-1] & chosen[1:])
    return Pooled(windows, sums.joined(windows).pooled(), sums.total().pooled()[0])


def _read_whole(features: TextFeatures, projection: Projection) -> Pooled:
    """Pool a text of one window, as most prompts are: with a third of the calls that many stretches take."""
    first, end = int(features.spans[0, 0]), int(features.spans[-1, 1])
    ids = projection.table.ids(features.text[first:end])
    pooled = np.zeros((1, POOLED), np.float32)
    if len(ids):
        seen, rarity = projection.seen(ids), projection.rarity[ids]
        row = pooled[0]
        np.add.reduce(seen, axis=0, out=row[:SEEN])
        row[:SEEN] /= len(ids)
        np.matmul(rarity / max(np.add.reduce(rarity), np.float32(1e-6)), seen, out=row[SEEN : 2 * SEEN])
        np.maximum.reduce(seen, axis=0, out=row[2 * SEEN : 3 * SEEN])
        np.minimum.reduce(seen[:, :LINEAR], axis=0, out=row[3 * SEEN :])
    return Pooled(_ONE_WINDOW, pooled, pooled[0])


def cut_blocks(
    features: TextFeatures, table: SubWordTable, first: int, end: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the sub-words of some blocks in a row, and the block of each."""
    begin = int(features.spans[first, 0])
    ids, spans = table.cut(features.text[begin : int(features.spans[end - 1, 1])])
    owners = features.spans[first:end, 0].searchsorted(spans[:, 0] + begin, "right") - 1
    return ids, first + np.maximum(owners, 0)


def chosen_blocks(features: TextFeatures, guide: WindowLogits) -> NDArray[np.bool_]:
    """Return which blocks are read: all, or those of the most suspect windows, of one at least."""
    lengths = features.spans[:, 1] - features.spans[:, 0]
    left = CHARACTERS_READ
    if features.windows == 1 or int(lengths.sum()) <= left:
        return np.ones(features.blocks, bool)
    chosen = np.zeros(features.blocks, bool)
    for window in np.argsort(-guide(features), kind="stable").tolist():
        fresh = [block for block in (window, window + 1) if not chosen[block]]
        left -= int(lengths[fresh].sum())
        if left < 0 and chosen.any():
            break
        chosen[fresh] = True
    return chosen
