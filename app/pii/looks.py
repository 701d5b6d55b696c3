"""How a text looks to the tagger: its sub-words, and of each the case of its word and what stands before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from app.pii.characters import (
    BLANK,
    CAPITAL,
    CAPITAL_SIGN,
    DIGIT,
    KINDS,
    LINE_END,
    MARKS,
    OTHER_ALNUM,
    OTHER_DIGIT,
    SMALL,
    SMALL_SIGN,
    TITLE,
    words_of,
)
from app.pii.letters import lowered
from app.pii.reading import Reading
from app.subwords import SubWordTable

if TYPE_CHECKING:
    from app.pii.given_names import GivenNames

_LETTERS_AT_FIRST: Final = 4
"""Code points that are cut for each sub-word of the budget, to begin with: English has four or five to one."""
_MARGIN: Final = 64
"""Sub-words beyond the budget that must follow in what was cut: a word that its end divides is cut in another way."""

_STYLE_SAMPLE: Final = 2_000
"""Code points that tell a text's style."""
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
_SMALL, _CAPITALISED, _CAPITALS, _MIXED, _NUMBER, _WITH_DIGIT, _ONE_CAPITAL = range(7)
"""Cases of a word, as they stand in the look's vector."""
_AFTER_LINE_END: Final = 0
_AFTER_WORD: Final = 1
_AFTER_MARK: Final = dict(zip(":,.!?@_/-\"'„(", (2, 3, 4, 4, 4, 5, 6, 7, 8, 9, 9, 9, 10), strict=True))
_AFTER_OTHER: Final = 11
_LONG_WORD: Final = 4
"""Code points of a word that is no abbreviation."""
_BEFORE_OF_KIND: Final = np.full(KINDS, _AFTER_OTHER, np.int64)
"""What stands before a word, in the look's vector, by the kind of the last character that is no blank."""
_BEFORE_OF_KIND[: OTHER_ALNUM + 1] = _AFTER_WORD
_BEFORE_OF_KIND[LINE_END] = _AFTER_LINE_END
for _mark, _place in _AFTER_MARK.items():
    _BEFORE_OF_KIND[MARKS[_mark]] = _place
_BIT_OF_KIND: Final = np.zeros(KINDS, np.uint8)
_BIT_OF_KIND[[SMALL, CAPITAL, TITLE, DIGIT, OTHER_DIGIT, OTHER_ALNUM]] = (1, 2, 4, 8, 8, 16)
_BITS: Final = 32


def _case(bits: int, behind: int) -> int:
    """Return the case of a word by what it is made of, all of it and behind its first character."""
    small, capital, title, digit = (bool(bits & bit) for bit in (1, 2, 4, 8))
    if digit:
        return _NUMBER if bits == 8 else _WITH_DIGIT
    if small and not capital and not title:
        return _SMALL
    if capital and not small and not title:
        return _CAPITALS if behind else _ONE_CAPITAL
    return _CAPITALISED if behind & 7 == 1 else _MIXED


_CASE_OF_BITS: Final = np.array([[_case(bits, behind) for behind in range(_BITS)] for bits in range(_BITS)])


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

    def sentences(self) -> NDArray[np.int64]:
        """Return the sub-words that a line or a sentence begins with, ascending.

        A full stop behind a short word ends none (ul., Dr.), nor does one that no blank follows (12.05, example.com).
        """
        if not self.words:
            return np.empty(0, np.int64)
        firsts = np.flatnonzero((self.word_of >= 0) & (self.vectors[:, _FIRST_AT] == 1))
        numbers, spans = self.word_of[firsts], np.array(self.words)
        before = spans[np.maximum(numbers - 1, 0)]
        behind_line = self.vectors[firsts, _BEFORE_AT + _AFTER_LINE_END] == 1
        behind_mark = self.vectors[firsts, _BEFORE_AT + _AFTER_MARK["."]] == 1
        long = before[:, 1] - before[:, 0] >= _LONG_WORD
        begun: NDArray[np.int64] = firsts[behind_line | (behind_mark & long & (spans[numbers, 0] - before[:, 1] > 1))]
        return begun


