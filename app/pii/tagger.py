"""The tagger: marks names, places, addresses, dates and the like in running text, in English and Polish.

A small convolutional network over pretrained sub-word embeddings and the look of each word (case, what stands before
it, whether it is a known given name), trained on this project's own marked texts (app/training/tagger.py; figures in
models/MODEL_CARD.md). One pass costs about 0.3 million multiplications a sub-word and releases the interpreter's lock.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from app.errors import ModelUnavailable
from app.inference import open_session
from app.pii.letters import lowered
from app.subwords import WIDTH, SubWordTable

if TYPE_CHECKING:
    from app.pii.given_names import GivenNames

MODELS_DIR: Final = Path(__file__).parent / "models"
MODEL_FILE: Final = "tagger.onnx"
ENTITIES: Final = (
    "PERSON", "LOCATION", "STREET_ADDRESS", "DATE_TIME", "DATE_OF_BIRTH", "USERNAME", "PASSWORD",
)  # fmt: skip
"""In the order of the network's outputs, which begin with "nothing"."""
LEAST: Final = 0.25
"""Probability from which a word is reported at all; thresholds of pii.yaml stand above it."""
SUB_WORDS: Final = 4_096
"""Sub-words of one pass: bounds memory; a name on a seam is read on both sides of it."""
_OVERLAP: Final = 32
_LETTERS_AT_FIRST: Final = 4
"""Code points that are cut for each sub-word of the budget, to begin with: English has four or five to one."""
_MARGIN: Final = 64
"""Sub-words beyond the budget that must follow in what was cut: a word that its end divides is cut in another way."""

_WORD: Final = re.compile(r"[^\W_]+")
_CASES: Final = 8
_NAMES: Final = 3
_BEFORE: Final = 12
_STYLES: Final = 3
LOOKS: Final = _CASES + _NAMES + _BEFORE + 2 + _STYLES
"""Length of the vector that tells the look of a sub-word."""
_NAME_AT: Final = _CASES
_BEFORE_AT: Final = _NAME_AT + _NAMES
_FIRST_AT: Final = _BEFORE_AT + _BEFORE
_STYLE_AT: Final = _FIRST_AT + 2
_OUTSIDE_WORDS: Final = 7
_MARKS: Final = {
    ":": 2,
    ",": 3,
    ".": 4,
    "!": 4,
    "?": 4,
    "@": 5,
    "_": 6,
    "/": 7,
    "-": 8,
    '"': 9,
    "'": 9,
    "„": 9,
    "(": 10,
}
_OTHER_MARK: Final = 11
_JOIN: Final = re.compile(r"[ \u00a0]{1,2}|[ \u00a0]?[-–'’][ ]?")
"""What may stand between two words of one name."""
_ABBREVIATED: Final = re.compile(r"\.[ \u00a0]{0,2}")
"""The same behind an initial or a short form: a full stop behind a longer word ends a sentence."""
_SHORT: Final = 2
_WIDE_JOIN: Final = re.compile(r"[ \u00a0]{0,2}(?:[-–'’./,&_:][ ]?)?")
"""What may stand between two words of one address, date or login."""
_NAMES_ALONE: Final = frozenset({"PERSON", "LOCATION"})


class Tagged(NamedTuple):
    """A value: code points of the text, end exclusive, and the probability that it is what it is called."""

    entity: str
    start: int
    end: int
    score: float


class Tagging(NamedTuple):
    values: list[Tagged]
    """In their order."""
    read_to: int
    """End (exclusive) of what was read of the text, in code points."""
    words: Sequence[tuple[int, int]] = ()
    """Code points of each word that was read."""
    persons: Sequence[float] = ()
    """Probability of each word that it is a person's name, also below LEAST."""

    def person_in(self, start: int, end: int) -> float:
        """Return the highest probability that a word of a stretch is a person's name, 0 where there is none."""
        first = bisect_right(self.words, (start, start))
        if first and self.words[first - 1][1] > start:
            first -= 1
        return max(self.persons[first : bisect_right(self.words, (end, 0))], default=0.0)


