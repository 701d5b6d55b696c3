"""Recognizes passports of other countries next to their name, and the machine-readable zone of any passport."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from app.pii.checksums import is_passport_zone
from app.pii.reading import Reading, anchored
from app.pii.recognizers.base import NOT_AFTER_ALNUM, NOT_BEFORE_ALNUM, Candidate, ContextWindow, TextRecognizer

_NUMBER: Final = anchored(
    rf"{NOT_AFTER_ALNUM}(?<![0-9][.,:/-])(?:(?=[A-Z]{{0,4}}[0-9])[0-9A-Z]{{7,9}}|"
    rf"(?!NO|NR|IS|ID|MY|OF)[A-Z]{{2}} [0-9]{{7}})"
    rf"{NOT_BEFORE_ALNUM}(?![.:/-][0-9])",
    digit_within=4,
)
_DATE: Final = re.compile(r"(?:19|20)[0-9]{2}[01][0-9][0-3][0-9]")
_FEWEST_DIGITS: Final = 5
_ZONE_LENGTH: Final = 44
"""ICAO 9303: code points of a line of the zone, none of them a blank."""
_LINE: Final = re.compile(
    r"(?<![0-9A-Z<])([A-Z0-9<]{9}[0-9][A-Z<]{3}[0-9]{6}[0-9][MFX<][0-9]{6}[0-9][A-Z0-9<]{14}[0-9<][0-9])(?![0-9A-Z<])"
)
"""The second line, which holds the number."""
_ZONE: Final = re.compile(rf"(?:(?<![0-9A-Z<])P[A-Z<][A-Z<]{{42}}\s{{1,3}})?{_LINE.pattern}")


class PassportRecognizer(TextRecognizer):
    """Seven to nine capital letters and digits, as the US, the UK and most of Europe issue them (ICAO 9303: at most
    nine), with a word before or behind that says so; a machine-readable zone is known by its check digits."""

    entity = "PASSPORT"
    fewest_digits = 5
    context_window = ContextWindow(before=45, after=15, across_digits=False)

    def candidates(self, reading: Reading) -> Iterable[Candidate]:
        text = reading.text
        for match in _NUMBER.finditer(reading):
            digits = sum(character.isdigit() for character in match[0])
            if digits >= _FEWEST_DIGITS and not _DATE.fullmatch(match[0]):
                yield Candidate(*match.span(), score=0.1, score_in_context=0.85)
        lines = (stretch for stretch in reading.stretches if stretch[1] - stretch[0] >= _ZONE_LENGTH)
        if any(_LINE.search(text, *line) for line in lines):
            for match in _ZONE.finditer(text):
                if is_passport_zone(match[1]):
                    yield Candidate(*match.span(), score=1.0)
