"""Recognizes the British NHS number: ten digits, the last of them a check digit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from app.pii.checksums import is_nhs_number
from app.pii.reading import Reading, anchored
from app.pii.recognizers.base import (
    NOT_AFTER_ALNUM,
    NOT_BEFORE_ALNUM,
    Candidate,
    ContextWindow,
    TextRecognizer,
    digits_of,
)

_NUMBER: Final = anchored(
    rf"{NOT_AFTER_ALNUM}(?<![0-9][.-])[0-9]{{3}}([ -]?)[0-9]{{3}}\1[0-9]{{4}}{NOT_BEFORE_ALNUM}(?![.-][0-9])",
    digit_within=0,
    digits=3,
)


class NhsNumberRecognizer(TextRecognizer):
    """Without a context word nothing is flagged: American phone numbers have the same shape."""

    entity = "UK_NHS"
    fewest_digits = 10
    digits_in_a_row = 4
    context_window = ContextWindow(before=40, after=15, across_digits=False)

    def candidates(self, reading: Reading) -> Iterable[Candidate]:
        for match in _NUMBER.finditer(reading):
            if is_nhs_number(digits_of(match[0])):
                yield Candidate(*match.span(), score=0.1, score_in_context=0.97)
