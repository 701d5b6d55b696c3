"""The whole training: measure on what is held out, then fit on everything and write the model files."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.detection import classifier, semantic
from app.detection.evidence import METADATA_FILE
from app.detection.features import FEATURE_VERSION, extract
from app.detection.normalise import prepare
from app.training import calibration, embedding, linear
from app.training.corpus import FOLDS, Row
from app.training.report import BranchFigures, Figures, figures_of, model_card
from app.training.windows import Windows, build

MODEL_VERSION: Final = "2026.11-ngram-1"
Progress = Callable[[str], None]
Scores = dict[str, NDArray[np.float32]]
BRANCHES: Final = ("classifier", "semantic")


@dataclass(frozen=True, slots=True)
class Models:
    """Both branches, fitted on the same texts."""

    classifier: linear.LinearModel
    semantic: embedding.EmbeddingModel

    def logits(self, windows: Windows) -> Scores:
        return {"classifier": self.classifier.logits(windows), "semantic": self.semantic.logits(windows)}


@dataclass(frozen=True, slots=True)
class Corpus:
    """The rows with all that is computed of them once."""

    rows: Sequence[Row]
    windows: Windows
    attack: NDArray[np.bool_]
    weight: NDArray[np.float64]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Corpus:
        windows = build([extract(prepare(row.text).canonical) for row in rows])
        attack = np.array([row.attack for row in rows])
        return cls(rows, windows, attack, np.array([row.weight for row in rows]))

    def flags(self, chosen: Callable[[Row], bool]) -> NDArray[np.bool_]:
        return np.array([chosen(row) for row in self.rows], dtype=bool)

    def fit(self, chosen: NDArray[np.bool_], seed: int, progress: Progress) -> Models:
        """Fit both branches on the chosen rows; the classifier says which window of an attack the other looks at."""
        first = linear.fit(self.windows, self.attack, self.weight, chosen, progress)
        weight = linear.window_weights(self.windows, self.attack, self.weight, first.logits(self.windows))
        weight = weight * chosen[self.windows.text_of]
        families = [row.family for row in self.rows]
        return Models(first, embedding.fit(self.windows, families, weight, seed, progress))


def train(rows: Sequence[Row], out: Path, seed: int, progress: Progress) -> Figures:
    """Measure, fit on all rows, and write weights, metadata and model card into `out`. About ten minutes on one core.

    The figures are those of models that never saw the held-out rows; the calibration comes from logits out of fold.
    """
    started = time.monotonic()

    def timed(message: str) -> None:
        progress(f"[{time.monotonic() - started:4.0f} s] {message}")

    corpus = Corpus.of(rows)
    timed(f"{len(rows)} texts, {corpus.windows.matrix.shape[0]} windows, {corpus.windows.matrix.nnz} n-grams")
    held_out = corpus.flags(lambda row: row.held_out)
    own = corpus.flags(lambda row: row.own)
    unseen: Scores = {name: np.zeros(len(corpus.windows.text_of), np.float32) for name in BRANCHES}
    for fold in range(FOLDS):
        timed(f"fold {fold + 1} of {FOLDS}")
        in_fold = corpus.flags(lambda row, fold=fold: row.fold == fold) & ~held_out  # type: ignore[misc]
        _take(unseen, corpus.fit(~in_fold & ~held_out, seed, timed).logits(corpus.windows), corpus.windows, in_fold)
    timed("measured model: everything but the held-out rows")
    _take(unseen, corpus.fit(~held_out, seed, timed).logits(corpus.windows), corpus.windows, held_out)
    measured = _fit_calibrations(corpus, unseen, own & ~held_out)
    figures = Figures(
        {
            name: BranchFigures(
                fitted, figures_of(corpus.rows, corpus.attack, own, held_out, corpus.windows, unseen[name], fitted)
            )
            for name, fitted in measured.items()
        }
    )
    timed("shipped model: all rows")
    models = corpus.fit(np.ones(len(rows), dtype=bool), seed, timed)
    _write(out, models, _fit_calibrations(corpus, unseen, own), figures, seed)
    timed(f"written to {out}")
    return figures


def _take(into: Scores, logits: Scores, windows: Windows, texts: NDArray[np.bool_]) -> None:
    taken = texts[windows.text_of]
    for name, values in logits.items():
        into[name][taken] = values[taken]


def _fit_calibrations(corpus: Corpus, unseen: Scores, chosen: NDArray[np.bool_]) -> dict[str, calibration.Fitted]:
    return {name: calibration.fit(corpus.windows, unseen[name], corpus.attack, chosen) for name in BRANCHES}


def _write(out: Path, models: Models, fitted: dict[str, calibration.Fitted], figures: Figures, seed: int) -> None:
    out.mkdir(parents=True, exist_ok=True)
    weights, scale = models.classifier.quantised()
    np.savez_compressed(
        out / classifier.MODEL_FILE, weights=weights, scale=np.float64(scale), bias=np.float64(models.classifier.bias)
    )
    np.savez_compressed(
        out / semantic.MODEL_FILE,
        table=models.semantic.quantised(),
        prototypes=models.semantic.prototypes.astype(np.float16),
    )
    metadata: dict[str, Any] = {
        "model_version": MODEL_VERSION,
        "feature_version": FEATURE_VERSION,
        "seed": seed,
        "classifier": {
            "calibration": asdict(fitted["classifier"].calibration),
            "assumed_attack_share": fitted["classifier"].attack_share,
        },
        "semantic": {
            "calibration": asdict(fitted["semantic"].calibration),
            "assumed_attack_share": fitted["semantic"].attack_share,
            "sharpness": embedding.SHARPNESS,
            "families": [str(family) for family in embedding.FAMILIES for _ in range(embedding.PROTOTYPES)],
        },
    }
    (out / METADATA_FILE).write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")
    (out / "MODEL_CARD.md").write_text(model_card(figures, MODEL_VERSION), encoding="utf-8")
