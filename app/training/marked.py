"""Texts with marked personal data, as the tagger of names and its teacher learn from them."""

from __future__ import annotations

import hashlib
import json
import random
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.pii.given_names import GivenNames
from app.pii.tagger import ENTITIES, look
from app.subwords import SubWordTable
from app.training.corpus import Row

LONGEST: Final = 480
"""Sub-words of a text that are read in training: the teacher has 512 positions."""
LOWER_SHARE: Final = 0.12
UPPER_SHARE: Final = 0.03
PLAIN_SHARE: Final = 0.08
"""Of texts whose accents are taken away."""
SWAP_SHARE: Final = 0.45
"""Of values that are replaced by another one of their kind."""
PART_SHARE: Final = 0.35
"""Of texts of which a sentence or two are shown alone. The texts that name nobody are short: without this "Mieszkam w
Krakowie." was taken for one of them, and the same in small letters was not."""
HELD_OUT_PERCENT: Final = 10
CALM_WEIGHT: Final = 0.5
FOREIGN_WEIGHT: Final = 0.6
_LONGEST_CALM: Final = 400
_LONGEST_UNMARKED: Final = 1_000
_CAPITAL: Final = re.compile(r"\b[^\W\d_a-ząćęłńóśźż][^\W\d_]+")
_WORD: Final = re.compile(r"[^\W\d_]+")
_PERSONAL: Final = re.compile(
    r"[@\d]|\b(my|our|i live|i am from|im from|mieszkam|mój|moja|moje|mojej|mojego|nasz\w*)\b", re.IGNORECASE
)
"""Where a place or a date may be somebody's."""
_SOMEBODY: Final = re.compile(r"@|©|\(c\)|author|copyright|maintain|thanks|credit|written by|autor", re.IGNORECASE)
"""Where a passage of code or of a manual may name somebody."""
_SENTENCE: Final = re.compile(r"(?<=[^\W\d_]{3}[.!?…])\s+|\n+")
"""What stands between two sentences or lines; a short word with a full stop is an abbreviation."""
_RENAMED: Final = {"GPE": "LOCATION"}
_SWAPPED: Final = frozenset({"PERSON", "LOCATION", "USERNAME"})
_DOUBTFUL: Final = "ORGANIZATION"
"""Marked in some files and not in others: nothing is learned where it stands."""
NOTHING_LEARNED: Final = -100


@dataclass(frozen=True, slots=True)
class Marked:
    """A text and what stands in it: (start, end, entity), code points, end exclusive."""

    text: str
    spans: tuple[tuple[int, int, str], ...]
    language: str
    held_out: bool
    weight: float = 1.0


def load(paths: Iterable[Path], weight: float = 1.0, held_out: int = HELD_OUT_PERCENT) -> list[Marked]:
    """Read marked texts; entities that the tagger does not know are left to the patterns."""
    rows = []
    for path in sorted(paths):
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            named = ((s["start"], s["end"], _RENAMED.get(s["entity"], s["entity"])) for s in row["spans"])
            digest = int.from_bytes(hashlib.sha256(row["text"].encode()).digest()[:4], "big")
            rows.append(
                Marked(
                    row["text"],
                    tuple(span for span in named if span[2] in (*ENTITIES, _DOUBTFUL)),
                    row.get("lang", "en"),
                    digest % 100 < held_out,
                    weight,
                )
            )
    return rows


def load_calm(paths: Iterable[Path], given_names: GivenNames) -> list[Marked]:
    """Read harmless prompts of detection's texts that name nobody: what most prompts are like.

    A whole message of a few words may be a name in small letters: of SHORT_FILES no text is read that holds what could
    be one, nor a capital letter after its beginning.
    """
    rows = []
    for path in sorted(paths):
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            words = _CAPITAL.findall(row["text"])
            if row["label"] != "benign" or row["lang"] not in ("en", "pl") or len(row["text"]) > _LONGEST_CALM:
                continue
            if path.stem in SHORT_FILES:
                words += [word.capitalize() for word in _WORD.findall(row["text"])]
                if _CAPITAL.search(row["text"], 1):
                    continue
            if not any(word in given_names for word in words) and not _PERSONAL.search(row["text"]):
                rows.append(Marked(row["text"], (), row["lang"], held_out=False, weight=CALM_WEIGHT))
    return rows


def load_passages(rows: Iterable[Row], given_names: GivenNames) -> list[Marked]:
    """Return the passages of code and manuals that name nobody: their identifiers are no user names, and words with a
    capital letter no people."""
    return [
        Marked(row.text, (), "en" if row.english else "", held_out=False, weight=CALM_WEIGHT)
        for row in rows
        if not row.held_out
        and not _SOMEBODY.search(row.text)
        and not any(word in given_names for word in _CAPITAL.findall(row.text))
    ]


