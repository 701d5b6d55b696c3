"""A text as recognizers read it: accents that stand apart, as some systems write them (Unicode's NFD), joined to their
letters, without what is not seen inside a word, such as the soft hyphens of a web page, and with digits, and what parts
them, as in ASCII."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

_APART: Final = re.compile("[^\u0300-\u036f\u00ad\u2060\ufeff][\u0300-\u036f]{1,4}|[\u00ad\u2060\ufeff]+")
"""A letter with its marks, bounded, because putting many marks in order takes quadratic time; or signs that are not
seen and part no words."""
_HYPHENS: Final = "\u2010-\u2012\u2212"
_DASHES: Final = "\u2013-\u2015"
_SPACES: Final = "\u00a0\u2000-\u200a\u202f\u205f\u3000"
_DIGITS: Final = "\u0660-\u0669\u06f0-\u06f9\u0966-\u096f\uff10-\uff19"
"""Arabic, Persian, Indian and full-width."""
_LETTERS: Final = "\uff0b\uff0d-\uff0f\uff20-\uff3a\uff41-\uff5a"
"""Full-width signs and letters that stand in numbers and addresses."""
_BEFORE: Final = f"0-9{_DIGITS})"
_BEHIND: Final = f"0-9{_DIGITS}("
_CAPITALS: Final = "A-Z\uff21-\uff3a"
_UNLIKE: Final = re.compile(
    f"[{_HYPHENS}{_SPACES}{_DIGITS}{_LETTERS}](?:(?<=[{_DIGITS}{_LETTERS}])|(?<=[{_BEFORE}].)(?=[{_BEHIND}{_CAPITALS}])|"
    f"(?<=[{_CAPITALS}].)(?=[{_BEHIND}]))"
)
"""What is written in another way than the same sign of a number in ASCII; a hyphen or space only beside a digit, and
between what a number is made of."""
_DASHED: Final = re.compile(f"[{_DASHES}](?<=[0-9A-Z].)(?=[0-9A-Z])")
_LONG_NUMBER: Final = re.compile(f"[0-9A-Z](?:[ ()]{{0,2}}[{_DASHES}-]?[0-9A-Z]){{5,}}")
_FEWEST_DIGITS: Final = 9
"""Of a number in which a single dash is a hyphen: in shorter ones it stands between two, as in 2021-2024."""
_MARK: Final = re.compile("[\u0300-\u036f\u00ad\u2060\ufeff]")
_ANY: Final = re.compile(
    f"[\u0300-\u036f\u00ad\u2060\ufeff{_HYPHENS}{_DASHES}{_SPACES}{_DIGITS}{_LETTERS}]"
    f"(?:(?<=[\u0300-\u036f\u00ad\u2060\ufeff{_DIGITS}{_LETTERS}])|(?<=[{_BEFORE}{_CAPITALS}].)(?=[{_BEHIND}{_CAPITALS}]))"
)
"""Looked for first, at a tenth of the cost: most texts have none."""
_FULL_WIDTH: Final = 0xFEE0
"""How far the full-width forms stand behind those of ASCII."""
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
    alike = in_ascii(text)
    return rewritten(alike, _joined(alike)) if _MARK.search(alike) else (alike, None)


def in_ascii(text: str) -> str:
    """Return a text with the digits of other scripts, and what parts digits, as in ASCII; every offset stays."""
    alike = _UNLIKE.sub(_sign_in_ascii, text)
    return _LONG_NUMBER.sub(_hyphenated, alike) if _DASHED.search(alike) else alike


def _hyphenated(match: re.Match[str]) -> str:
    hyphenated, dashes = _DASHED.subn("-", match[0])
    return hyphenated if dashes > 1 or sum(map(str.isdecimal, hyphenated)) >= _FEWEST_DIGITS else match[0]


def _sign_in_ascii(match: re.Match[str]) -> str:
    sign = match[0]
    if sign.isdecimal():
        return str(unicodedata.decimal(sign))
    if "\uff00" <= sign <= "\uff5e":
        return chr(ord(sign) - _FULL_WIDTH)
    return " " if sign.isspace() else "-"


def _joined(text: str) -> Iterator[tuple[int, int, str]]:
    for match in _APART.finditer(text):
        start, end = match.span()
        letter = "" if text[start] in _UNSEEN else unicodedata.normalize("NFC", match[0])
        if len(letter) < end - start:
            yield start, end, letter


def rewritten(text: str, changes: Iterable[tuple[int, int, str]]) -> tuple[str, Sequence[int] | None]:
    """Return a text with some parts in a shorter form, and where each of its characters begins in the given one.

    Args:
        text: any.
        changes: start, end (exclusive) and new form of each part, in order and not overlapping.

    Returns:
        As `composed`.
    """
    pieces: list[str] = []
    places: list[int] = []
    position = 0
    for start, end, form in changes:
        pieces += text[position:start], form
        places += range(position, start)
        places += [start, *range(end - len(form) + 1, end)] if form else []
        position = end
    if not pieces:
        return text, None
    pieces.append(text[position:])
    places += range(position, len(text) + 1)
    return "".join(pieces), places
