"""The figures of a training run, per file and in all, and the model card that tells them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.training.calibration import Fitted, expected_calibration_error, probabilities
from app.training.corpus import Row
from app.training.windows import Windows

_TEMPLATE: Final = Path(__file__).with_name("model_card.md.in")


@dataclass(frozen=True, slots=True)
class Slice:
    """What a branch does on the held-out rows of one label in one file."""

    file: str
    attack: bool
    rows: int
    reached: float
    """Share that reaches a score of 50: recall of attacks, false-positive rate of harmless text."""
    mean: float
    """Mean score, 0 to 100."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    slices: list[Slice]
    recall: float
    """Of all own held-out attacks."""
    false_positive_rate: float
    """Of all own held-out harmless texts."""
    pairs_in_order: float
    """Share of contrast pairs whose attack scores above its twin."""
    pairs_right: float
    """Share of contrast pairs with both on their side of 50."""
    area: float
    """Area under the ROC curve over own held-out rows."""
    calibration_error: float
    """Expected calibration error over own held-out rows, at the assumed share of attacks."""


@dataclass(frozen=True, slots=True)
class BranchFigures:
    fitted: Fitted
    held_out: HeldOut


@dataclass(frozen=True, slots=True)
class Figures:
    branches: dict[str, BranchFigures]


def figures_of(
    rows: Sequence[Row],
    attack: NDArray[np.bool_],
    own: NDArray[np.bool_],
    held_out: NDArray[np.bool_],
    windows: Windows,
    logits: NDArray[np.float32],
    fitted: Fitted,
) -> HeldOut:
    """Measure on the held-out rows; `logits` must come from a model that never saw them."""
    probability = probabilities(windows, logits, fitted.calibration)
    groups: dict[tuple[bool, str, bool], list[float]] = defaultdict(list)
    pairs: dict[tuple[str, int], dict[bool, float]] = defaultdict(dict)
    for index in np.flatnonzero(held_out).tolist():
        row = rows[index]
        groups[not row.own, row.file, row.attack].append(float(probability[index]))
        if row.pair is not None:
            pairs[row.file, row.pair][row.attack] = float(probability[index])
    slices = [
        Slice(file, is_attack, len(values), float(np.mean(np.array(values) >= 0.5)), 100 * float(np.mean(values)))
        for (_, file, is_attack), values in sorted(groups.items())
    ]
    ours = own & held_out
    whole = [pair for pair in pairs.values() if len(pair) == 2]
    return HeldOut(
        slices=slices,
        recall=float((probability[ours & attack] >= 0.5).mean()),
        false_positive_rate=float((probability[ours & ~attack] >= 0.5).mean()),
        pairs_in_order=float(np.mean([pair[True] > pair[False] for pair in whole])),
        pairs_right=float(np.mean([pair[True] >= 0.5 > pair[False] for pair in whole])),
        area=_area_under_curve(probability[ours & attack], probability[ours & ~attack]),
        calibration_error=expected_calibration_error(probability[ours], attack[ours], fitted.attack_share),
    )


def _area_under_curve(attacks: NDArray[np.float64], harmless: NDArray[np.float64]) -> float:
    below = np.searchsorted(np.sort(harmless), attacks, "left") + np.searchsorted(np.sort(harmless), attacks, "right")
    return float(below.mean() / (2 * len(harmless)))


def model_card(figures: Figures, version: str) -> str:
    """Return the model card as Markdown."""
    text = _TEMPLATE.read_text(encoding="utf-8")
    return (
        text.replace("{version}", version).replace("{totals}", _totals(figures)).replace("{slices}", _slices(figures))
    )


def _totals(figures: Figures) -> str:
    names = list(figures.branches)
    measured = [figures.branches[name].held_out for name in names]
    lines = [f"| | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for title, values in (
        ("recall at score 50", [f"{held.recall:.1%}" for held in measured]),
        ("false positives at score 50", [f"{held.false_positive_rate:.1%}" for held in measured]),
        ("area under the ROC curve", [f"{held.area:.3f}" for held in measured]),
        ("contrast pairs in order", [f"{held.pairs_in_order:.1%}" for held in measured]),
        ("contrast pairs with both right", [f"{held.pairs_right:.1%}" for held in measured]),
        ("expected calibration error", [f"{held.calibration_error:.3f}" for held in measured]),
        ("assumed share of attacks", [f"{figures.branches[name].fitted.attack_share:.1%}" for name in names]),
    ):
        lines.append(f"| {title} | {' | '.join(values)} |")
    return "\n".join(lines)


def _slices(figures: Figures) -> str:
    names = list(figures.branches)
    titles = " | ".join(f"{name} reached 50 | {name} mean" for name in names)
    lines = [f"| file | label | rows | {titles} |", f"|---|---|---|{'---|' * (2 * len(names))}"]
    for parts in zip(*(figures.branches[name].held_out.slices for name in names), strict=True):
        first = parts[0]
        cells = " | ".join(f"{part.reached:.0%} | {part.mean:.0f}" for part in parts)
        lines.append(f"| {first.file} | {'attack' if first.attack else 'benign'} | {first.rows} | {cells} |")
    return "\n".join(lines)
