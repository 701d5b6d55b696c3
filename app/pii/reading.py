"""What the recognizers ask of a text, found out once for all of them: where words begin, and where digits follow.

Nearly all patterns begin at the beginning of a word, and most want a digit near it or a certain word there. Trying them
only where that is so costs a tenth of trying them at every character, and finds the same.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.pii.characters import CAPITAL, kinds_of, words_of
from app.pii.letters import lowered
from app.pii.tables import Cell, cells_of

SHORTEST_STRETCH: Final = 14
"""Code points of the shortest value that is looked for in stretches: a MAC address as 0011.2233.4455."""
FARTHEST_DIGIT: Final = 8
"""Most code points between the beginning of a word and a digit that a pattern asks for."""
_NUMBER: Final = re.compile("[0-9]+")
_STRETCH: Final = re.compile(rf"(?<!\S)\S{{{SHORTEST_STRETCH},}}")
_KEY: Final = 2
"""Letters by which words are told apart here."""


class Reading:
    """A text and what was found out about it so far; belongs to one scan."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._before_number: dict[tuple[int, int], list[int]] = {}

    @cached_property
    def kinds(self) -> NDArray[np.uint8]:
        """The kind of each character, see `app.pii.characters`."""
        return kinds_of(self.text)

    @cached_property
    def _numbers(self) -> list[tuple[int, int]]:
        """Where digits stand in a row."""
        return [match.span() for match in _NUMBER.finditer(self.text)]

    @cached_property
    def digits(self) -> int:
        """How many of 0 to 9 stand in the text."""
        return sum(end - start for start, end in self._numbers)

    @cached_property
    def longest_number(self) -> int:
        """How many of them stand in a row, at most."""
        return max((end - start for start, end in self._numbers), default=0)

    @cached_property
    def folded(self) -> str:
        """The text in small letters, each at its place, and alike where patterns that ignore case take letters for
        alike: they read the dotless i and the long s as i and s."""
        return lowered(self.text.replace("\u0130", "i")).replace("\u0131", "i").replace("\u017f", "s")

    @cached_property
    def words(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where each word (letters and digits side by side) begins and ends (exclusive)."""
        return words_of(self.kinds)

    @cached_property
    def cells(self) -> Sequence[Cell]:
        """The cells of the tables in the text, in order."""
        return cells_of(self.text)

    @cached_property
    def cell_starts(self) -> list[int]:
        """Where each of them begins."""
        return [cell.start for cell in self.cells]

    @cached_property
    def _starts(self) -> list[int]:
        starts: list[int] = self.words[0].tolist()
        return starts

    @cached_property
    def _ends(self) -> list[int]:
        ends: list[int] = self.words[1].tolist()
        return ends

    def word_before(self, place: int) -> tuple[int, int] | None:
        """Return where the last word stands that begins before a place; None where none does."""
        last = bisect_left(self._starts, place) - 1
        return (self._starts[last], self._ends[last]) if last >= 0 else None

    @cached_property
    def _starts_near_numbers(self) -> list[tuple[int, int, int]]:
        """Where words begin that have a number near, how far it is to the first one, and how many digits that has."""
        starts, found, behind = self._starts, [], 0
        for place, end in self._numbers:
            reached = bisect_right(starts, place, behind)
            nearest = bisect_left(starts, place - FARTHEST_DIGIT, behind)
            found += [(start, place - start, end - place) for start in starts[nearest:reached]]
            behind = reached
        return found

    @cached_property
    def _starts_by_key(self) -> dict[str, list[int]]:
        folded, found = self.folded, defaultdict(list)
        for start in self._starts:
            found[folded[start : start + _KEY]].append(start)
        return found

    def before_number(self, within: int, digits: int) -> list[int]:
        """Return where words begin that have a number at most `within` code points behind their first character, the
        first of which has so many digits in a row or more."""
        asked = (within, digits)
        starts = self._before_number.get(asked)
        if starts is None:
            near = self._starts_near_numbers
            starts = [start for start, distance, length in near if distance <= within and length >= digits]
            self._before_number[asked] = starts
        return starts

    @cached_property
    def capitals(self) -> list[int]:
        """Where words begin whose first letter is a capital."""
        starts = self.words[0]
        capitals: list[int] = starts[self.kinds[starts] == CAPITAL].tolist()
        return capitals

    def beginning_with(self, keys: frozenset[str]) -> list[int]:
        """Return where words begin whose first two characters (which may reach beyond the word) are one of the keys."""
        by_key = self._starts_by_key
        return [start for key in keys if key in by_key for start in by_key[key]]

    def occurrences(self, parts: Sequence[str]) -> list[int]:
        """Return where one of some strings in small letters stands, also inside a word; without regard to case."""
        folded, found = self.folded, []
        for part in parts:
            place = folded.find(part)
            while place != -1:
                found.append(place)
                place = folded.find(part, place + 1)
        return found

    @cached_property
    def stretches(self) -> list[tuple[int, int]]:
        """Where long stretches without white space stand: keys, tokens, addresses of wallets and devices are such."""
        return [match.span() for match in _STRETCH.finditer(self.text)]


@dataclass(slots=True)
class Anchored:
    """A pattern with what is known of the places where its matches can begin; it is tried at no others.

    A match begins at a place that one of them allows; where none is given, anywhere. For each pattern a test shows on
    texts of all sorts that no match is hidden.
    """

    pattern: re.Pattern[str]
    digit_within: int | None = None
    """It may begin with a word that has a digit at most so many code points behind its first character."""
    digits: int = 1
    """Fewest digits in a row that stand there."""
    keys: frozenset[str] = frozenset()
    """It may begin with a word that begins so: two characters, in small letters."""
    parts: Sequence[str] = ()
    """It may begin with one of these, in small letters, also inside a word."""
    capital: bool = False
    """It may begin with a word whose first letter is a capital."""
    needs: Sequence[str] = ()
    """One of these, in small letters, stands in every text that holds a match."""
    before: int = 0
    """Most code points by which it may begin before the place that the others tell."""
    before_with: str = ""
    """The characters with which it may begin there."""

    anywhere: bool = field(init=False)
    """Whether nothing is known of the place."""
    number: tuple[int, int] | None = field(init=False, default=None)
    """How near a number stands and how many digits it has, where that alone tells the place."""
    in_order: bool = field(init=False)
    """Whether the places are told by one thing alone, which names each once and in order."""

    def __post_init__(self) -> None:
        told = (self.digit_within is not None, self.capital, bool(self.keys), bool(self.parts))
        self.anywhere = not any(told)
        if self.digit_within is not None and told == (True, False, False, False) and not self.before:
            self.number = (self.digit_within, self.digits)
        self.in_order = not (self.keys or self.parts or self.before) and sum(told) == 1

    def finditer(self, reading: Reading) -> Iterable[re.Match[str]]:
        """Return what the pattern's own `finditer` yields."""
        text = reading.text
        if self.needs and not any(part in reading.folded for part in self.needs):
            return ()
        if self.anywhere:
            return self.pattern.finditer(text)
        starts = self.starts(reading) if self.number is None else reading.before_number(*self.number)
        if not starts:
            return ()
        found, match, end = [], self.pattern.match, 0
        for start in starts:
            if start >= end and (at := match(text, start)) is not None:
                end = at.end()
                found.append(at)
        return found

    def starts(self, reading: Reading) -> Sequence[int]:
        """Return the places where a match may begin, in order."""
        starts = [] if self.digit_within is None else reading.before_number(self.digit_within, self.digits)
        if self.capital:
            starts = starts + reading.capitals
        if self.keys:
            starts = starts + reading.beginning_with(self.keys)
        if self.parts:
            starts = starts + reading.occurrences(self.parts)
        if self.before and any(character in reading.text for character in self.before_with):
            earlier = (place for start in starts for place in range(max(0, start - self.before), start))
            return sorted({*starts, *(place for place in earlier if reading.text[place] in self.before_with)})
        return starts if self.in_order else sorted(set(starts))


def anchored(pattern: str, flags: re.RegexFlag = re.NOFLAG, **known: Any) -> Anchored:
    """Compile a pattern with what is known of its beginnings; see `Anchored`."""
    return Anchored(re.compile(pattern, flags), **known)


def in_stretches(pattern: re.Pattern[str], reading: Reading) -> Iterator[re.Match[str]]:
    """Yield what `finditer` does of a pattern whose matches hold no white space and are no shorter than a stretch."""
    for start, end in reading.stretches:
        yield from pattern.finditer(reading.text, start, end)
