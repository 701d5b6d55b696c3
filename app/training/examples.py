"""From labelled rows to what the encoder reads: sub-words, windows, and documents with something planted in them."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from tokenizers import Tokenizer

from app.detection.encoder import START_ID, STRIDE, WINDOW
from app.detection.families import Family
from app.detection.normalise import prepare
from app.detection.unfolding import unfold
from app.evaluation.obfuscate import TRANSFORMATIONS, transform
from app.training.corpus import FAMILIES, MATERIAL, Row

LONGEST: Final = 320
"""Sub-words of an attack that are shown whole: where in it the attack stands is not known."""
PAD_ID: Final = 1
_HOST_FILES: Final = frozenset(
    (
        "long_documents",
        "long_documents_2",
        "everyday_long",
        "tool_outputs",
        "tool_outputs_2",
        "context_and_question",
        "contrast_pairs_3",
        "planted_long",
        "planted_documents",
        "clean_long",
        "code_and_logs",
        "passages_benign",
        "code_benign",
        "personal_english",
        "personal_polish",
    )
)
_HOST_WORDS: Final = (35, 170)
_PLANT_WORDS: Final = 50
DISGUISED: Final = 0.12
"""Share of own texts that an epoch shows in a disguise, attacks and harmless ones alike, so that what undoing a
disguise leaves behind says nothing."""
_DISGUISED_LENGTH: Final = 900
"""Characters of the longest text that is disguised."""
_DISGUISES: Final = tuple(sorted(TRANSFORMATIONS))
_BOUNDARY: Final = re.compile(r"\n|(?<=[.!?;])\s")


@dataclass(frozen=True, slots=True)
class Example:
    """A text as sub-words, and what is known of it."""

    ids: tuple[int, ...]
    attack: bool
    family: int
    weight: float
    smoothing: float
    """How far the target is moved towards one half: doubtful labels teach less."""
    pair: tuple[str, int] | None = None
    planted: tuple[int, int] | None = None
    """Sub-words that were planted: first, and one past the last."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """How much of each kind an epoch holds."""

    attacks_per_source: int
    benign_per_file: int
    composed: int


class Pool:
    """All rows, as sub-words, from which epochs are drawn. What an epoch holds depends on the seed and number alone."""

    def __init__(self, rows: Sequence[Row], tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        texts = [reading_of(row.text) for row in rows]
        encoded = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        self._rows = [
            (row, text, (START_ID, *encoding.ids)) for row, text, encoding in zip(rows, texts, encoded, strict=True)
        ]
        training = [entry for entry in self._rows if not entry[0].held_out]
        self._own = [entry for entry in training if entry[0].own and entry[0].file not in MATERIAL]
        self._foreign: dict[str, list[tuple[Row, str, tuple[int, ...]]]] = defaultdict(list)
        for entry in training:
            if not entry[0].own:
                self._foreign[entry[0].source if entry[0].attack else entry[0].file + " benign"].append(entry)
        self._hosts = [
            text
            for row, text, _ in training
            if not row.attack and row.file in _HOST_FILES and len(text.split()) >= _HOST_WORDS[0]
        ]
        material = [entry for entry in training if entry[0].file in MATERIAL]
        short = [row_text for row_text in self._own if len(row_text[1].split()) <= _PLANT_WORDS]
        self._inserts = [text for row, text, _ in material if row.attack]
        self._asides = [text for row, text, _ in material if not row.attack]
        self._orders = [text for row, text, _ in short if row.attack and "\n" not in text]
        self._requests = [text for row, text, _ in short if row.file == "everyday_benign" and "\n" not in text]

    def held_out(self) -> list[tuple[Row, tuple[int, ...]]]:
        """Return the rows that no weight sees, with all their sub-words."""
        return [(row, ids) for row, _, ids in self._rows if row.held_out]

    def epoch(self, mixture: Mixture, seed: str, number: int) -> list[list[Example]]:
        """Return units in no order: pairs stay together, all else is alone."""
        chance = random.Random(f"{seed}:{number}")  # noqa: S311 - reproducible, not secret
        units: dict[tuple[str, int] | int, list[Example]] = {}
        for index, (row, _, ids) in enumerate(self._own):
            key = (row.file, row.pair) if row.pair is not None else index
            if chance.random() < DISGUISED and len(row.text) <= _DISGUISED_LENGTH:
                disguise = chance.choice(_DISGUISES)
                ids = self._encode(reading_of(transform(disguise, row.text, chance.getrandbits(32))))
            units.setdefault(key, []).append(_example(row, ids, chance))
        for name, entries in sorted(self._foreign.items()):
            cap = mixture.benign_per_file if name.endswith(" benign") else mixture.attacks_per_source
            for row, _, ids in chance.sample(entries, min(cap, len(entries))):
                units[len(units) + 1_000_000] = [_example(row, ids, chance)]
        for _ in range(mixture.composed):
            units[len(units) + 1_000_000] = [self._composed(chance)]
        return list(units.values())

    def _composed(self, chance: random.Random) -> Example:
        host = _excerpt(chance.choice(self._hosts), chance)
        draw = chance.random()
        if draw < 0.3 and self._asides:
            head, tail = _split(host, chance, middle=False)
            ids = self._encode(_join(chance, head, chance.choice(self._asides), tail))
            return Example(ids[:LONGEST], False, FAMILIES.index(Family.BENIGN_DOCUMENT), 1.0, 0.0)
        if self._inserts and draw < 0.75:
            plant, middle = chance.choice(self._inserts), False
        elif draw < 0.88:
            plant, middle = chance.choice(self._orders), False
        else:
            plant, middle = chance.choice(self._requests), True
        head, tail = _split(host, chance, middle)
        before = self._encode(head) if head else (START_ID,)
        planted = self._encode(("\n" if head and chance.random() < 0.5 else "") + plant)[1:]
        after = self._encode(("\n" if chance.random() < 0.5 else "") + tail)[1:] if tail else ()
        spare = max(1, LONGEST - len(planted))
        if len(before) > spare:  # What was planted must be seen.
            before = (START_ID, *before[len(before) - spare + 1 :])
        ids = (*before, *planted, *after)
        return Example(
            ids[:LONGEST],
            True,
            FAMILIES.index(Family.PLANTED_DOCUMENT),
            1.0,
            0.0,
            planted=(len(before), min(len(before) + len(planted), LONGEST)),
        )

    def _encode(self, text: str) -> tuple[int, ...]:
        return (START_ID, *self._tokenizer.encode(text, add_special_tokens=False).ids)


def reading_of(text: str) -> str:
    """Return what the encoder reads of a text, as the service lets it: what was hidden in it stands in its place."""
    return unfold(prepare(text)).text


def windows(ids: Sequence[int], stride: int = STRIDE) -> Iterator[tuple[int, ...]]:
    """Cut a text's sub-words (the start token first) into overlapping windows, each with a start token."""
    room = WINDOW - 1
    body = ids[1:]
    at = 0
    while True:
        yield (START_ID, *body[at : at + room])
        if at + room >= len(body):
            return
        at += stride


