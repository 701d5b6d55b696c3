"""What the recognizers ask of a text, found out once for all of them: where words begin, and where digits follow.

Nearly all patterns begin at the beginning of a word, and most want a digit near it or a certain word there. Trying them
only where that is so costs a tenth of trying them at every character, and finds the same.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.pii.characters import CAPITAL, DIGIT, kinds_of, words_of
from app.pii.letters import lowered

SHORTEST_STRETCH: Final = 14
"""Code points of the shortest value that is looked for in stretches: a MAC address as 0011.2233.4455."""
_NEVER: Final = np.iinfo(np.int64).max
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
    def has_digit(self) -> bool:
        """Whether one of 0 to 9 stands in the text."""
        return bool((self.kinds == DIGIT).any())

    @cached_property
    def folded(self) -> str:
        """The text in small letters, each at its place, and alike where patterns that ignore case take letters for
        alike: they read the dotless i and the long s as i and s."""
        return lowered(self.text.replace("\u0130", "i")).replace("\u0131", "i").replace("\u017f", "s")

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        return words_of(self.kinds)[0]

    @cached_property
    def _next_numbers(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """How far it is from the beginning of each word to the first number there or behind it, and its digits."""
        edges = np.diff(np.concatenate(([False], self.kinds == DIGIT, [False])).astype(np.int8))
        numbers, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
        digits = np.append(ends - numbers, 0)
        of = numbers.searchsorted(self._starts)
        return np.append(numbers, _NEVER)[of] - self._starts, digits[of]

    @cached_property
    def _starts_by_key(self) -> dict[str, list[int]]:
        folded, found = self.folded, defaultdict(list)
        for start in self._starts.tolist():
            found[folded[start : start + _KEY]].append(start)
        return found

    def before_number(self, within: int, digits: int) -> list[int]:
        """Return where words begin that have a number at most `within` code points behind their first character, the
        first of which has so many digits in a row or more."""
        starts = self._before_number.get((within, digits))
        if starts is None:
            distances, lengths = self._next_numbers
            chosen = self._starts[(distances <= within) & (lengths >= digits)]
            starts = self._before_number[within, digits] = chosen.tolist()
        return starts

    @cached_property
    def capitals(self) -> list[int]:
        """Where words begin whose first letter is a capital."""
        starts = self._starts
        found: list[int] = starts[self.kinds[starts] == CAPITAL].tolist()
        return found

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
    def longest_stretch(self) -> int:
        """Code points of the longest stretch, 0 where none is long."""
        return max((end - start for start, end in self.stretches), default=0)

    @cached_property
    def stretches(self) -> list[tuple[int, int]]:
        """Where long stretches without white space stand: keys, tokens, addresses of wallets and devices are such."""
        return [match.span() for match in _STRETCH.finditer(self.text)]


@dataclass(frozen=True, slots=True)
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

    def finditer(self, reading: Reading) -> Iterator[re.Match[str]]:
        """Yield what the pattern's own `finditer` does."""
        text, match = reading.text, self.pattern.match
        if self.needs and not any(part in reading.folded for part in self.needs):
            return
        if not self._is_anchored:
            yield from self.pattern.finditer(text)
            return
        end = 0
        for start in self.starts(reading):
            if start >= end and (found := match(text, start)) is not None:
                end = found.end()
                yield found

    @property
    def _is_anchored(self) -> bool:
        return bool(self.digit_within is not None or self.keys or self.parts or self.capital)

    @property
    def _is_in_order(self) -> bool:
        """Whether the places are told by one thing alone, which names each once and in order."""
        return not (self.keys or self.parts) and (self.digit_within is None or not self.capital)

    def starts(self, reading: Reading) -> Sequence[int]:
        """Return the places where a match may begin, in order."""
        starts = [] if self.digit_within is None else reading.before_number(self.digit_within, self.digits)
        if self.capital:
            starts = starts + reading.capitals
        if self.keys:
            starts = starts + reading.beginning_with(self.keys)
        if self.parts:
            starts = starts + reading.occurrences(self.parts)
        if self.before:
            earlier = (place for start in starts for place in range(max(0, start - self.before), start))
            return sorted({*starts, *(place for place in earlier if reading.text[place] in self.before_with)})
        return starts if self._is_in_order else sorted(set(starts))


def anchored(pattern: str, flags: re.RegexFlag = re.NOFLAG, **known: Any) -> Anchored:
    """Compile a pattern with what is known of its beginnings; see `Anchored`."""
    return Anchored(re.compile(pattern, flags), **known)


def in_stretches(pattern: re.Pattern[str], reading: Reading) -> Iterator[re.Match[str]]:
    """Yield what `finditer` does of a pattern whose matches hold no white space and are no shorter than a stretch."""
    for start, end in reading.stretches:
        yield from pattern.finditer(reading.text, start, end)
