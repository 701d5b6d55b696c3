"""Recognizes bank account numbers: IBAN of every country, the Polish 26 digits without the prefix, and those of Britain
and the United States next to words of a bank."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Final

from app.pii.checksums import IBAN_LENGTHS, is_iban
from app.pii.reading import Reading, anchored
from app.pii.recognizers.base import NOT_AFTER_ALNUM, NOT_BEFORE_ALNUM, Candidate, TextRecognizer
from app.pii.recognizers.domestic_accounts import domestic_accounts

_HEAD: Final = anchored(
    rf"{NOT_AFTER_ALNUM}([A-Z]{{2}})[ \u00a0.-]?[0-9]{{2}}(?=[ \u00a0.-]?[0-9A-Z])",
    re.IGNORECASE,
    digit_within=3,
    digits=2,
)
_POLISH_HEAD: Final = anchored(
    rf"{NOT_AFTER_ALNUM}(?<!\+)[0-9]{{2}}(?=[ \u00a0.-]?[0-9]{{4}})", digit_within=0, digits=2
)
_SEPARATORS: Final = 3
"""Most of them between two characters."""
_WITHOUT_SEPARATORS: Final = str.maketrans("", "", " \u00a0.-\n")
_POLISH_LENGTH: Final = 26


class IbanRecognizer(TextRecognizer):
    """Of an IBAN the checksum decides, so no context word is needed: one string in 97 of the right length passes by
    chance."""

    entity = "IBAN_CODE"
    fewest_digits = 2
    digits_in_a_row = 2

    def candidates(self, reading: Reading) -> Iterable[Candidate]:
        text = reading.text
        for match in _HEAD.finditer(reading):
            length = IBAN_LENGTHS.get(match[1].upper())
            if length is not None:
                yield from _complete(text, match.start(), length, prefix="")
        for match in _POLISH_HEAD.finditer(reading):
            yield from _complete(text, match.start(), _POLISH_LENGTH, prefix="PL")
        yield from domestic_accounts(reading)


def _complete(text: str, start: int, length: int, prefix: str) -> Iterable[Candidate]:
    """Read exactly `length` letters and digits, one separator between any two, and check them.

    The checksum is asked first: it is much cheaper than to read character by character, and passes one in 97.
    """
    ahead = text[start : start + length * (1 + _SEPARATORS)].translate(_WITHOUT_SEPARATORS)
    compact = ahead[:length]
    if not (compact.isalnum() and compact.isascii() and is_iban(prefix + compact.upper())):
        return
    match = _exactly(length, digits_only=bool(prefix)).match(text, start)
    if match is not None:
        yield Candidate(start, match.end(), score=0.95)


@cache
def _exactly(length: int, *, digits_only: bool) -> re.Pattern[str]:
    character = "[0-9]" if digits_only else "[0-9A-Za-z]"
    return re.compile(rf"{character}(?:[ \u00a0.-]?\n?[ ]?{character}){{{length - 1}}}{NOT_BEFORE_ALNUM}")
