"""Recognizes American tax numbers next to their name: of employers (EIN), and of persons without a social security
number (ITIN)."""

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
)
from app.pii.words import words

_NUMBER: Final = anchored(
    rf"{NOT_AFTER_ALNUM}(?<![0-9][.,/-])(?:[0-9]{{2}}-?[0-9]{{7}}|9[0-9]{{2}}([ -])[0-9]{{2}}\1[0-9]{{4}})"
    rf"{NOT_BEFORE_ALNUM}(?![./-][0-9])",
    digit_within=0,
    digits=2,
)
_NEVER_ISSUED: Final = words("00 07 08 09 17 18 19 28 29 49 69 70 78 79 89 96 97")
"""Campus codes that no EIN begins with."""
_ITIN_GROUPS: Final = frozenset([*range(50, 66), *range(70, 89), 90, 91, 92, *range(94, 100)])


class UsTaxIdRecognizer(TextRecognizer):
    """There are no check digits: EIN begin with a campus code of the IRS ("How EINs are assigned"), ITIN with a 9 and
    have one of the groups of IRS Publication 1915."""

    entity = "US_TAX_ID"
    fewest_digits = 9
    digits_in_a_row = 4
    context_window = ContextWindow(before=45, after=0, across_digits=False)

    def candidates(self, reading: Reading) -> Iterable[Candidate]:
        for match in _NUMBER.finditer(reading):
            digits = digits_of(match[0])
            is_itin = digits[0] == "9" and int(digits[3:5]) in _ITIN_GROUPS
            if is_itin or (match[1] is None and digits[:2] not in _NEVER_ISSUED):
                yield Candidate(*match.span(), score=0.1, score_in_context=0.9)
