"""The windows of many texts as one sparse matrix, cut and weighted exactly as the branches do when they judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse  # type: ignore[import-untyped]

from app.detection.features import BUCKETS, TextFeatures
from app.detection.normalise import prepare
from app.training.corpus import Row

_ENCODED: Final = frozenset(("leetspeak", "homoglyphs"))


@dataclass(frozen=True, slots=True)
class Windows:
    """One matrix row per window: n-gram counts (1 or 2) divided by the root of their sum."""

    matrix: sparse.csr_matrix
    """Shape (windows, BUCKETS), float32."""
    text_of: NDArray[np.int64]
    """The text that each window belongs to, ascending; shape (windows,)."""
    texts: int

    def per_text(self) -> NDArray[np.int64]:
        """Return the number of windows of each text; shape (texts,)."""
        return np.bincount(self.text_of, minlength=self.texts)

    def peaks(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the highest window logit of each text; -inf for a text without windows."""
        highest = np.full(self.texts, -np.inf, np.float32)
        np.maximum.at(highest, self.text_of, logits)
        return highest

    def means(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the mean window logit of each text."""
        sums = np.bincount(self.text_of, weights=logits, minlength=self.texts)
        means: NDArray[np.float32] = (sums / np.maximum(self.per_text(), 1)).astype(np.float32)
        return means


def build(texts: Sequence[TextFeatures]) -> Windows:
    """Stack the windows of all texts."""
    columns, lengths, owners = [], [], []
    for number, features in enumerate(texts):
        for window in range(features.windows):
            begin, end = features.offsets[window], features.offsets[min(window + 2, features.blocks)]
            columns.append(features.buckets[begin:end])
            lengths.append(end - begin)
            owners.append(number)
    starts = np.concatenate(([0], np.cumsum(lengths)))
    values = np.repeat(1 / np.sqrt(np.asarray(lengths, np.float32)), lengths).astype(np.float32)
    matrix = sparse.csr_matrix((values, np.concatenate(columns), starts), shape=(len(owners), BUCKETS))
    return Windows(matrix, np.asarray(owners, np.int64), len(texts))


def wording_of(row: Row) -> str:
    """Return what the light models learn of a text: its canonical form, or what an attack hides in an encoding, which
    they judge by itself."""
    prepared = prepare(row.text)
    if row.attack:
        hidden = [layer.text for layer in prepared.layers if layer.kind not in _ENCODED]
        longest = max(hidden, key=len, default="")
        if len(longest.split()) >= 3 and len(longest) >= 0.25 * len(prepared.canonical):
            return longest
    return prepared.canonical
