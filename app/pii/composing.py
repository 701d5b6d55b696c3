"""A text as recognizers read it: accents that stand apart, as some systems write them (Unicode's NFD), joined to their
letters, and without what is not seen inside a word, such as the soft hyphens of a web page."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

_APART: Final = re.compile("[^\u0300-\u036f\u00ad\u2060\ufeff][\u0300-\u036f]{1,4}|[\u00ad\u2060\ufeff]+")
"""A letter with its marks, bounded, because putting many marks in order takes quadratic time; or signs that are not
seen and part no words."""
_ANY: Final = re.compile("[\u0300-\u036f\u00ad\u2060\ufeff]")
"""Looked for first, at a tenth of the cost: most texts have none."""
_UNSEEN: Final = frozenset("\u00ad\u2060\ufeff")


def composed(text: str) -> tuple[str, Sequence[int] | None]:
    """Return the text as it is read, and where each of its characters begins in the given one.

    To a recognizer an accent that stands apart, or a sign that is not seen, ends a word: of the value in it, parts
    would be left standing.

    Returns:
        The text, and one offset for each of its characters with the length of the given text behind them; None where
        both are the same.
    """
    if text.isascii() or _ANY.search(text) is None:
        return text, None
    pieces: list[str] = []
    places: list[int] = []
    position = 0
    for match in _APART.finditer(text):
        start, end = match.span()
        letter = "" if text[start] in _UNSEEN else unicodedata.normalize("NFC", match[0])
        if len(letter) >= end - start:
            continue
        pieces += text[position:start], letter
        places += range(position, start)
        places += [start, *range(end - len(letter) + 1, end)] if letter else []
        position = end
    if not pieces:
        return text, None
    pieces.append(text[position:])
    places += range(position, len(text) + 1)
    return "".join(pieces), places
