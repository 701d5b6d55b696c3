"""Recognizes US social security numbers: nine digits in groups of 3, 2 and 4 that can have been issued."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from app.pii.reading import Reading, anchored
from app.pii.recognizers.base import (
    NOT_AFTER_ALNUM,
    NOT_BEFORE_ALNUM,
    Candidate,
    ContextWindow,
    TextRecognizer,
    digits_of,
    numbers_a_thing,
)

_SSN: Final = anchored(
    rf"{NOT_AFTER_ALNUM}(?<![0-9][.-])[0-8][0-9]{{2}}([ .-]?)[0-9]{{2}}\1[0-9]{{4}}{NOT_BEFORE_ALNUM}(?![.-][0-9])",
    digit_within=0,
    digits=3,
)
_NEVER_ISSUED: Final = frozenset({"123456789", "078051120", "219099999"})
"""Sample numbers printed in advertisements and forms."""


class SsnRecognizer(TextRecognizer):
    """Never issued: area 000, 666 or 9xx, group 00, serial 0000 (Social Security Administration, "
    "randomization rules)."""

    entity = "US_SSN"
    fewest_digits = 9
    digits_in_a_row = 4
    context_window = ContextWindow(before=50, after=20)

    def candidates(self, reading: Reading) -> Iterable[Candidate]:
        for match in _SSN.finditer(reading):
            digits = digits_of(match[0])
            if digits[:3] in {"000", "666"} or digits[3:5] == "00" or digits[5:] == "0000" or digits in _NEVER_ISSUED:
                continue
            alone = match[1] == "-" and not numbers_a_thing(reading, match.start())
            yield Candidate(*match.span(), score=0.6 if alone else 0.1, score_in_context=0.95)