@dataclass(frozen=True, slots=True)
class Looks:
    """A text as the network reads it."""

    ids: NDArray[np.int64]
    spans: NDArray[np.int64]
    vectors: NDArray[np.float32]
    """The look of each sub-word; shape (sub-words, LOOKS)."""
    words: list[tuple[int, int]]
    """Code points of each word (letters and digits side by side)."""
    word_of: NDArray[np.int64]
    """Number of the word that each sub-word belongs to, or -1."""


@dataclass(frozen=True, slots=True)
class Tagger:
    """Holds nothing that changes but onnxruntime's session, which is safe to share among threads."""

    session: Any
    table: SubWordTable
    given_names: GivenNames

    @classmethod
    def load(cls, table: SubWordTable, given_names: GivenNames, models_dir: Path = MODELS_DIR) -> Self:
        """Read the model from a folder.

        Raises:
            ModelUnavailable: its file is missing or damaged.
        """
        session = open_session(models_dir / MODEL_FILE)
        shapes = session.get_inputs()[0].shape[-1], session.get_outputs()[0].shape[-1]
        if shapes != (WIDTH + LOOKS, 1 + len(ENTITIES)):
            raise ModelUnavailable(f"{MODEL_FILE} does not fit this version")
        return cls(session, table, given_names)

    def tag(self, text: str, budget: int) -> Tagging:
        """Return the values of a text; only its first `budget` sub-words are read."""
        if not budget:
            return Tagging([], 0)
        looks = look(text, self.table, self.given_names, budget)
        if not len(looks.ids):
            return Tagging([], len(text))
        read_to = int(looks.spans[-1, 1]) if len(looks.ids) == budget else len(text)
        if not looks.words:
            return Tagging([], read_to)
        by_word = _by_word(looks, self._probabilities(looks))
        persons = by_word[:, 1 + ENTITIES.index("PERSON")].tolist()
        return Tagging(list(_values(text, looks, by_word)), read_to, looks.words, persons)

    def _probabilities(self, looks: Looks) -> NDArray[np.float32]:
        """Return the probability of each entity for each sub-word; shape (sub-words, 1 + entities)."""
        parts = []
        for begin in range(0, len(looks.ids), SUB_WORDS):
            low, high = max(0, begin - _OVERLAP), begin + SUB_WORDS + _OVERLAP
            words = self.table.embeddings(looks.ids[low:high])
            inputs = np.concatenate((words, looks.vectors[low:high]), axis=1)
            (result,) = self.session.run(None, {"looks": inputs[None]})
            parts.append(result[0, begin - low : begin - low + SUB_WORDS])
        return np.concatenate(parts)


def look(text: str, table: SubWordTable, given_names: GivenNames, budget: int) -> Looks:
    """Cut a text into sub-words and describe how each looks in it."""
    small = lowered(text)
    ids, spans = _first(small, table, budget)
    words = [match.span() for match in _WORD.finditer(text, 0, int(spans[-1, 1]) if len(ids) else 0)]
    vectors = np.zeros((len(ids), LOOKS), np.float32)
    style = _style(text)
    vectors[:, _STYLE_AT + style] = 1
    starts = np.array([start for start, _ in words], np.int64)
    ends = np.array([end for _, end in words], np.int64)
    word_of = starts.searchsorted(spans[:, 0], "right") - 1
    if words:
        word_of[(word_of >= 0) & (spans[:, 0] >= ends[word_of])] = -1
    inside = word_of >= 0
    vectors[~inside, _OUTSIDE_WORDS] = 1
    vectors[~inside, _FIRST_AT] = 1
    if words:
        described = np.array([_described(text, small, start, end, given_names) for start, end in words], np.int64)
        at = np.flatnonzero(inside)
        for column in range(3):
            vectors[at, described[word_of[at], column]] = 1
        first = spans[at, 0] <= starts[word_of[at]]
        vectors[at, np.where(first, _FIRST_AT, _FIRST_AT + 1)] = 1
    return Looks(ids, spans, vectors, words, word_of)


