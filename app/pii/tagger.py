"""The tagger: marks names, places, addresses, dates and the like in running text, in English and Polish.

Three pretrained layers over pretrained sub-word embeddings and the look of each word (case, what stands before it,
whether it is a known given name), trained on this project's own marked texts (app/training/tagger.py; figures in
models/MODEL_CARD.md). The first layer judges too, and the others read on only where it leaves a doubt (early exit of
single tokens: Li et al., "Accelerating BERT Inference for Sequence Labeling via Early-Exit", 2021); what stands around
a doubtful sub-word goes through the second layer and is seen by the third, which computes the doubtful ones alone. A
sub-word costs one million multiplications of 8 bits in each layer; a pass releases the interpreter's lock.
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
from app.pii.looks import LOOKS as LOOKS
from app.pii.looks import Looks
from app.pii.looks import look as look
from app.pii.reading import Reading
from app.subwords import WIDTH, SubWordTable

if TYPE_CHECKING:
    from app.pii.given_names import GivenNames

MODELS_DIR: Final = Path(__file__).parent / "models"
MODEL_FILES: Final = ("tagger.onnx", "tagger_deep.onnx")
"""The first layer with a judgement of its own, and the others."""
ENTITIES: Final = (
    "PERSON", "LOCATION", "STREET_ADDRESS", "DATE_TIME", "DATE_OF_BIRTH", "USERNAME", "PASSWORD",
)  # fmt: skip
"""In the order of the network's outputs, which begin with "nothing"."""
LEAST: Final = 0.25
"""Probability from which a word is reported at all; thresholds of pii.yaml stand above it."""
DOUBT: Final = 0.03
"""Probability of being something, as the first layer sees it, from which a sub-word is judged by the last one."""
AROUND: Final = 3
"""Sub-words on each side of such a one that are read on with it."""
SUB_WORDS: Final = 96
"""Sub-words that are judged in one pass: two short passes cost less than a long one."""
WHOLE: Final = 128
"""Sub-words of a text that is still read in one."""
_FEWEST: Final = SUB_WORDS // 2
_OVERLAP: Final = 8
"""Sub-words beyond a seam that are read beside, where no sentence ends: a name on a seam is seen whole."""
_JOIN: Final = re.compile(r"[ \u00a0]{1,2}|[ \u00a0]?[-–'’][ ]?")
"""What may stand between two words of one name."""
_ABBREVIATED: Final = re.compile(r"\.[ \u00a0]{0,2}")
"""The same behind an initial or a short form: a full stop behind a longer word ends a sentence."""
_NO_DATE: Final = re.compile(r"\d{4}[-./](?:1[3-9]|[2-9]\d)")
"""A year before what is no month: that of `2024-13-40` is no birthday."""
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
class Tagger:
    """Holds nothing that changes but onnxruntime's sessions, which are safe to share among threads."""

    glance: Any
    study: Any
    table: SubWordTable
    given_names: GivenNames

    @classmethod
    def load(cls, table: SubWordTable, given_names: GivenNames, models_dir: Path = MODELS_DIR) -> Self:
        """Read the model from a folder.

        Raises:
            ModelUnavailable: a file is missing or damaged.
        """
        sessions = glance, study = [open_session(models_dir / file) for file in MODEL_FILES]
        judged = {"looks": LOOKS, "entities": 1 + len(ENTITIES)}
        expected = ({"words": WIDTH, "left": WIDTH, **judged}, {"states": WIDTH, "asked": "asked", **judged})
        for session, widths, file in zip(sessions, expected, MODEL_FILES, strict=True):
            if {each.name: each.shape[-1] for each in (*session.get_inputs(), *session.get_outputs())} != widths:
                raise ModelUnavailable(f"{file} does not fit this version")
        return cls(glance, study, table, given_names)

    def tag(self, text: str, budget: int, reading: Reading | None = None) -> Tagging:
        """Return the values of a text; only its first `budget` sub-words are read.

        Args:
            reading: that of the text, where it has one already.
        """
        if not budget:
            return Tagging([], 0)
        looks = look(text, self.table, self.given_names, budget, reading)
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
        if len(looks.ids) <= WHOLE:
            return self._judged(self.table.embeddings(looks.ids), looks.vectors)
        # Of 930 sub-words, of 500 words, some 540 differ.
        distinct, places = np.unique(looks.ids, return_inverse=True)
        words, parts = self.table.embeddings(distinct), []
        for begin, end, low, high in _passes(looks):
            parts.append(self._judged(words[places[low:high]], looks.vectors[low:high])[begin - low : end - low])
        return np.concatenate(parts)

    def _judged(self, words: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probability of each entity for each sub-word of one pass; shape (sub-words, 1 + entities).

        Args:
            words: embeddings, shape (sub-words, WIDTH).
            vectors: looks, shape (sub-words, LOOKS).
        """
        entities, states = self.glance.run(None, {"words": words[None], "looks": vectors[None]})
        doubtful = entities[0, :, 0] < 1 - DOUBT
        asked = np.flatnonzero(doubtful)
        if len(asked):
            read = np.flatnonzero(_around(doubtful))
            said = {
                "states": states.take(read, axis=1),
                "asked": read.searchsorted(asked + 1),
                "looks": vectors[None, asked],
            }
            (entities[0, asked],) = self.study.run(None, said)[0]
        judged: NDArray[np.float32] = entities[0]
        return judged


def _around(chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which of a pass's states are read on: the text's start, which is the first of them, and what is chosen or
    stands at most AROUND from it."""
    begun = np.zeros(len(chosen) + 2 * AROUND + 2, np.int64)
    begun[AROUND + 2 : AROUND + 2 + len(chosen)] = chosen
    begun = begun.cumsum()
    near: NDArray[np.bool_] = begun[2 * AROUND + 1 :] > begun[: len(chosen) + 1]
    near[0] = True
    return near


def _passes(looks: Looks) -> Iterator[tuple[int, int, int, int]]:
    """Yield for each pass the sub-words that it judges, first and end, and those that it reads.

    A pass ends before a sentence where one begins in its second half; elsewhere it reads on beyond the seam.
    """
    count, begin, seam = len(looks.ids), 0, 0
    sentences = looks.sentences()
    while begin < count:
        low, end = begin - seam, begin + SUB_WORDS
        if count - begin <= WHOLE:
            end, seam = count, 0
        else:
            place = int(sentences.searchsorted(end, "right")) - 1
            ends_well = place >= 0 and sentences[place] >= begin + _FEWEST
            end, seam = (int(sentences[place]), 0) if ends_well else (end, _OVERLAP)
        yield begin, end, low, min(end + seam, count)
        begin = end


def _values(text: str, looks: Looks, by_word: NDArray[np.float32]) -> Iterator[Tagged]:
    """Join words that are probably of the same kind into values."""
    best = by_word[:, 1:].argmax(axis=1)
    strength = by_word[np.arange(len(by_word)), best + 1]
    likely = np.flatnonzero(strength >= LEAST)
    numbers, kinds = likely.tolist(), best[likely].tolist()
    begin = 0
    for place, number in enumerate(numbers):
        following = place + 1
        if following == len(numbers) or not (
            numbers[following] == number + 1
            and kinds[following] == kinds[place]
            and _joined(text, looks, ENTITIES[kinds[place]], number)
        ):
            mean = np.add.reduce(strength[numbers[begin] : number + 1]) / np.float32(following - begin)
            entity, start, end = ENTITIES[kinds[place]], looks.words[numbers[begin]][0], looks.words[number][1]
            if entity != "DATE_OF_BIRTH" or not _NO_DATE.fullmatch(text[start : end + 3]):
                yield Tagged(entity, start, end, float(mean))
            begin = following


def _joined(text: str, looks: Looks, entity: str, number: int) -> bool:
    """Whether nothing stands between a word and the next that ends a value of a kind."""
    start, end = looks.words[number]
    gap = text[end : looks.words[number + 1][0]]
    if gap == " ":
        return True
    if entity not in _NAMES_ALONE:
        return _WIDE_JOIN.fullmatch(gap) is not None
    return _JOIN.fullmatch(gap) is not None or (end - start <= _SHORT and _ABBREVIATED.fullmatch(gap) is not None)


def _by_word(looks: Looks, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean over each word's sub-words; shape (words, 1 + entities). A word without sub-words is nothing."""
    totals = np.zeros((len(looks.words), probabilities.shape[1]), np.float32)
    inside = looks.word_of >= 0
    of = looks.word_of[inside]
    np.add.at(totals, of, probabilities[inside])
    counts = np.bincount(of, minlength=len(totals)).astype(np.float32)
    totals /= np.maximum(counts, 1)[:, None]
    return totals