def load_unmarked(paths: Iterable[Path]) -> list[Marked]:
    """Read English and Polish texts of detection of which nobody marked what they hold."""
    rows = []
    for path in sorted(paths):
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if row["lang"] in ("en", "pl") and len(row["text"]) <= _LONGEST_UNMARKED:
                rows.append(Marked(row["text"], (), row["lang"], held_out=False))
    return rows


CALM_FILES: Final = ("everyday_benign", "hard_benign_words", "hard_benign_requests", "loud_words", "polish")
"""Files of detection that prompts which name nobody are taken from."""
SHORT_FILES: Final = ("short_messages", "short_messages_2")
"""The same, of messages of a few words."""


@dataclass(frozen=True, slots=True)
class Case:
    """A text as a network learns from it."""

    ids: NDArray[np.int64]
    looks: NDArray[np.float32]
    targets: NDArray[np.int64]
    """Of each sub-word: 0 for nothing, 1 and on for ENTITIES, or NOTHING_LEARNED; shape (sub-words,)."""
    words: NDArray[np.int64]
    weight: float
    told: NDArray[np.float16] | None = None
    """In place of targets what a teacher thinks probable; shape (sub-words, 1 + ENTITIES)."""


class Reader:
    """Turns marked texts into what the network learns from, changed a little each time."""

    def __init__(self, rows: Sequence[Marked], table: SubWordTable, given_names: GivenNames) -> None:
        self._table, self._given_names = table, given_names
        self._values: dict[tuple[str, str, int, str], list[str]] = defaultdict(list)
        for row in rows:
            for start, end, entity in row.spans:
                if entity in _SWAPPED:
                    self._values[self._key(row.text[start:end], entity, row.language)].append(row.text[start:end])

    @staticmethod
    def _key(value: str, entity: str, language: str) -> tuple[str, str, int, str]:
        """Values that may stand for each other: in Polish only those that end alike, which mostly is the same case."""
        return entity, language, len(value.split()), value[-1:] if language == "pl" else ""

    def changed(self, row: Marked, chance: random.Random) -> Marked:
        if chance.random() < PART_SHARE:
            row = part_of(row, chance)
        text, spans, shift = row.text, [], 0
        for start, end, entity in row.spans:
            start, end = start + shift, end + shift
            value = text[start:end]
            others = self._values.get(self._key(value, entity, row.language), ())
            if len(others) > 1 and chance.random() < SWAP_SHARE:
                other = chance.choice(others)
                if value.islower():
                    other = other.lower()
                elif value.isupper() and len(value) > 3:
                    other = other.upper()
                text = text[:start] + other + text[end:]
                shift += len(other) - len(value)
                end = start + len(other)
            spans.append((start, end, entity))
        draw = chance.random()
        if draw < LOWER_SHARE:
            text = _kept(text, str.lower)
        elif draw < LOWER_SHARE + UPPER_SHARE:
            text = _kept(text, str.upper)
        if chance.random() < PLAIN_SHARE:
            text = _kept(text.replace("ł", "l").replace("Ł", "L"), _without_accents)
        return Marked(text, tuple(spans), row.language, row.held_out, row.weight)

    def read(self, row: Marked) -> Case:
        looks = look(row.text, self._table, self._given_names, LONGEST)
        targets = np.zeros(len(looks.ids), np.int64)
        middles = (looks.spans[:, 0] + looks.spans[:, 1]) / 2
        for start, end, entity in row.spans:
            target = NOTHING_LEARNED if entity == _DOUBTFUL else 1 + ENTITIES.index(entity)
            targets[(middles > start) & (middles < end)] = target
        return Case(looks.ids, looks.vectors, targets, looks.word_of, row.weight)


def part_of(row: Marked, chance: random.Random) -> Marked:
    """Return a sentence of a text that holds a value, with the one behind it or not; the text where it holds none."""
    breaks = [
        match.span()
        for match in _SENTENCE.finditer(row.text)
        if not any(start < match.end() and match.start() < end for start, end, _ in row.spans)
    ]
    parts = list(zip([0, *(end for _, end in breaks)], [*(start for start, _ in breaks), len(row.text)], strict=True))
    with_values = [
        number
        for number, (begin, end) in enumerate(parts)
        if any(begin <= start and stop <= end for start, stop, _ in row.spans)
    ]
    if not with_values:
        return row
    first = chance.choice(with_values)
    begin, end = parts[first][0], parts[min(first + chance.randrange(2), len(parts) - 1)][1]
    spans = ((start - begin, stop - begin, entity) for start, stop, entity in row.spans if begin <= start < end)
    return replace(row, text=row.text[begin:end], spans=tuple(spans))


def _kept(text: str, change: Callable[[str], str]) -> str:
    return "".join(new if len(new := change(character)) == 1 else character for character in text)


def _without_accents(character: str) -> str:
    return unicodedata.normalize("NFD", character)[:1]