def _first(small: str, table: SubWordTable, budget: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cut the first `budget` sub-words of a text, without reading much more of it than these."""
    length = _LETTERS_AT_FIRST * budget
    while True:
        ids, spans = table.cut(small[:length])
        if length >= len(small) or len(ids) >= budget + _MARGIN:
            return ids[:budget], spans[:budget]
        length *= 2


def _style(text: str) -> int:
    """Return 1 where a text has no capital letters, 2 where it has hardly any others, else 0."""
    sample = text[:2_000]
    upper, lower = sum(map(str.isupper, sample)), sum(map(str.islower, sample))
    return 1 if upper == 0 else 2 if upper > lower else 0


def _described(text: str, small: str, start: int, end: int, given_names: GivenNames) -> tuple[int, int, int]:
    """Return three places of the look's vector: a word's case, its rank as a given name, and what stands before it."""
    word = text[start:end]
    if word.isdigit():
        case = 4
    elif any(map(str.isdigit, word)):
        case = 5
    elif word.islower():
        case = 0
    elif word.isupper():
        case = 6 if len(word) == 1 else 2
    else:
        case = 1 if word[1:].islower() else 3
    name = 0
    if case not in (4, 5) and end - start > 1 and small[start:end] in given_names:
        name = 2 if given_names.is_ambiguous(small[start:end]) else 1
    return case, _NAME_AT + name, _BEFORE_AT + _before(text, start)


def _before(text: str, start: int) -> int:
    at = start - 1
    while at >= 0 and text[at] in " \t\u00a0":
        at -= 1
    if at < 0 or text[at] == "\n":
        return 0
    if text[at].isalnum():
        return 1
    return _MARKS.get(text[at], _OTHER_MARK)


def _values(text: str, looks: Looks, by_word: NDArray[np.float32]) -> Iterator[Tagged]:
    """Join words that are probably of the same kind into values."""
    best = by_word[:, 1:].argmax(axis=1)
    strength = by_word[np.arange(len(by_word)), best + 1]
    current: list[int] = []
    for number in np.flatnonzero(strength >= LEAST).tolist():
        if current and not _joined(text, looks, best, current[-1], number):
            yield _value(looks, current, int(best[current[-1]]), strength)
            current = []
        current.append(number)
    if current:
        yield _value(looks, current, int(best[current[-1]]), strength)


def _joined(text: str, looks: Looks, best: NDArray[np.int64], last: int, number: int) -> bool:
    """Whether two words are neighbours, of one kind, with nothing between them that ends a value of it."""
    if number != last + 1 or best[number] != best[last]:
        return False
    start, end = looks.words[last]
    gap = text[end : looks.words[number][0]]
    if ENTITIES[best[number]] not in _NAMES_ALONE:
        return _WIDE_JOIN.fullmatch(gap) is not None
    return _JOIN.fullmatch(gap) is not None or (end - start <= _SHORT and _ABBREVIATED.fullmatch(gap) is not None)


def _value(looks: Looks, numbers: list[int], entity: int, strength: NDArray[np.float32]) -> Tagged:
    return Tagged(
        ENTITIES[entity], looks.words[numbers[0]][0], looks.words[numbers[-1]][1], float(strength[numbers].mean())
    )


def _by_word(looks: Looks, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean over each word's sub-words; shape (words, 1 + entities). A word without sub-words is nothing."""
    totals = np.zeros((len(looks.words), probabilities.shape[1]), np.float32)
    counts = np.zeros(len(looks.words), np.float32)
    inside = looks.word_of >= 0
    np.add.at(totals, looks.word_of[inside], probabilities[inside])
    np.add.at(counts, looks.word_of[inside], 1)
    totals /= np.maximum(counts, 1)[:, None]
    return totals
