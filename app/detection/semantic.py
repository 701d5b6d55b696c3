"""The semantic branch: how near a text's embedding is to families of attacks and of harmless text."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from app.contracts import BranchName, Category
from app.detection.evidence import REPORT_AT, Calibration, Judgement, findings_of, loudest, read_model, result_of
from app.detection.families import CATEGORY_OF, MEANING_OF, Family
from app.detection.features import BUCKET_BITS, MAX_BLOCK_NGRAMS, PreparedFeatures, TextFeatures, pool
from app.detection.normalise import PreparedText
from app.errors import ModelUnavailable

MODEL_FILE: Final = "semantic.npz"
EMBEDDING_BITS: Final = 16
"""The table has 2^16 rows: a row serves four neighbouring buckets."""
DIMENSIONS: Final = 64
MAX_SHARPNESS: Final = 40.0
"""Exponentials of up to 40 and their sums stay within the range of 32-bit floats."""
_TO_ROW: Final = BUCKET_BITS - EMBEDDING_BITS
_BATCH: Final = 16_384
"""n-grams looked up at a time: 16,384 rows of 64 floats are 4 MiB, so a long text needs no more memory than that."""

_FEW: Final = 8
"""Up to so many blocks are added up one by one: a product with ones is then faster than `reduceat`."""
_ONES: Final = np.ones(MAX_BLOCK_NGRAMS, np.float32)


@dataclass(frozen=True, slots=True)
class Semantic:
    """An embedding bag over hashed n-grams, compared with prototypes of each family by cosine.

    Holds nothing that changes, so one instance serves all threads.
    """

    model_version: str
    table: NDArray[np.int8]
    """Quantised embedding of each row; shape (2^EMBEDDING_BITS, DIMENSIONS). Its scale drops out of the cosine."""
    prototypes: NDArray[np.float32]
    """Unit vectors, those of attacks first; shape (prototypes, DIMENSIONS)."""
    families: tuple[Family, ...]
    """Family of each prototype."""
    attacks: int
    """How many of the prototypes are attacks'."""
    sharpness: float
    """Factor on cosines before they are compared: the inverse temperature of training."""
    calibration: Calibration

    @classmethod
    def load(cls, models_dir: Path) -> Self:
        """Read the model from a folder.

        Raises:
            ModelUnavailable: a file is missing, damaged, or was trained on other features than this code extracts.
        """
        arrays, metadata = read_model(models_dir, MODEL_FILE)
        try:
            described = metadata["semantic"]
            table, prototypes = arrays["table"], arrays["prototypes"].astype(np.float32)
            families = tuple(Family(name) for name in described["families"])
            sharpness, version = float(described["sharpness"]), str(metadata["model_version"])
            calibration = Calibration(**described["calibration"])
        except (KeyError, TypeError, ValueError):
            raise ModelUnavailable(f"{MODEL_FILE} or its metadata is incomplete") from None
        if not 0 < sharpness <= MAX_SHARPNESS:
            raise ModelUnavailable(f"{MODEL_FILE} asks for a sharpness that would overflow")
        if table.shape != (1 << EMBEDDING_BITS, DIMENSIONS) or prototypes.shape != (len(families), DIMENSIONS):
            raise ModelUnavailable(f"{MODEL_FILE} holds arrays of another shape than the semantic branch's")
        attacks = sum(family.is_attack for family in families)
        if not all(family.is_attack for family in families[:attacks]) or not 0 < attacks < len(families):
            raise ModelUnavailable(f"{MODEL_FILE} does not list the prototypes of attacks before the harmless ones")
        return cls(version, table, prototypes, families, attacks, sharpness, calibration)

    def embed(self, features: TextFeatures) -> NDArray[np.float32]:
        """Return the unit embedding of each window; shape (windows, DIMENSIONS)."""
        if not features.blocks:
            return np.empty((0, DIMENSIONS), np.float32)
        summed = pool(self._block_sums(features))
        norms = np.sqrt(np.einsum("ij,ij->i", summed, summed))
        unit: NDArray[np.float32] = summed / np.maximum(norms, np.float32(1))[:, None]
        return unit

    def window_logits(self, features: TextFeatures) -> NDArray[np.float32]:
        """Return by how much the attack prototypes outweigh the harmless ones in each window; shape (windows,)."""
        pull = np.exp((self.embed(features) @ self.prototypes.T) * np.float32(self.sharpness))
        odds = pull[:, : self.attacks].sum(axis=1) / pull[:, self.attacks :].sum(axis=1)
        logits: NDArray[np.float32] = np.log(odds)
        return logits

    def judge(self, features: PreparedFeatures, prepared: PreparedText) -> Judgement:
        """Judge a text and all that was hidden in it; the highest score counts."""
        reading = loudest(features, self.window_logits, self.calibration)
        if 100 * reading.probability < REPORT_AT:
            return Judgement(result_of(reading.probability, (), ()), [], [])
        likeness = self.prototypes @ self.embed(reading.features)[int(reading.logits.argmax())]
        nearest = int(likeness[: self.attacks].argmax())
        family = self.families[nearest]
        signals = [f"family:{family}"]
        explanation = (
            f"Closest to {MEANING_OF[family]} (similarity {likeness[nearest]:.2f}, "
            f"to harmless text {likeness[self.attacks :].max():.2f})"
        )
        categories: list[Category] = [CATEGORY_OF[family]]
        if reading.layer is not None:
            kind = prepared.layers[reading.layer].kind
            signals.append(f"layer:{kind}")
            explanation += f", once {kind} is undone"
            if Category.OBFUSCATION not in categories:
                categories.append(Category.OBFUSCATION)
        findings = findings_of(reading, prepared, self.calibration, BranchName.SEMANTIC, f"family:{family}")
        return Judgement(result_of(reading.probability, signals, [f"{explanation}."]), findings, categories)

    def _block_sums(self, features: TextFeatures) -> NDArray[np.float32]:
        rows = features.buckets >> _TO_ROW
        offsets = features.offsets
        sums = np.empty((features.blocks, DIMENSIONS), np.float32)
        first = 0
        while first < features.blocks:
            last = max(int(offsets.searchsorted(offsets[first] + _BATCH, "right")) - 1, first + 1)
            vectors = self.table.take(rows[offsets[first] : offsets[last]], axis=0).astype(np.float32)
            if last - first <= _FEW:
                bounds = (offsets[first : last + 1] - offsets[first]).tolist()
                for block, (begin, end) in enumerate(pairwise(bounds), start=first):
                    np.matmul(_ONES[: end - begin], vectors[begin:end], out=sums[block])
            else:
                np.add.reduceat(vectors, offsets[first:last] - offsets[first], axis=0, out=sums[first:last])
            first = last
        return sums
