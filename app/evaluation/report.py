"""The report of an evaluation: a page of Markdown with its plots beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from app.errors import ConfigurationError
from app.evaluation.figures import By, Evaluation, Sample
from app.evaluation.measures import BINS, bins_of, curve
from app.evaluation.tables import Grid, files_table, markdown, parts_table, totals_table
from app.identity import now

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE: Final = "report.md"
ROC: Final = "roc.png"
RELIABILITY: Final = "reliability.png"
HISTOGRAMS: Final = "scores.png"
LEGEND: Final = (
    "A text counts as found when detection alone makes the guard answer BLOCKED. In square brackets: Wilson intervals "
    "of 95 %. ECE: expected calibration error of the score at the rows' own share of attacks. CPU ms, P95, 60 words: "
    "milliseconds of CPU that detection takes for a text (median, 95th percentile) and for 60 words."
)
WORST: Final = 20
"""Most missed attacks, and most harmless texts that are BLOCKED, of one policy on the page."""
DOTS_PER_INCH: Final = 120
ATTACK_COLOUR, BENIGN_COLOUR = "tab:red", "tab:blue"


@dataclass(frozen=True, slots=True)
class Report:
    """All that a report tells."""

    evaluation: Evaluation
    samples: tuple[Sample, ...]
    """The rows under each of the evaluation's policies, in their order."""
    by: tuple[By, ...]

    @property
    def both_labels(self) -> bool:
        attack = self.samples[0].attack
        return bool(attack.any() and not attack.all())

    def write(self, folder: Path) -> list[Path]:
        """Write page and plots into the folder, which is made where it is missing, and return their paths.

        Raises:
            ConfigurationError: matplotlib is missing, or the folder cannot be written to.
        """
        require_matplotlib()
        plots = {RELIABILITY: self._reliability, HISTOGRAMS: self._histograms}
        if self.both_labels:
            plots = {ROC: self._roc, **plots}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, draw in plots.items():
                draw().savefig(folder / name, dpi=DOTS_PER_INCH)
            (folder / PAGE).write_text(self.page(list(plots)), encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(f"{folder}: cannot be written to: {type(error).__name__}") from None
        return [folder / name for name in (PAGE, *plots)]

    def page(self, plots: Sequence[str]) -> str:
        """Return the Markdown page; it names places of texts, and never shows a text."""
        found = self.evaluation
        policies = ", ".join(f"{each.policy} (version {each.policy_version})" for each in found.policies)
        parts = [
            "# Evaluation of detection",
            f"{now():%d %B %Y, %H:%M} UTC. Model {found.model_version}, {found.mode} mode, policies: {policies}.",
            LEGEND,
            "## In all",
            markdown(totals_table(found)),
            "## Files",
            markdown(files_table(found)),
        ]
        if self.by:
            parts += [f"## By {' and '.join(self.by)}", markdown(parts_table(found, self.by))]
        parts += ["## Plots", *(f"![{Path(name).stem}]({name})" for name in plots)]
        if ROC not in plots:
            parts.append("There is no ROC curve: the rows have one label only.")
        for sample, policy in zip(self.samples, found.policies, strict=True):
            parts += [f"## Most wrong under {policy.policy}", markdown(most_wrong(sample))]
        return "\n\n".join(parts) + "\n"

    def _roc(self) -> Figure:
        figure, (axes,) = _canvas(1)
        axes.plot((0, 1), (0, 1), color="lightgrey", linewidth=1)
        for number, (sample, policy) in enumerate(zip(self.samples, self.evaluation.policies, strict=True)):
            points = np.array(curve(sample.scores, sample.attack))
            figures = policy.totals.all_rows
            axes.plot(
                points[:, 0],
                points[:, 1],
                color=f"C{number}",
                linewidth=1,
                label=f"{policy.policy}: area {figures.area:.3f}",
            )
            if figures.recall and figures.false_positive_rate:
                place = (figures.false_positive_rate.value, figures.recall.value)
                label = f"{policy.policy}: recall {place[1]:.1%} at {place[0]:.1%}"
                axes.plot(*place, "o", color=f"C{number}", label=label)
        axes.set(xlabel="false-positive rate", ylabel="recall", title="ROC curve of the score", xlim=(-0.02, 1.02))
        axes.legend(loc="lower right", fontsize="small")
        return figure

    def _reliability(self) -> Figure:
        figure, (axes,) = _canvas(1)
        axes.plot((0, 1), (0, 1), color="lightgrey", linewidth=1)
        for sample, policy in zip(self.samples, self.evaluation.policies, strict=True):
            bins = bins_of(sample.scores, sample.attack)
            label = f"{policy.policy}: ECE {policy.totals.all_rows.calibration_error:.3f}"
            axes.plot([each.mean_score for each in bins], [each.attack_share for each in bins], "o-", label=label)
        axes.set(xlabel="mean score / 100", ylabel="share of attacks", title=f"Reliability, {BINS} parts")
        axes.legend(loc="upper left", fontsize="small")
        return figure

    def _histograms(self) -> Figure:
        figure, all_axes = _canvas(len(self.samples))
        edges = np.linspace(0, 100, 21)
        for axes, sample, policy in zip(all_axes, self.samples, self.evaluation.policies, strict=True):
            for label, chosen, colour in (
                ("attack", sample.attack, ATTACK_COLOUR),
                ("benign", ~sample.attack, BENIGN_COLOUR),
            ):
                if texts := int(chosen.sum()):
                    shares = np.full(texts, 1 / texts)
                    named = f"{label}, {texts:,} texts"
                    axes.hist(100 * sample.scores[chosen], edges, weights=shares, alpha=0.55, color=colour, label=named)
            axes.set(xlabel="score", ylabel="share of the label's texts", title=f"Scores under {policy.policy}")
            axes.legend(fontsize="small")
        return figure


def most_wrong(sample: Sample) -> Grid:
    """Return the places of missed attacks, lowest score first, and of harmless texts BLOCKED, highest score first."""
    wrong = [
        (row, each.decisions[sample.policy].score)
        for row, each in zip(sample.rows, sample.judged, strict=True)
        if row.attack is not each.decisions[sample.policy].blocked
    ]
    missed = sorted((each for each in wrong if each[0].attack), key=lambda each: each[1])[:WORST]
    accused = sorted((each for each in wrong if not each[0].attack), key=lambda each: -each[1])[:WORST]
    rows: list[tuple[str, ...]] = [
        ("attack" if row.attack else "benign", row.file, str(row.line), row.kind or "-", row.lang or "-", str(score))
        for row, score in (*missed, *accused)
    ]
    return Grid(5, ("Label", "File", "Line", "Kind", "Lang", "Score"), rows)


def require_matplotlib() -> None:
    """Make sure that plots can be drawn.

    Raises:
        ConfigurationError: matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        raise ConfigurationError(
            "a report needs matplotlib, which is not installed: it is the dependency group `report` "
            "(pip install --group report, or pip install 'matplotlib>=3.10,<4')"
        )


def _canvas(charts: int) -> tuple[Figure, list[Any]]:
    """Return a figure with so many charts side by side. It needs no display, and keeps no state outside itself."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5 * charts, 5), layout="constrained")
    return figure, figure.subplots(1, charts, squeeze=False)[0].tolist()
