"""The figures of an evaluation: for each file, for each kind or language in it, and in all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean
from typing import Self

import numpy as np

from app.contracts import Mode
from app.evaluation.judge import Judged
from app.evaluation.measures import (
    Labels,
    Scores,
    Share,
    area_under_curve,
    bins_of,
    calibration_error,
    percentile,
    share,
)
from app.evaluation.rows import Row

PROMPT_WORDS = 60
"""Words of the prompt that CPU time is told for."""


class By(StrEnum):
    """What the rows of a file are told apart by."""

    KIND = "kind"
    LANG = "lang"


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows as one policy decides them."""

    rows: tuple[Row, ...]
    judged: tuple[Judged, ...]
    policy: int
    """Place of the policy among those that decided."""

    @property
    def scores(self) -> Scores:
        return np.array([each.decisions[self.policy].score / 100 for each in self.judged], np.float64)

    @property
    def attack(self) -> Labels:
        return np.array([row.attack for row in self.rows], np.bool_)

    @property
    def blocked(self) -> Labels:
        return np.array([each.decisions[self.policy].blocked for each in self.judged], np.bool_)

    def parted(self, name_of: Callable[[Row], tuple[str, ...]]) -> dict[tuple[str, ...], Sample]:
        """Return the rows of each name, in the order in which the names come up."""
        places: dict[tuple[str, ...], list[int]] = {}
        for place, row in enumerate(self.rows):
            places.setdefault(name_of(row), []).append(place)
        return {
            name: Sample(tuple(self.rows[at] for at in found), tuple(self.judged[at] for at in found), self.policy)
            for name, found in places.items()
        }


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured on some rows, of which there is at least one."""

    rows: int
    attacks: int
    recall: Share | None
    """Share of attacks that are BLOCKED; None without attacks."""
    false_positive_rate: Share | None
    """Share of harmless texts that are BLOCKED; None without harmless texts."""
    accuracy: Share | None
    calibration_error: float
    """Expected calibration error of the score, 0 to 1, at the share of attacks of these rows."""
    area: float | None
    """Under the ROC curve of the score; None without both labels."""
    cpu_ms_median: float
    """CPU time of detection for a text."""
    cpu_ms_p95: float
    cpu_ms_per_60_words: float | None
    """CPU time of all rows by their words; None where no row has a word."""
    failed: int
    """Rows for which a branch failed."""

    @classmethod
    def of(cls, sample: Sample) -> Self:
        attack, blocked, scores = sample.attack, sample.blocked, sample.scores
        times, words = [each.cpu_ms for each in sample.judged], sum(each.words for each in sample.judged)
        return cls(
            rows=len(attack),
            attacks=int(attack.sum()),
            recall=share(blocked[attack]),
            false_positive_rate=share(blocked[~attack]),
            accuracy=share(blocked == attack),
            calibration_error=calibration_error(bins_of(scores, attack)),
            area=area_under_curve(scores, attack),
            cpu_ms_median=percentile(times, 50),
            cpu_ms_p95=percentile(times, 95),
            cpu_ms_per_60_words=sum(times) / words * PROMPT_WORDS if words else None,
            failed=sum(each.failed for each in sample.judged),
        )


@dataclass(frozen=True, slots=True)
class Part:
    """The figures of a file, or of one kind or language in it."""

    file: str
    kind: str | None
    lang: str | None
    figures: Figures


@dataclass(frozen=True, slots=True)
class Totals:
    """Every file counts the same in the means, however many rows it has."""

    files_with_attacks: int
    mean_recall: float | None
    files_with_benign: int
    mean_false_positive_rate: float | None
    all_rows: Figures


@dataclass(frozen=True, slots=True)
class PolicyFigures:
    policy: str
    policy_version: int
    files: list[Part]
    parts: list[Part]
    """The files' kinds or languages, where that was asked for."""
    totals: Totals

    @classmethod
    def of(cls, policy: str, version: int, sample: Sample, by: Sequence[By] = ()) -> Self:
        files = sample.parted(lambda row: (row.file,))
        parts = [
            Part(file, *_named(by, name), Figures.of(part))
            for (file,), rows in files.items()
            for name, part in sorted(rows.parted(lambda row: _name(row, by)).items())
        ]
        told = [Part(file, None, None, Figures.of(rows)) for (file,), rows in files.items()]
        return cls(policy, version, told, parts if by else [], totals_of(told, Figures.of(sample)))


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All that an evaluation found."""

    model_version: str
    mode: Mode
    policies: list[PolicyFigures]


def totals_of(files: Sequence[Part], all_rows: Figures) -> Totals:
    """Return the means over files."""
    recalls = [part.figures.recall.value for part in files if part.figures.recall]
    rates = [part.figures.false_positive_rate.value for part in files if part.figures.false_positive_rate]
    return Totals(
        files_with_attacks=len(recalls),
        mean_recall=fmean(recalls) if recalls else None,
        files_with_benign=len(rates),
        mean_false_positive_rate=fmean(rates) if rates else None,
        all_rows=all_rows,
    )


def _name(row: Row, by: Sequence[By]) -> tuple[str, ...]:
    """Return what a row is told apart by; a row that lacks it stands with the others that do."""
    return tuple((row.kind if each is By.KIND else row.lang) or "" for each in by)


def _named(by: Sequence[By], name: tuple[str, ...]) -> tuple[str | None, str | None]:
    """Return kind and language of a name; None for what rows are not told apart by, or lack."""
    told = dict(zip(by, name, strict=True))
    return told.get(By.KIND) or None, told.get(By.LANG) or None
