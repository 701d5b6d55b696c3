"""Turns what a learned branch saw in each window of a text into one calibrated probability and its report."""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.contracts import BranchResult, Category, Finding
from app.detection.features import FEATURE_VERSION, PreparedFeatures, TextFeatures
from app.detection.normalise import PreparedText
from app.errors import ModelUnavailable

REPORT_AT: Final = 50.0
"""Score from which a branch names what it saw; the arbiter's blocking threshold is a setting of its own."""
MAX_FINDINGS: Final = 5
MAX_WINDOWS_COUNTED: Final = 32
"""Beyond as many windows the allowance for having looked at many of them stays the same: longer training texts are
rare, and a longer text must not be a place to hide."""
METADATA_FILE: Final = "metadata.json"


@dataclass(frozen=True, slots=True)
class Calibration:
    """Platt scaling (Platt, 1999) over the windows of a text, fitted on rows that the model had not seen."""

    peak: float
    """Weight of the strongest window's logit."""
    mean: float
    """Weight of the mean logit of all windows."""
    breadth: float
    """Weight of the natural logarithm of the number of windows."""
    bias: float

    def probability(self, logits: NDArray[np.float32], allowance: float = 0.0) -> float:
        """Return the probability of an attack, 0 to 1, from the logits of all windows; 0 for none.

        `allowance` is taken off the text's logit.
        """
        if not len(logits):
            return 0.0
        breadth = math.log(min(len(logits), MAX_WINDOWS_COUNTED))
        logit = (
            self.peak * float(logits.max())
            + self.mean * float(logits.sum()) / len(logits)
            + self.breadth * breadth
            + self.bias
            - allowance
        )
        return 1 / (1 + math.exp(-max(min(logit, 30.0), -30.0)))


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a learned branch says of a text."""

    result: BranchResult
    findings: list[Finding]
    """Windows that speak for an attack, strongest first, in code points of the original; empty below REPORT_AT."""
    categories: list[Category]


@dataclass(frozen=True, slots=True)
class Reading:
    """The part of a text, itself or one of its layers, that speaks loudest."""

    probability: float
    logits: NDArray[np.float32]
    features: TextFeatures
    layer: int | None
    """Index of the layer; None for the text itself."""


def loudest(
    features: PreparedFeatures, logits_of: Callable[[TextFeatures], NDArray[np.float32]], calibration: Calibration
) -> Reading:
    """Judge a text, the readable part of it and its layers, and return the one with the highest probability of an
    attack; of a text that says nothing as it stands the layers alone."""
    parts: list[tuple[int | None, TextFeatures]] = list(enumerate(features.layers))
    if not features.says_nothing:
        parts[:0] = [(None, part) for part in (features.text, features.clear) if part is not None]
    readings = []
    for layer, part in parts:
        logits = logits_of(part)
        readings.append(Reading(calibration.probability(logits), logits, part, layer))
    return max(readings, key=lambda reading: reading.probability)


def findings_of(
    reading: Reading, prepared: PreparedText, calibration: Calibration, detector: str, rule: str
) -> list[Finding]:
    """Return the windows that would be called an attack by themselves, strongest first; at least the strongest.

    A finding in a layer spans what the layer was decoded from.
    """
    score = 100 * reading.probability
    if reading.layer is not None:
        layer = prepared.layers[reading.layer]
        return [Finding(detector=detector, rule=rule, start=layer.start, end=layer.end, score=score)]
    findings: list[Finding] = []
    for window in np.argsort(-reading.logits, kind="stable")[:MAX_FINDINGS].tolist():
        alone = 100 * calibration.probability(reading.logits[window : window + 1])
        if findings and alone < REPORT_AT:
            break
        start, end = prepared.original_span(*reading.features.window_span(window))
        findings.append(Finding(detector=detector, rule=rule, start=start, end=end, score=min(alone, score)))
    return findings


def result_of(probability: float, signals: Sequence[str], explanations: Sequence[str]) -> BranchResult:
    """Return the branch's result: score is 100 times the probability of an attack, confidence that of the verdict."""
    return BranchResult(
        score=100 * probability,
        confidence=max(probability, 1 - probability),
        signals=list(signals),
        explanations=list(explanations),
    )


def read_metadata(models_dir: Path) -> dict[str, Any]:
    """Return what was written beside the models of a folder.

    Raises:
        ModelUnavailable: the file is missing or damaged.
    """
    try:
        metadata: dict[str, Any] = json.loads((models_dir / METADATA_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as failure:
        raise ModelUnavailable(f"{METADATA_FILE} cannot be read: {type(failure).__name__}") from None
    return metadata


def read_model(models_dir: Path, file: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the arrays of a model file and the metadata that was written with it.

    Raises:
        ModelUnavailable: a file is missing, damaged, or was trained on other features than this code extracts.
    """
    try:
        metadata = json.loads((models_dir / METADATA_FILE).read_text(encoding="utf-8"))
        with np.load(models_dir / file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        trained_on = metadata["feature_version"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as failure:
        raise ModelUnavailable(f"the model file {file} cannot be read: {type(failure).__name__}") from None
    if trained_on != FEATURE_VERSION:
        raise ModelUnavailable(f"{file} was trained on features {trained_on}, this code extracts {FEATURE_VERSION}")
    return arrays, metadata
