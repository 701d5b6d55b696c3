"""Trains the semantic branch: an embedding bag and prototypes of each family, by a softmax over cosines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse  # type: ignore[import-untyped]

from app.detection.families import Family
from app.detection.features import BUCKET_BITS, BUCKETS
from app.detection.semantic import DIMENSIONS, EMBEDDING_BITS
from app.training.windows import Windows

PROTOTYPES: Final = 4
"""Prototypes per family: what belongs to a family need not look alike."""
SHARPNESS: Final = 10.0
SIDE_WEIGHT: Final = 1.0
"""Weight of "attack or not" beside the choice of the family."""
EPOCHS: Final = 4
BATCH: Final = 256
STEP: Final = 4e-3
DROPPED: Final = 0.3
"""Share of n-grams left out of each text in each step, so that no single phrase decides."""
_DECAY_1, _DECAY_2, _TINY = 0.9, 0.999, 1e-8
FAMILIES: Final = tuple(sorted(Family, key=lambda family: not family.is_attack))


@dataclass(slots=True)
class EmbeddingModel:
    table: NDArray[np.float32]
    """Shape (2^EMBEDDING_BITS, DIMENSIONS)."""
    prototypes: NDArray[np.float32]
    """Unit vectors, family by family in the order of FAMILIES; shape (families * PROTOTYPES, DIMENSIONS)."""

    def logits(self, windows: Windows) -> NDArray[np.float32]:
        """Return the margin of attacks over harmless text of each window; shape (windows,)."""
        likeness = SHARPNESS * _unit(folded(windows.matrix) @ self.table)[0] @ self.prototypes.T
        attacks = PROTOTYPES * sum(family.is_attack for family in FAMILIES)
        margin: NDArray[np.float32] = np.logaddexp.reduce(likeness[:, :attacks], axis=1) - np.logaddexp.reduce(
            likeness[:, attacks:], axis=1
        )
        return margin

    def quantised(self) -> NDArray[np.int8]:
        """Return the table in 255 steps; what lies beyond 6 standard deviations is cut off."""
        step = min(float(np.abs(self.table).max()), 6 * float(self.table[self.table != 0].std())) / 127
        steps: NDArray[np.int8] = np.clip(np.rint(self.table / step), -127, 127).astype(np.int8)
        return steps


def fit(
    windows: Windows,
    families: Sequence[Family],
    weight: NDArray[np.float64],
    seed: int,
    progress: Callable[[str], None],
) -> EmbeddingModel:
    """Fit on the windows with a positive weight; `families` has one entry per text.

    Loss: minus the log-probability of the text's family and of its side, under a softmax over the cosines with all
    prototypes (Proxy-NCA with several proxies: Movshovitz-Attias et al., 2017; SoftTriple: Qian et al., 2019). Adam.
    """
    chance = np.random.default_rng(seed)
    rows = np.flatnonzero(weight > 0)
    matrix = folded(windows.matrix[rows])
    class_of = np.array([FAMILIES.index(family) for family in families])[windows.text_of[rows]]
    share = (weight[rows] / weight[rows].mean()).astype(np.float32)
    model = EmbeddingModel(
        (chance.standard_normal((1 << EMBEDDING_BITS, DIMENSIONS)) * 0.01).astype(np.float32),
        _unit(chance.standard_normal((len(FAMILIES) * PROTOTYPES, DIMENSIONS)).astype(np.float32))[0],
    )
    seen = np.bincount(matrix.indices, minlength=1 << EMBEDDING_BITS) > 0
    model.table[~seen] = 0
    table_step, prototype_step = _Adam(model.table), _Adam(model.prototypes)
    batches = -(-len(rows) // BATCH)
    for epoch in range(EPOCHS):
        order = chance.permutation(len(rows))
        total = 0.0
        for number, start in enumerate(range(0, len(rows), BATCH)):
            batch = order[start : start + BATCH]
            dropped = _with_dropout(matrix[batch], chance)
            value, table_slope, prototype_slope = _slopes(model, dropped, class_of[batch], share[batch])
            rate = STEP * (1 - (epoch * batches + number) / (EPOCHS * batches))
            table_step.apply(model.table, table_slope, rate)
            prototype_step.apply(model.prototypes, prototype_slope, rate)
            model.prototypes = _unit(model.prototypes)[0]
            total += value
        progress(f"semantic epoch {epoch + 1} of {EPOCHS}: loss {total / batches:.3f}")
    return model


def folded(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """Return the matrix with neighbouring buckets added up to the rows of the embedding table."""
    columns = matrix.indices >> (BUCKET_BITS - EMBEDDING_BITS)
    shape = (matrix.shape[0], BUCKETS >> (BUCKET_BITS - EMBEDDING_BITS))
    return sparse.csr_matrix((matrix.data, columns, matrix.indptr), shape=shape)


def _with_dropout(batch: sparse.csr_matrix, chance: np.random.Generator) -> sparse.csr_matrix:
    kept = chance.random(len(batch.data), dtype=np.float32) >= DROPPED
    return sparse.csr_matrix((batch.data * kept, batch.indices, batch.indptr), shape=batch.shape)


def _unit(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the vectors at length 1, and their lengths as a column."""
    lengths = np.maximum(np.sqrt((vectors * vectors).sum(axis=1, keepdims=True)), np.float32(1e-6))
    return vectors / lengths, lengths


