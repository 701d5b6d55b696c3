"""The obfuscation set: what the guard still decides when texts come in the disguises of `obfuscate`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from app.contracts import Mode
from app.evaluation.figures import Sample
from app.evaluation.judge import Text
from app.evaluation.measures import Share, share
from app.evaluation.obfuscate import transform
from app.evaluation.recovery import LONGEST, SHORTEST
from app.evaluation.rows import Row

PLAIN: Final = "plain"
"""The texts as they are."""
PER_LABEL: Final = 200
"""Attacks, and harmless texts, of the set."""


@dataclass(frozen=True, slots=True)
class Disguised:
    """What one disguise does to the decisions about the set."""

    disguise: str
    recall: Share | None
    recall_drop: float | None
    """Recall of the plain texts less this one, 0 to 1; negative where the disguise helps to find attacks."""
    false_positive_rate: Share | None
    false_positive_rise: float | None
    """This rate less that of the plain texts."""
    failed: int
    """Texts for which a branch failed."""

    @classmethod
    def of(cls, disguise: str, sample: Sample, plain: Sample) -> Self:
        recall, plain_recall = share(sample.blocked[sample.attack]), share(plain.blocked[plain.attack])
        rate, plain_rate = share(sample.blocked[~sample.attack]), share(plain.blocked[~plain.attack])
        return cls(
            disguise=disguise,
            recall=recall,
            recall_drop=plain_recall.value - recall.value if recall and plain_recall else None,
            false_positive_rate=rate,
            false_positive_rise=rate.value - plain_rate.value if rate and plain_rate else None,
            failed=sum(each.failed for each in sample.judged),
        )


@dataclass(frozen=True, slots=True)
class PolicyDisguises:
    policy: str
    policy_version: int
    disguises: list[Disguised]
    """The plain texts first."""


@dataclass(frozen=True, slots=True)
class ObfuscationFigures:
    """All that was found of the obfuscation set."""

    model_version: str
    mode: Mode
    attacks: int
    benign: int
    policies: list[PolicyDisguises]


def chosen(rows: Sequence[Row]) -> list[Row]:
    """Return the set, the same each time: of the texts of SHORTEST to LONGEST characters, each once, the first
    PER_LABEL attacks and PER_LABEL harmless ones in the order of their SHA-256."""
    fitting = {row.text: row for row in rows if SHORTEST <= len(row.text) <= LONGEST}
    ordered = sorted(fitting.values(), key=lambda row: hashlib.sha256(row.text.encode()).digest())
    return [row for attack in (True, False) for row in [row for row in ordered if row.attack is attack][:PER_LABEL]]


def disguised(rows: Sequence[Row], name: str) -> list[Text]:
    """Return the texts in a disguise, each text's place being its seed, or as they are for PLAIN."""
    return [
        Text(row.text if name == PLAIN else transform(name, row.text, seed), row.source)
        for seed, row in enumerate(rows)
    ]
