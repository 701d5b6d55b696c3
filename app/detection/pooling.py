"""What the semantic branch of fast mode sees of a text: pretrained sub-words, pooled over each window and over it all.

Sub-words are looked up and not read in their order, so a text costs little: mean, mean weighted by rarity (Arora et
al., "A Simple but Tough-to-Beat Baseline for Sentence Embeddings", 2017), and the extremes (Shen et al., "Baseline
Needs More Love", 2018).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from app.detection.features import TextFeatures
from app.subwords import WIDTH, SubWordTable

POOLED: Final = 4 * WIDTH
"""Mean, mean by rarity, highest and lowest value of each dimension."""
CHARACTERS_READ: Final = 16_384
"""Code points of a text that are read: some 2,700 English words. Of a longer one the windows that another model
suspects most."""


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

    count: NDArray[np.float32]
    plain: NDArray[np.float32]
    rarity: NDArray[np.float32]
    """Sum of the sub-words' rarity; shape (stretches,)."""
    rare: NDArray[np.float32]
    """Sum of the sub-words by rarity; shape (stretches, WIDTH)."""
    high: NDArray[np.float32]
    low: NDArray[np.float32]

    @classmethod
    def of(cls, words: NDArray[np.float32], rarity: NDArray[np.float32], owners: NDArray[np.int64], size: int) -> Self:
        """Add up sub-words; `owners` is the stretch of each, ascending, below `size`."""
        shape = (size, WIDTH)
        plain, rare = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        high, low = np.full(shape, -np.inf, np.float32), np.full(shape, np.inf, np.float32)
        firsts = np.flatnonzero(np.diff(owners, prepend=-1))
        present = owners[firsts]
        if len(present):
            plain[present] = np.add.reduceat(words, firsts)
            rare[present] = np.add.reduceat(words * rarity[:, None], firsts)
            high[present] = np.maximum.reduceat(words, firsts)
            low[present] = np.minimum.reduceat(words, firsts)
        count = np.bincount(owners, minlength=size).astype(np.float32)
        return cls(count, plain, np.bincount(owners, rarity, size).astype(np.float32), rare, high, low)

    def joined(self, windows: NDArray[np.int64]) -> Self:
        """Add up each of these rows and the one behind it."""
        behind = windows + 1
        return type(self)(
            self.count[windows] + self.count[behind],
            self.plain[windows] + self.plain[behind],
            self.rarity[windows] + self.rarity[behind],
            self.rare[windows] + self.rare[behind],
            np.maximum(self.high[windows], self.high[behind]),
            np.minimum(self.low[windows], self.low[behind]),
        )

    def total(self) -> Self:
        """Add up all rows."""
        return type(self)(
            self.count.sum(keepdims=True),
            self.plain.sum(axis=0, keepdims=True),
            self.rarity.sum(keepdims=True),
            self.rare.sum(axis=0, keepdims=True),
            self.high.max(axis=0, keepdims=True),
            self.low.min(axis=0, keepdims=True),
        )

    def pooled(self) -> NDArray[np.float32]:
        """Return the rows pooled, all zeros where there is no sub-word; shape (stretches, POOLED)."""
        mean = self.plain / np.maximum(self.count, 1)[:, None]
        rare = self.rare / np.maximum(self.rarity, np.float32(1e-6))[:, None]
        there = (self.count > 0)[:, None]
        high, low = np.where(there, self.high, 0), np.where(there, self.low, 0)
        result: NDArray[np.float32] = np.concatenate((mean, rare, high, low), axis=1)
        return result


def read(features: TextFeatures, table: SubWordTable, rarity: NDArray[np.float32], guide: WindowLogits) -> Pooled:
    """Pool a text's sub-words.

    Args:
        features: of a text that has a block at least.
        rarity: weight of each sub-word of the table in the mean by rarity; shape (rows,).
        guide: asked where to look in a text of more than CHARACTERS_READ code points.
    """
    chosen = _chosen(features, guide)
    ids, owners = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for first, end in _runs(chosen):
        begin = int(features.spans[first, 0])
        found, spans = table.cut(features.text[begin : int(features.spans[end - 1, 1])])
        ids.append(found)
        starts = features.spans[first:end, 0].searchsorted(spans[:, 0] + begin, "right") - 1
        owners.append(first + np.maximum(starts, 0))
    read_ids = np.concatenate(ids)
    known, places = np.unique(read_ids, return_inverse=True)
    words = table.embeddings(known)[places]
    sums = _Sums.of(words, rarity[read_ids], np.concatenate(owners), features.blocks)
    if features.windows == 1:
        whole = sums.total().pooled()
        return Pooled(np.arange(1), whole, whole[0])
    windows = np.flatnonzero(chosen[:-1] & chosen[1:])
    return Pooled(windows, sums.joined(windows).pooled(), sums.total().pooled()[0])


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


def _runs(chosen: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Yield first and end (exclusive) of each run of blocks that are read."""
    for is_read, places in groupby(range(len(chosen)), key=chosen.tolist().__getitem__):
        if is_read:
            run = list(places)
            yield run[0], run[-1] + 1
