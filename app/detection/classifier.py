"""The classifier branch: a calibrated linear model over hashed n-grams."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from app.contracts import BranchName, Category
from app.detection.evidence import REPORT_AT, Calibration, Judgement, findings_of, loudest, read_model, result_of
from app.detection.features import BUCKETS, PreparedFeatures, TextFeatures, pool
from app.detection.normalise import PreparedText
from app.errors import ModelUnavailable

MODEL_FILE: Final = "classifier.npz"


@dataclass(frozen=True, slots=True)
class Classifier:
    """Logistic regression over the distinct n-grams of each window, divided by the root of their number.

    Holds nothing that changes, so one instance serves all threads.
    """

    model_version: str
    weights: NDArray[np.int8]
    """Quantised weight of each bucket; shape (BUCKETS,)."""
    scale: float
    """What one step of a quantised weight is worth."""
    bias: float
    calibration: Calibration

    @classmethod
    def load(cls, models_dir: Path) -> Self:
        """Read the model from a folder.

        Raises:
            ModelUnavailable: a file is missing, damaged, or was trained on other features than this code extracts.
        """
        arrays, metadata = read_model(models_dir, MODEL_FILE)
        try:
            weights, calibration = arrays["weights"], Calibration(**metadata["classifier"]["calibration"])
            scale, bias, version = float(arrays["scale"]), float(arrays["bias"]), str(metadata["model_version"])
        except (KeyError, TypeError, ValueError):
            raise ModelUnavailable(f"{MODEL_FILE} or its metadata is incomplete") from None
        if weights.shape != (BUCKETS,) or weights.dtype != np.int8:
            raise ModelUnavailable(f"{MODEL_FILE} holds weights of another shape or type than the classifier's")
        return cls(version, weights, scale, bias, calibration)

    def window_logits(self, features: TextFeatures) -> NDArray[np.float32]:
        """Return the uncalibrated logit of each window; shape (windows,)."""
        if not features.blocks:
            return np.empty(0, np.float32)
        sums = np.add.reduceat(self.weights.take(features.buckets).astype(np.int32), features.offsets[:-1])
        norms = np.sqrt(pool(features.counts().astype(np.float32)))
        logits = pool(sums.astype(np.float32)) * np.float32(self.scale) / norms + np.float32(self.bias)
        return logits.astype(np.float32, copy=False)

    def probability(self, features: PreparedFeatures) -> float:
        """Return the probability of an attack, 0 to 1, in a text and all that was hidden in it."""
        return loudest(features, self.window_logits, self.calibration).probability

    def judge(self, features: PreparedFeatures, prepared: PreparedText) -> Judgement:
        """Judge a text and all that was hidden in it; the highest score counts."""
        reading = loudest(features, self.window_logits, self.calibration)
        score = 100 * reading.probability
        if score < REPORT_AT:
            return Judgement(result_of(reading.probability, (), ()), [], [])
        signals = ["ngrams:attack"]
        explanation = f"The wording resembles attacks more than harmless text (probability {reading.probability:.0%})"
        if reading.layer is not None:
            kind = prepared.layers[reading.layer].kind
            signals.append(f"layer:{kind}")
            explanation += f", once {kind} is undone"
        findings = findings_of(reading, prepared, self.calibration, BranchName.CLASSIFIER, "ngrams")
        result = result_of(reading.probability, signals, [f"{explanation}."])
        return Judgement(result, findings, [Category.PROMPT_INJECTION])
