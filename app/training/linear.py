"""Trains the light classifier: logistic regression on the window of each attack that matters, taught by the encoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse  # type: ignore[import-untyped]
from scipy.optimize import minimize  # type: ignore[import-untyped]

from app.detection.features import BUCKETS
from app.training.windows import Windows

SOFTNESS: Final = 10.0
"""Inverse strength of the L2 penalty: at 6 % false positives 3 found 43.2 % of the held-out attacks, 10 46.1 %, 30
45.9 %."""
RATIO_FLOOR: Final = 0.3
"""Scaling of an n-gram that attacks and harmless texts share alike."""
ROUNDS: Final = 3
"""Round 1 spreads a text's label over its windows; later rounds keep the strongest window of each attack.
At 6 % false positives one round found 37.8 % of the held-out attacks, three 46.1 %."""
ITERATIONS: Final = 50


@dataclass(frozen=True, slots=True)
class LinearModel:
    weights: NDArray[np.float32]
    bias: float

    def logits(self, windows: Windows) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = windows.matrix @ self.weights + np.float32(self.bias)
        return logits

    def quantised(self) -> tuple[NDArray[np.int8], float]:
        """Return the weights in steps of 1/127 of the largest, and what a step is worth."""
        step = float(np.abs(self.weights).max()) / 127
        return np.rint(self.weights / step).astype(np.int8), step


def fit(
    windows: Windows,
    target: NDArray[np.float64],
    weight: NDArray[np.float64],
    chosen: NDArray[np.bool_],
    progress: Callable[[str], None],
) -> LinearModel:
    """Fit on the chosen texts; `target` (0 to 1, what the teacher makes of it), `weight` and `chosen` have one entry
    per text.

    Method: naive-Bayes log-count ratios as scaling (Wang and Manning, 2012, the absolute ratio only), L-BFGS, and
    multiple-instance learning by the strongest window (MI-SVM, Andrews et al., 2003).
    """
    attack = target >= 0.5
    scaling = _log_count_ratios(windows, attack, chosen)
    model = LinearModel(np.zeros(BUCKETS, np.float32), 0.0)
    for number in range(ROUNDS):
        window_weight = window_weights(windows, attack, weight, model.logits(windows) if number else None)
        rows = np.flatnonzero(chosen[windows.text_of] & (window_weight > 0))
        scaled = (windows.matrix[rows] @ sparse.diags(scaling, dtype=np.float32)).tocsr()
        model = _logistic_regression(scaled, target[windows.text_of[rows]], window_weight[rows], scaling, model)
        progress(f"classifier round {number + 1} of {ROUNDS}: {len(rows)} windows")
    return model


def window_weights(
    windows: Windows,
    attack: NDArray[np.bool_],
    weight: NDArray[np.float64],
    logits: NDArray[np.float32] | None,
) -> NDArray[np.float64]:
    """Return how much each window counts; without logits, a text's weight is spread evenly.

    With logits an attack counts by its strongest window alone, as the others may well be harmless, and a harmless
    text by all of its windows, each with the text's weight over the root of their number.
    """
    counts = windows.per_text()[windows.text_of]
    spread = weight[windows.text_of]
    if logits is None:
        return spread / counts
    strongest = logits >= windows.peaks(logits)[windows.text_of]
    return np.where(attack[windows.text_of], spread * strongest, spread / np.sqrt(counts))


def _log_count_ratios(windows: Windows, attack: NDArray[np.bool_], chosen: NDArray[np.bool_]) -> NDArray[np.float32]:
    present = windows.matrix.astype(bool).astype(np.float32)
    in_attack = (chosen & attack)[windows.text_of].astype(np.float32) @ present + 1
    in_harmless = (chosen & ~attack)[windows.text_of].astype(np.float32) @ present + 1
    ratio = np.log((in_attack / in_attack.sum()) / (in_harmless / in_harmless.sum()))
    scaling: NDArray[np.float32] = (RATIO_FLOOR + np.abs(ratio)).astype(np.float32)
    return scaling


def _logistic_regression(
    matrix: sparse.csr_matrix,
    target: NDArray[np.float64],
    weight: NDArray[np.float64],
    scaling: NDArray[np.float32],
    start: LinearModel,
) -> LinearModel:
    transposed = matrix.T.tocsr()

    def loss(point: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights, bias = point[:-1], point[-1]
        logits = (matrix @ weights.astype(np.float32)).astype(np.float64) + bias
        probability = 1 / (1 + np.exp(-logits))
        residual = weight * (probability - target)
        value = (weight * (np.logaddexp(0, logits) - target * logits)).sum()
        slope = (transposed @ residual.astype(np.float32)).astype(np.float64) + weights / SOFTNESS
        return float(value + weights @ weights / (2 * SOFTNESS)), np.append(slope, residual.sum())

    first = np.append(start.weights / scaling, start.bias).astype(np.float64)
    found = minimize(loss, first, jac=True, method="L-BFGS-B", options={"maxiter": ITERATIONS, "maxcor": 8}).x
    return LinearModel((found[:-1] * scaling).astype(np.float32), float(found[-1]))