def look(text: str, table: SubWordTable, given_names: GivenNames, budget: int, reading: Reading | None = None) -> Looks:
    """Cut a text into sub-words and describe how each looks in it; `reading` is that of the text, where it has one."""
    reading = Reading(text) if reading is None else reading
    small = lowered(text)
    ids, spans = _first(small, table, budget)
    kinds, (starts, ends) = reading.kinds, reading.words
    read_to = int(spans[-1, 1]) if len(ids) else 0
    if len(ends) and ends[-1] > read_to:
        kinds = kinds[:read_to]
        starts, ends = words_of(kinds)
    vectors = np.zeros((len(ids), LOOKS), np.float32)
    vectors[:, _STYLE_AT + _style(reading.kinds[:_STYLE_SAMPLE])] = 1
    words = list(zip(starts.tolist(), ends.tolist(), strict=True))
    if not words:
        vectors[:, (_OUTSIDE_WORDS, _FIRST_AT)] = 1
        return Looks(ids, spans, vectors, words, np.full(len(ids), -1, np.int64))
    firsts, numbers = spans[:, 0], np.arange(len(ids))
    word_of = starts.searchsorted(firsts, "right") - 1
    word_of[firsts >= ends[word_of]] = -1
    said = np.full((3, len(words) + 1), _OUTSIDE_WORDS, np.int64)  # The last one is what is said of no word.
    said[0, :-1] = _cases(kinds, starts)
    said[1, :-1] = _NAME_AT + _ranks(small, words, given_names)
    said[2, :-1] = _BEFORE_AT + _before(kinds, starts)
    vectors[numbers, said[:, word_of]] = 1
    vectors[numbers, _FIRST_AT + ((word_of >= 0) & (firsts > starts[word_of]))] = 1
    return Looks(ids, spans, vectors, words, word_of)


def _first(small: str, table: SubWordTable, budget: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cut the first `budget` sub-words of a text, without reading much more of it than these."""
    length = _LETTERS_AT_FIRST * budget
    while True:
        ids, spans = table.cut(small[:length])
        if length >= len(small) or len(ids) >= budget + _MARGIN:
            return ids[:budget], spans[:budget]
        length *= 2


def _style(kinds: NDArray[np.uint8]) -> int:
    """Return 1 where a text has no capital letters, 2 where it has hardly any others, else 0."""
    counts = np.bincount(kinds, minlength=KINDS)
    upper, lower = counts[CAPITAL] + counts[CAPITAL_SIGN], counts[SMALL] + counts[SMALL_SIGN]
    return 1 if upper == 0 else 2 if upper > lower else 0


def _cases(kinds: NDArray[np.uint8], starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the case of each word, as `str.isdigit`, `islower` and `isupper` tell it."""
    bits = _BIT_OF_KIND[kinds]
    all_bits = np.bitwise_or.reduceat(bits, starts)  # What stands between words has no bit.
    bits[starts] = 0
    return _CASE_OF_BITS[all_bits, np.bitwise_or.reduceat(bits, starts)]


def _ranks(small: str, words: list[tuple[int, int]], given_names: GivenNames) -> NDArray[np.int64]:
    """Return for each word whether it is a given name: 0 for none, 1, or 2 for one that is also a word."""
    ranks = np.zeros(len(words), np.int64)
    for number, (start, end) in enumerate(words):
        if end - start > 1 and (rank := given_names.rank(small[start:end])):
            ranks[number] = rank
    return ranks


def _before(kinds: NDArray[np.uint8], starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return what stands before each word, blanks left out."""
    places = np.where(kinds == BLANK, -1, np.arange(len(kinds)))
    last = np.append(-1, np.maximum.accumulate(places))[starts]
    return np.where(last < 0, _AFTER_LINE_END, _BEFORE_OF_KIND[kinds[last]])
