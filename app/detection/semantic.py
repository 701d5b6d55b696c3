"""The semantic branch of fast mode: how near a text's embedding is to families of attacks and of harmless text.

A small network over the pretrained sub-words that the encoder and the tagger of names read too: what
app/detection/pooling.py sees of them, and one hidden layer. Training changes the embeddings for none of the three.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from app.contracts import BranchName, Category
from app.detection.evidence import REPORT_AT, Calibration, Judgement, findings_of, loudest, read_model, result_of
from app.detection.families import CATEGORY_OF, MEANING_OF, Family
from app.detection.features import PreparedFeatures, TextFeatures
from app.detection.normalise import PreparedText
from app.detection.pooling import POOLED, Projection, WindowLogits, read
from app.errors import ModelUnavailable
from app.subwords import table_in

MODEL_FILE: Final = "semantic.npz"
PROJECTION_ARRAYS: Final = ("project", "filter_bias", "rarity")
"""Of the model file, in the order in which `Projection` takes them."""
LAYER_ARRAYS: Final = ("by_window", "by_text", "bias", "embed", "centre")
"""The same for `Layers`."""
HIDDEN: Final = 256
DIMENSIONS: Final = 64
_OTHER_SHAPES: Final = f"{MODEL_FILE} holds arrays of another shape than the semantic branch's"
MAX_SHARPNESS: Final = 40.0
"""Exponentials of up to 40 and their sums stay within the range of 32-bit floats."""


@dataclass(frozen=True, slots=True)
class Layers:
    """From what is pooled to an embedding: one hidden layer, rectified."""

    by_window: NDArray[np.float32]
    """Weights of what is pooled over the window; shape (POOLED, HIDDEN)."""
    by_text: NDArray[np.float32]
    """Weights of what is pooled over the whole text; shape (POOLED, HIDDEN)."""
    bias: NDArray[np.float32]
    """Shape (HIDDEN,)."""
    embed: NDArray[np.float32]
    """Shape (HIDDEN, DIMENSIONS)."""
    centre: NDArray[np.float32]
    """What is added to every embedding; shape (DIMENSIONS,)."""
    by_both: NDArray[np.float32] = field(init=False, repr=False)
    """Weights of what is pooled where the window is the whole text; half as many to go through."""

    def __post_init__(self) -> None:
        if self.by_window.shape == self.by_text.shape:
            object.__setattr__(self, "by_both", self.by_window + self.by_text)

    @property
    def fit(self) -> bool:
        """Whether they have the shapes that are wanted."""
        shapes = [(POOLED, HIDDEN), (POOLED, HIDDEN), (HIDDEN,), (HIDDEN, DIMENSIONS), (DIMENSIONS,)]
        return [getattr(self, name).shape for name in LAYER_ARRAYS] == shapes

    def embeddings(self, windows: NDArray[np.float32], text: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the unit embedding of each window; shape (windows, DIMENSIONS)."""
        if len(windows) == 1:  # Of which the text consists.
            hidden = windows @ self.by_both + self.bias
        else:
            # The wide side first: BLAS takes half the time for a few rows that way round.
            hidden = (self.by_window.T @ windows.T).T + (text @ self.by_text + self.bias)
        np.maximum(hidden, 0, out=hidden)
        embedded = hidden @ self.embed + self.centre
        norms = np.sqrt(np.einsum("ij,ij->i", embedded, embedded))
        unit: NDArray[np.float32] = embedded / np.maximum(norms, np.float32(1e-6))[:, None]
        return unit


