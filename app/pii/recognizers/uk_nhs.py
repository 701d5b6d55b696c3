"""Recognizes the British NHS number: ten digits, the last of them a check digit."""

from __future__ import annotations

from typing import Final

from app.pii.checksums import is_nhs_number
from app.pii.reading import anchored
from app.pii.recognizers.base import NOT_AFTER_ALNUM, NOT_BEFORE_ALNUM, CheckedNumberRecognizer, ContextWindow

_NUMBER: Final = anchored(
    rf"{NOT_AFTER_ALNUM}(?<![0-9][.-])[0-9]{{3}}([ -]?)[0-9]{{3}}\1[0-9]{{4}}{NOT_BEFORE_ALNUM}(?![.-][0-9])",
    digit_within=0,
    digits=3,
)


class NhsNumberRecognizer(CheckedNumberRecognizer):
    """Without a context word nothing is flagged: American phone numbers have the same shape."""

    entity = "UK_NHS"
    fewest_digits = 10
    digits_in_a_row = 4
    context_window = ContextWindow(before=40, after=15, across_digits=False)
    pattern = _NUMBER
    is_valid = staticmethod(is_nhs_number)
    score_in_context = 0.97
