"""What the semantic branch of fast mode sees of a text: pretrained sub-words, pooled over each window and over it all.

Sub-words are looked up and not read in their order, so a text costs little: mean, mean weighted by rarity (Arora et
al., "A Simple but Tough-to-Beat Baseline for Sentence Embeddings", 2017), and the extremes (Shen et al., "Baseline
Needs More Love", 2018).
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

POOLED: Final = 4 * WIDTH
"""Mean, mean by rarity, highest and lowest value of each dimension."""
CHARACTERS_READ: Final = 8_192
"""Code points of a text that are read: some 1,350 English words, up to 80 ms of CPU. Of a longer one the windows that
another model suspects most."""


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
    words: NDArray[np.float32]
    """Sum of the sub-words, and by rarity; shape (stretches, 2, WIDTH)."""
    high: NDArray[np.float32]
    low: NDArray[np.float32]

    @classmethod
    def of(cls, words: NDArray[np.float32], rarity: NDArray[np.float32], owners: NDArray[np.int64], size: int) -> Self:
        """Add up sub-words; `owners` is the stretch of each, ascending, below `size`."""
        weights = np.stack((np.ones_like(rarity), rarity))
        sums = cls(
            np.zeros((size, 2), np.float32),
            np.zeros((size, 2, WIDTH), np.float32),
            np.full((size, WIDTH), -np.inf, np.float32),
            np.full((size, WIDTH), np.inf, np.float32),
        )
        edges = owners.searchsorted(np.arange(size + 1)).tolist()
        for stretch, (begin, end) in enumerate(pairwise(edges)):
            if begin < end:  # One by one: five times as fast as `reduceat` over rows.
                part, shares = words[begin:end], weights[:, begin:end]
                sums.weights[stretch] = shares.sum(axis=1)
                sums.words[stretch] = shares @ part
                sums.high[stretch] = part.max(axis=0)
                sums.low[stretch] = part.min(axis=0)
        return sums

    def joined(self, windows: NDArray[np.int64]) -> Self:
        """Add up each of these rows and the one behind it."""
        behind = windows + 1
        return type(self)(
            self.weights[windows] + self.weights[behind],
            self.words[windows] + self.words[behind],
            np.maximum(self.high[windows], self.high[behind]),
            np.minimum(self.low[windows], self.low[behind]),
        )

    def total(self) -> Self:
        """Add up all rows."""
        return type(self)(
            self.weights.sum(axis=0, keepdims=True),
            self.words.sum(axis=0, keepdims=True),
            self.high.max(axis=0, keepdims=True),
            self.low.min(axis=0, keepdims=True),
        )

    def pooled(self) -> NDArray[np.float32]:
        """Return the rows pooled, all zeros where there is no sub-word; shape (stretches, POOLED)."""
        means = self.words / np.maximum(self.weights, np.float32(1e-6))[:, :, None]
        result: NDArray[np.float32] = np.concatenate((means.reshape(-1, 2 * WIDTH), self.high, self.low), axis=1)
        result[self.weights[:, 0] == 0] = 0
        return result


def read(features: TextFeatures, table: SubWordTable, rarity: NDArray[np.float32], guide: WindowLogits) -> Pooled:
    """Pool a text's sub-words.

    Args:
        features: of a text that has a block at least.
        rarity: weight of each sub-word of the table in the mean by rarity; shape (rows,).
        guide: asked where to look in a text of more than CHARACTERS_READ code points.
    """
    chosen = _chosen(features, guide)
    cut = [_cut(features, table, first, end) for first, end in runs(chosen)]
    ids, owners = (np.concatenate(parts) for parts in zip(*cut, strict=True))
    known, places = np.unique(ids, return_inverse=True)
    sums = _Sums.of(table.embeddings(known)[places], rarity[ids], owners, features.blocks)
    whole = sums.total().pooled()
    if features.windows == 1:
        return Pooled(np.zeros(1, np.int64), whole, whole[0])
    windows = np.flatnonzero(chosen[:-1] & chosen[1:])
    return Pooled(windows, sums.joined(windows).pooled(), whole[0])


def _cut(
    features: TextFeatures, table: SubWordTable, first: int, end: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the sub-words of some blocks, and the block of each."""
    begin = int(features.spans[first, 0])
    ids, spans = table.cut(features.text[begin : int(features.spans[end - 1, 1])])
    owners = features.spans[first:end, 0].searchsorted(spans[:, 0] + begin, "right") - 1
    return ids, first + np.maximum(owners, 0)


def _chosen(features: TextFeatures, guide: WindowLogits) -> NDArray[np.bool_]:
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
