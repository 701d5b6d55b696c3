"""What kind of character stands at each place of a text, found out for all places at once."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

SMALL: Final = 0
"""A small letter; so are all kinds up to OTHER_ALNUM parts of words."""
CAPITAL: Final = 1
TITLE: Final = 2
"""A letter that is neither: of Chinese, or a ligature with a capital in it."""
DIGIT: Final = 3
"""One of 0 to 9."""
OTHER_DIGIT: Final = 4
"""Superscripts, and the digits of other scripts."""
OTHER_ALNUM: Final = 5
SMALL_SIGN: Final = 6
"""Is of small letters but no part of a word: a letter in a circle."""
CAPITAL_SIGN: Final = 7
BLANK: Final = 8
LINE_END: Final = 9
MARKS: Final = {mark: 10 + place for place, mark in enumerate(":,.!?@_/-\"'„(")}
OTHER: Final = 10 + len(MARKS)
KINDS: Final = OTHER + 1
_BLANKS: Final = " \t\u00a0"


def _kind(character: str) -> int:
    if character in MARKS:
        return MARKS[character]
    if character in _BLANKS:
        return BLANK
    if character == "\n":
        return LINE_END
    if not character.isalnum():
        return SMALL_SIGN if character.islower() else CAPITAL_SIGN if character.isupper() else OTHER
    if character.isdigit():
        return DIGIT if character.isascii() else OTHER_DIGIT
    if character.islower():
        return SMALL
    if character.isupper():
        return CAPITAL
    return TITLE if character.istitle() else OTHER_ALNUM


class _Kinds(dict[int, str]):
    """A table for `str.translate` that is filled as characters are met: Unicode has a million, a language a hundred."""

    def __missing__(self, code: int) -> str:
        kind = self[code] = chr(_kind(chr(code)))
        return kind


_kinds: Final = _Kinds()


def kinds_of(text: str) -> NDArray[np.uint8]:
    """Return the kind of each character; shape (code points,)."""
    return np.frombuffer(text.translate(_kinds).encode("latin-1"), np.uint8)


def words_of(kinds: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where each run of letters and digits begins and ends (exclusive), as `[^\\W_]+` finds them."""
    inside = np.zeros(len(kinds) + 2, np.bool_)
    np.less_equal(kinds, OTHER_ALNUM, out=inside[1:-1])
    edges = np.flatnonzero(inside[1:] != inside[:-1])
    return edges[::2], edges[1::2]