@dataclass(frozen=True, slots=True)
class Semantic:
    """A text's embedding, compared with prototypes of each family by cosine.

    Holds nothing that changes but what its projection remembers, so one instance serves all threads.
    """

    model_version: str
    projection: Projection
    layers: Layers
    prototypes: NDArray[np.float32]
    """Unit vectors, those of attacks first; shape (prototypes, DIMENSIONS)."""
    families: tuple[Family, ...]
    """Family of each prototype."""
    attacks: int
    """How many of the prototypes are attacks'."""
    sharpness: float
    """Factor on cosines before they are compared: the inverse temperature of training."""
    calibration: Calibration
    guide: WindowLogits
    """Shows where to look in a long text."""

    @classmethod
    def load(cls, models_dir: Path, guide: WindowLogits) -> Self:
        """Read the model from a folder.

        Raises:
            ModelUnavailable: a file is missing, damaged, or was trained on other features than this code extracts.
        """
        arrays, metadata = read_model(models_dir, MODEL_FILE)
        table = table_in(models_dir)
        try:
            described = metadata["semantic"]
            projected = [arrays[name].astype(np.float32) for name in PROJECTION_ARRAYS]
            prototypes = arrays["prototypes"].astype(np.float32)
            layers = Layers(**{name: arrays[name].astype(np.float32) for name in LAYER_ARRAYS})
            families = tuple(Family(name) for name in described["families"])
            sharpness, version = float(described["sharpness"]), str(metadata["model_version"])
            calibration = Calibration(**described["calibration"])
        except (KeyError, TypeError, ValueError):
            raise ModelUnavailable(f"{MODEL_FILE} or its metadata is incomplete") from None
        if not 0 < sharpness <= MAX_SHARPNESS:
            raise ModelUnavailable(f"{MODEL_FILE} asks for a sharpness that would overflow")
        if not layers.fit or prototypes.shape != (len(families), DIMENSIONS):
            raise ModelUnavailable(_OTHER_SHAPES)
        try:
            projection = Projection(table, *projected)
        except ValueError:
            raise ModelUnavailable(_OTHER_SHAPES) from None
        attacks = sum(family.is_attack for family in families)
        if not all(family.is_attack for family in families[:attacks]) or not 0 < attacks < len(families):
            raise ModelUnavailable(f"{MODEL_FILE} does not list the prototypes of attacks before the harmless ones")
        return cls(version, projection, layers, prototypes, families, attacks, sharpness, calibration, guide)

    def embed(self, features: TextFeatures) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the windows that were read, ascending, and the unit embedding of each; shape (read, DIMENSIONS)."""
        if not features.blocks:
            return np.empty(0, np.int64), np.empty((0, DIMENSIONS), np.float32)
        pooled = read(features, self.projection, self.guide)
        return pooled.windows, self.layers.embeddings(pooled.values, pooled.text)

    def window_logits(self, features: TextFeatures) -> NDArray[np.float32]:
        """Return by how much the attack prototypes outweigh the harmless ones in each window; shape (windows,).

        A window that was not read counts as the calmest of those that were.
        """
        return self._logits(features, *self.embed(features))

    def _logits(
        self, features: TextFeatures, windows: NDArray[np.int64], embeddings: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        if not len(windows):
            return np.empty(0, np.float32)
        pull = np.exp((embeddings @ self.prototypes.T) * np.float32(self.sharpness))
        odds = np.log(pull[:, : self.attacks].sum(axis=1) / pull[:, self.attacks :].sum(axis=1))
        logits = np.full(features.windows, odds.min(), np.float32)
        logits[windows] = odds
        return logits

    def probability(self, features: PreparedFeatures) -> float:
        """Return the probability of an attack, 0 to 1, in a text and all that was hidden in it."""
        return loudest(features, self.window_logits, self.calibration).probability

    def judge(self, features: PreparedFeatures, prepared: PreparedText) -> Judgement:
        """Judge a text and all that was hidden in it; the highest score counts."""
        embedded: dict[int, tuple[NDArray[np.int64], NDArray[np.float32]]] = {}

        def logits_of(part: TextFeatures) -> NDArray[np.float32]:
            embedded[id(part)] = self.embed(part)
            return self._logits(part, *embedded[id(part)])

        reading = loudest(features, logits_of, self.calibration)
        if 100 * reading.probability < REPORT_AT:
            return Judgement(result_of(reading.probability, (), ()), [], [])
        windows, embeddings = embedded[id(reading.features)]
        loud = int(windows.searchsorted(reading.logits.argmax()))
        likeness = self.prototypes @ embeddings[min(loud, len(windows) - 1)]
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
