"""Measures how much of a disguised text detection still reads: `python -m app.evaluation.recovery`."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Final, Self

from app.contracts import Source
from app.detection.heuristics import Heuristics
from app.detection.normalise import prepare
from app.detection.patterns import load_patterns
from app.evaluation.obfuscate import TRANSFORMATIONS, transform
from app.settings import default_config_dir

DATA: Final = Path("data/detection")
SHORTEST, LONGEST = 20, 400
"""Characters of the texts that are taken."""
PER_LABEL: Final = {"en": 150, "pl": 50}
ALARM: Final = 50.0
"""Heuristics score from which a text counts as accused."""
_WORD: Final = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Row:
    """One text of data/detection."""

    text: str
    attack: bool
    lang: str


@dataclass(frozen=True, slots=True)
class Recovery:
    """What one disguise leaves of a set of texts."""

    overlap: float
    """Mean share of words (intersection over union) that the best reading has in common with the plain text, 0 to 1."""
    whole: float
    """Share of texts with an overlap of at least 0.95."""
    layers: float
    """Mean number of layers."""
    accused: float
    """Share of texts that the rules alone score ALARM or more."""
    plainly_accused: float
    """The same share without the disguise."""

    @classmethod
    def of(cls, rows: list[Row], name: str, rules: Heuristics) -> Self:
        """Disguise every row, its place being its seed, and compare what is read with the plain text."""
        overlaps, layers, accused, plainly = [], [], [], []
        for seed, row in enumerate(rows):
            plain, disguised = prepare(row.text), prepare(transform(name, row.text, seed))
            wanted = words_of(plain.canonical)
            readings = (disguised.canonical, *(layer.text for layer in disguised.layers))
            overlaps.append(max(overlap(wanted, words_of(reading)) for reading in readings))
            layers.append(len(disguised.layers))
            accused.append(rules.judge(disguised, Source.INPUT).result.score >= ALARM)
            plainly.append(rules.judge(plain, Source.INPUT).result.score >= ALARM)
        whole = fmean(share >= 0.95 for share in overlaps)
        return cls(fmean(overlaps), whole, fmean(layers), fmean(accused), fmean(plainly))


def words_of(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(text))


def overlap(one: frozenset[str], other: frozenset[str]) -> float:
    """Return intersection over union, 0 to 1; 1 for two empty sets."""
    return len(one & other) / len(one | other) if one or other else 1.0


def sample(folder: Path = DATA, files: Collection[str] | None = None) -> list[Row]:
    """Return the same short and medium texts each time: by the order of their SHA-256, PER_LABEL of each label.

    Args:
        folder: with the files.
        files: names of those that are read; None reads all.
    """
    rows = {row.text: row for row in read(folder, files) if SHORTEST <= len(row.text) <= LONGEST}
    ordered = sorted(rows.values(), key=lambda row: hashlib.sha256(row.text.encode()).digest())
    return [
        row
        for attack in (True, False)
        for lang, count in PER_LABEL.items()
        for row in [row for row in ordered if row.attack is attack and row.lang == lang][:count]
    ]


def read(folder: Path, files: Collection[str] | None = None) -> Iterator[Row]:
    """Yield the rows of a folder's files of these names, of all for None."""
    for path in sorted(folder.glob("*.jsonl") if files is None else (folder / name for name in files)):
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            yield Row(row["text"], row["label"] == "attack", row["lang"])


def main() -> None:
    rules = Heuristics(load_patterns(default_config_dir() / "patterns"))
    rows = sample()
    out = sys.stdout
    out.write(f"{'disguise':12} {'label':7} overlap whole layers accused (plain)\n")
    for name in TRANSFORMATIONS:
        for label, attack in (("attack", True), ("benign", False)):
            found = Recovery.of([row for row in rows if row.attack is attack], name, rules)
            out.write(
                f"{name:12} {label:7} {found.overlap:7.3f} {found.whole:5.2f} {found.layers:6.2f} "
                f"{found.accused:7.3f} ({found.plainly_accused:.3f})\n"
            )


if __name__ == "__main__":
    main()
