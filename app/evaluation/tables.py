"""The tables that an evaluation is told in: of words, for a terminal or for Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from app.evaluation.disguises import ObfuscationFigures
from app.evaluation.figures import By, Evaluation, Figures, Part, PolicyFigures
from app.evaluation.measures import Share

NOTHING: Final = "-"
MEASURES: Final = (
    "Rows",
    "Attacks",
    "Recall %",
    "False positives %",
    "Accuracy %",
    "ECE",
    "AUC",
    "CPU ms",
    "P95",
    "60 words",
)


@dataclass(frozen=True, slots=True)
class Grid:
    """A table: `names` columns of names, then columns of figures."""

    names: int
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]


def percents(share: Share | None) -> str:
    """Return a share with its interval."""
    return NOTHING if share is None else f"{share.value:.1%} [{share.low:.1%}, {share.high:.1%}]".replace("%", "")


def percent(value: float | None, form: str = ".1f") -> str:
    return NOTHING if value is None else f"{100 * value:{form}}"


def number(value: float | None, form: str) -> str:
    return NOTHING if value is None else f"{value:{form}}"


def measures(figures: Figures) -> tuple[str, ...]:
    """Return the cells of MEASURES."""
    return (
        f"{figures.rows:,}",
        f"{figures.attacks:,}",
        percents(figures.recall),
        percents(figures.false_positive_rate),
        percents(figures.accuracy),
        number(figures.calibration_error, ".3f"),
        number(figures.area, ".3f"),
        number(figures.cpu_ms_median, ".2f"),
        number(figures.cpu_ms_p95, ".2f"),
        number(figures.cpu_ms_per_60_words, ".2f"),
    )


def files_table(evaluation: Evaluation) -> Grid:
    """Return a row for each policy and file."""
    rows = [
        (policy.policy, part.file, *measures(part.figures)) for policy in evaluation.policies for part in policy.files
    ]
    return Grid(2, ("Policy", "File", *MEASURES), rows)


def parts_table(evaluation: Evaluation, by: Sequence[By]) -> Grid:
    """Return a row for each policy, file and kind or language."""
    rows = [
        (policy.policy, part.file, *names_of(part, by), *measures(part.figures))
        for policy in evaluation.policies
        for part in policy.parts
    ]
    return Grid(2 + len(by), ("Policy", "File", *(each.title() for each in by), *MEASURES), rows)


def names_of(part: Part, by: Sequence[By]) -> tuple[str, ...]:
    return tuple((part.kind if each is By.KIND else part.lang) or NOTHING for each in by)


def totals_table(evaluation: Evaluation) -> Grid:
    """Return a row for each policy: the means over files, and all rows as if they were one file."""
    columns = ("Policy", "Mean recall %", "Of files", "Mean false positives %", "Of files", *MEASURES)
    return Grid(1, columns, [_totals(policy) for policy in evaluation.policies])


def _totals(policy: PolicyFigures) -> tuple[str, ...]:
    totals = policy.totals
    return (
        policy.policy,
        percent(totals.mean_recall),
        str(totals.files_with_attacks),
        percent(totals.mean_false_positive_rate),
        str(totals.files_with_benign),
        *measures(totals.all_rows),
    )


def disguises_table(found: ObfuscationFigures) -> Grid:
    """Return a row for each policy and disguise."""
    columns = ("Policy", "Disguise", "Recall %", "Drop", "False positives %", "Rise")
    rows: list[tuple[str, ...]] = [
        (
            policy.policy,
            each.disguise,
            percents(each.recall),
            percent(each.recall_drop, "+.1f"),
            percents(each.false_positive_rate),
            percent(each.false_positive_rise, "+.1f"),
        )
        for policy in found.policies
        for each in policy.disguises
    ]
    return Grid(2, columns, rows)


def markdown(grid: Grid) -> str:
    """Return the table as Markdown; names are never taken for markup."""
    head = f"| {' | '.join(grid.columns)} |"
    line = "|" + "---|" * grid.names + "--:|" * (len(grid.columns) - grid.names)
    cells = ((*map(_escaped, row[: grid.names]), *row[grid.names :]) for row in grid.rows)
    return "\n".join((head, line, *(f"| {' | '.join(row)} |" for row in cells)))


def _escaped(cell: str) -> str:
    shown = "".join(letter if letter.isprintable() else "\ufffd" for letter in cell)
    return "".join("\\" + letter if letter in "\\|`*_<[" else letter for letter in shown)
