"""Recognizes the British Unique Taxpayer Reference next to its name: ten digits, the first of them a check digit."""

from __future__ import annotations

import re
from typing import Final

from app.pii.checksums import is_taxpayer_reference
from app.pii.reading import anchored
from app.pii.recognizers.base import NOT_AFTER_ALNUM, NOT_BEFORE_ALNUM, CheckedNumberRecognizer, ContextWindow

_NUMBER: Final = anchored(
    rf"{NOT_AFTER_ALNUM}(?<![0-9][.-])[0-9]{{5}}[ -]?[0-9]{{5}}K?{NOT_BEFORE_ALNUM}(?![.-][0-9])",
    re.IGNORECASE,
    digit_within=0,
    digits=5,
)


class TaxpayerReferenceRecognizer(CheckedNumberRecognizer):
    """Without a context word nothing is flagged: one number of ten digits in eleven passes the check."""

    entity = "UK_UTR"
    fewest_digits = 10
    digits_in_a_row = 5
    context_window = ContextWindow(before=50, after=15, across_digits=False)
    pattern = _NUMBER
    is_valid = staticmethod(is_taxpayer_reference)
    score_in_context = 0.95