def _example(row: Row, ids: tuple[int, ...], chance: random.Random) -> Example:
    weight, smoothing = (1.0, 0.0) if row.own else (0.6, 0.08)
    limit = LONGEST if row.attack else WINDOW
    if len(ids) > limit:
        at = chance.randrange(1, len(ids) - limit + 2)
        ids = (START_ID, *ids[at : at + limit - 1])
        weight *= 0.4 if row.attack else 1.0
    pair = (row.file, row.pair) if row.pair is not None else None
    return Example(ids, row.attack, FAMILIES.index(row.family), weight, smoothing, pair)


def _excerpt(text: str, chance: random.Random) -> str:
    words = text.split(" ")
    most = chance.randint(*_HOST_WORDS)
    if len(words) <= most:
        return text
    at = chance.randrange(len(words) - most + 1) if chance.random() < 0.5 else 0
    return " ".join(words[at : at + most]).strip()


def _split(host: str, chance: random.Random, middle: bool) -> tuple[str, str]:
    draw = chance.random()
    if not middle and draw < 0.2:
        return "", host
    if not middle and draw < 0.5:
        return host, ""
    low, high = (0.15, 0.85) if middle else (0.0, 1.0)
    places = [found.end() for found in _BOUNDARY.finditer(host) if low * len(host) < found.start() < high * len(host)]
    at = chance.choice(places) if places else len(host)
    return host[:at].rstrip(), host[at:].lstrip()


def _join(chance: random.Random, *parts: str) -> str:
    return ("\n" if chance.random() < 0.5 else " ").join(part for part in parts if part)
