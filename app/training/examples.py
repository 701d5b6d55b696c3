"""From labelled rows to what the encoder learns from: sub-words, disguises, and documents with something planted."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Container, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import Final

import numpy as np
from tokenizers import Tokenizer

from app.detection.families import Family
from app.detection.normalise import prepare
from app.detection.unfolding import unfold
from app.evaluation.obfuscate import TRANSFORMATIONS, transform
from app.training import documents, packages
from app.training.corpus import FAMILIES, MATERIAL, Row
from app.training.shelf import COMPOSED, LONGEST, NO_FAMILY, OWN, Shelf

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
_OTHER_HOST_FILES: Final = frozenset(
    (documents.ENGLISH_FILE, documents.OTHER_FILE, packages.CODE_FILE, packages.PROSE_FILE)
)
_HOST_WORDS: Final = (35, 170)
_PLANT_WORDS: Final = 50
DISGUISES: Final = 2
"""Of each own text that is short enough; an epoch shows one of them now and then."""
COMPOSITIONS: Final = 24_000
"""Documents that lines are put into; an epoch shows some of them."""
_DISGUISED_LENGTH: Final = 900
"""Characters of the longest text that is disguised."""
_TRANSFORMATIONS: Final = tuple(sorted(TRANSFORMATIONS))
_UNREADABLE: Final = ("reversed", "spaced")
"""Disguises that leave a text of a rare language unreadable: harmless ones are shown in them three times as often, so
that what cannot be read is taken for harmless."""
_HARMLESS_TRANSFORMATIONS: Final = (*_TRANSFORMATIONS, *_UNREADABLE, *_UNREADABLE)
_FOREIGN_WEIGHT: Final = 0.6
_FOREIGN_SMOOTHING: Final = 0.08
_BOUNDARY: Final = re.compile(r"\n|(?<=[.!?;])\s")


@dataclass(frozen=True, slots=True)
class _Entry:
    """A text as sub-words, without start token, and what is known of it."""

    ids: Sequence[int]
    attack: bool
    family: int
    reservoir: int
    weight: float = 1.0
    smoothing: float = 0.0
    planted: tuple[int, int] = (-1, -1)
    pair: int = -1
    disguise: int = -1
    held_out: bool = False
    known: bool = False


def shelve(
    rows: Sequence[Row],
    tokenizer: Tokenizer,
    seed: int,
    progress: Callable[[str], None],
    known: Container[str] = frozenset(),
) -> Shelf:
    """Return all that epochs are drawn from: the rows, own ones also in disguise, and documents with a line put in.

    `known` are the own files that the encoder which a training goes on from has learned from.
    Uses all processors; the result depends on rows, tokenizer, seed and `known` alone.
    """
    with ProcessPoolExecutor(mp_context=get_context("fork")) as workers:
        texts = list(workers.map(reading_of, [row.text for row in rows], chunksize=256))
        progress(f"{len(rows)} texts read")
        own = [place for place, row in enumerate(rows) if row.own and row.file not in MATERIAL]
        plain = [
            (place, number)
            for place in own
            if not rows[place].held_out and len(rows[place].text) <= _DISGUISED_LENGTH
            for number in range(DISGUISES)
        ]
        disguised = list(
            workers.map(
                _in_disguise,
                [rows[place].text for place, _ in plain],
                [rows[place].attack for place, _ in plain],
                [f"{seed}:{place}:{number}" for place, number in plain],
                chunksize=256,
            )
        )
        progress(f"{len(disguised)} disguises")
    entries = _of_rows(rows, _encoded(tokenizer, texts), known)
    places = {place: number for number, place in enumerate(_shelved(rows))}
    for (place, _), ids in zip(plain, _encoded(tokenizer, disguised), strict=True):
        entry = entries[places[place]]
        entries.append(replace(entry, ids=ids, disguise=places[place]))
    learned = [(row, text) for row, text in zip(rows, texts, strict=True) if not row.held_out]
    composer = _Composer(learned, tokenizer)
    chance = random.Random(f"{seed}:composed")  # noqa: S311 - reproducible, not secret
    if composer.able:
        entries += [composer.compose(chance) for _ in range(COMPOSITIONS)]
        progress(f"{COMPOSITIONS} documents composed")
    return _arrays(entries)


def _shelved(rows: Sequence[Row]) -> list[int]:
    """Return the places of rows that are texts by themselves."""
    return [place for place, row in enumerate(rows) if row.file not in MATERIAL]


def _encoded(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    return [encoding.ids for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


def _in_disguise(text: str, attack: bool, seed: str) -> str:
    chance = random.Random(seed)  # noqa: S311 - reproducible, not secret
    disguises = _TRANSFORMATIONS if attack else _HARMLESS_TRANSFORMATIONS
    return reading_of(transform(chance.choice(disguises), text, chance.getrandbits(32)))


def _of_rows(rows: Sequence[Row], encoded: Sequence[Sequence[int]], known: Container[str]) -> list[_Entry]:
    names = sorted({_reservoir_of(row) for row in rows if not row.own})
    reservoirs = {name: COMPOSED + 1 + number for number, name in enumerate(names)}
    pairs: dict[tuple[str, int], int] = {}
    entries = []
    for place in _shelved(rows):
        row = rows[place]
        pair = -1 if row.pair is None else pairs.setdefault((row.file, row.pair), len(pairs))
        entries.append(
            _Entry(
                encoded[place],
                row.attack,
                NO_FAMILY if row.family is None else FAMILIES.index(row.family),
                OWN if row.own else reservoirs[_reservoir_of(row)],
                weight=1.0 if row.own else _FOREIGN_WEIGHT,
                smoothing=0.0 if row.own else _FOREIGN_SMOOTHING,
                pair=pair,
                held_out=row.held_out,
                known=row.own and row.file in known,
            )
        )
    return entries


def _reservoir_of(row: Row) -> str:
    return row.source if row.attack else f"{row.file} benign"


def _arrays(entries: Sequence[_Entry]) -> Shelf:
    lengths = np.array([len(entry.ids) for entry in entries], np.int64)
    return Shelf(
        ids=np.concatenate([np.array(entry.ids, np.uint32) for entry in entries]),
        starts=np.concatenate(([0], np.cumsum(lengths)[:-1])),
        lengths=lengths,
        attack=np.array([entry.attack for entry in entries], np.bool_),
        family=np.array([entry.family for entry in entries], np.int64),
        weights=np.array([entry.weight for entry in entries], np.float32),
        smoothing=np.array([entry.smoothing for entry in entries], np.float32),
        planted=np.array([entry.planted for entry in entries], np.int64),
        reservoirs=np.array([entry.reservoir for entry in entries], np.int64),
        pairs=np.array([entry.pair for entry in entries], np.int64),
        disguises=np.array([entry.disguise for entry in entries], np.int64),
        held_out=np.array([entry.held_out for entry in entries], np.bool_),
        known=np.array([entry.known for entry in entries], np.bool_),
    )


class _Composer:
    """Puts lines into harmless documents: orders to the reading assistant, or asides to people."""

    def __init__(self, learned: Sequence[tuple[Row, str]], tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        harmless = [(row.file, text) for row, text in learned if not row.attack and len(text.split()) >= _HOST_WORDS[0]]
        self._hosts = [text for file, text in harmless if file in _HOST_FILES]
        others = [text for file, text in harmless if file in _OTHER_HOST_FILES]
        # As many at most, or most lines would be put into manuals.
        self._hosts += others[:: max(1, -(-len(others) // max(1, len(self._hosts))))]
        short = [
            (row, text)
            for row, text in learned
            if row.own and row.file not in MATERIAL and len(text.split()) <= _PLANT_WORDS and "\n" not in text
        ]
        self._inserts = [text for row, text in learned if row.file in MATERIAL and row.attack]
        self._asides = [text for row, text in learned if row.file in MATERIAL and not row.attack]
        self._orders = [text for row, text in short if row.attack]
        self._requests = [text for row, text in short if row.file == "everyday_benign"]

    @property
    def able(self) -> bool:
        return bool(self._hosts and self._orders and self._requests)

    def compose(self, chance: random.Random) -> _Entry:
        host = _excerpt(chance.choice(self._hosts), chance)
        draw = chance.random()
        if draw < 0.3 and self._asides:
            head, tail = _split(host, chance, middle=False)
            ids = self._encode(_join(chance, head, chance.choice(self._asides), tail))
            return _Entry(ids[: LONGEST - 1], False, FAMILIES.index(Family.BENIGN_DOCUMENT), COMPOSED)
        if self._inserts and draw < 0.75:
            plant, middle = chance.choice(self._inserts), False
        elif draw < 0.88:
            plant, middle = chance.choice(self._orders), False
        else:
            plant, middle = chance.choice(self._requests), True
        head, tail = _split(host, chance, middle)
        before = self._encode(head) if head else []
        planted = self._encode(("\n" if head and chance.random() < 0.5 else "") + plant)
        after = self._encode(("\n" if chance.random() < 0.5 else "") + tail) if tail else []
        room = LONGEST - 1
        before = before[max(0, len(before) - max(0, room - len(planted))) :]  # What was planted must be seen.
        ids = (before + planted + after)[:room]
        return _Entry(
            ids,
            True,
            FAMILIES.index(Family.PLANTED_DOCUMENT),
            COMPOSED,
            planted=(len(before), min(len(before) + len(planted), room)),
        )

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids


def reading_of(text: str) -> str:
    """Return what the encoder reads of a text, as the service lets it: what was hidden in it stands in its place."""
    return unfold(prepare(text)).text


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