def _slopes(
    model: EmbeddingModel, batch: sparse.csr_matrix, class_of: NDArray[np.int64], share: NDArray[np.float32]
) -> tuple[float, NDArray[np.float32], NDArray[np.float32]]:
    """Return the mean loss of a batch and its slopes by the table and by the prototypes."""
    unit, lengths = _unit(batch @ model.table)
    logits = SHARPNESS * unit @ model.prototypes.T
    chance = np.exp(logits - logits.max(axis=1, keepdims=True))
    chance /= chance.sum(axis=1, keepdims=True)
    prototype_class = np.repeat(np.arange(len(FAMILIES)), PROTOTYPES)
    attack = np.array([family.is_attack for family in FAMILIES])
    in_class = prototype_class[None, :] == class_of[:, None]
    in_side = attack[prototype_class][None, :] == attack[class_of][:, None]
    of_class, of_side = chance * in_class, chance * in_side
    class_sum = np.maximum(of_class.sum(axis=1, keepdims=True), 1e-12)
    side_sum = np.maximum(of_side.sum(axis=1, keepdims=True), 1e-12)
    loss = -(np.log(class_sum) + SIDE_WEIGHT * np.log(side_sum))[:, 0]
    by_logit = (1 + SIDE_WEIGHT) * chance - of_class / class_sum - SIDE_WEIGHT * of_side / side_sum
    by_logit *= (SHARPNESS * share / len(share))[:, None]
    by_unit = by_logit @ model.prototypes
    by_sum = (by_unit - unit * (by_unit * unit).sum(axis=1, keepdims=True)) / lengths
    return float((loss * share).mean()), batch.T @ by_sum, by_logit.T @ unit


class _Adam:
    """Adam (Kingma and Ba, 2015) over one dense array."""

    def __init__(self, values: NDArray[np.float32]) -> None:
        self._first = np.zeros_like(values)
        self._second = np.zeros_like(values)
        self._steps = 0

    def apply(self, values: NDArray[np.float32], slope: NDArray[np.float32], rate: float) -> None:
        self._steps += 1
        self._first *= _DECAY_1
        self._first += (1 - _DECAY_1) * slope
        self._second *= _DECAY_2
        self._second += (1 - _DECAY_2) * slope * slope
        factor = rate * np.sqrt(1 - _DECAY_2**self._steps) / (1 - _DECAY_1**self._steps)
        values -= np.float32(factor) * self._first / (np.sqrt(self._second) + np.float32(_TINY))
