"""Recognizes the Polish passport: two letters and seven digits, the first of them a check digit."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from app.pii.checksums import is_polish_passport
from app.pii.reading import Reading, anchored
from app.pii.recognizers.base import NOT_AFTER_ALNUM, NOT_BEFORE_ALNUM, Candidate, ContextWindow, TextRecognizer

_PASSPORT: Final = anchored(
    rf"{NOT_AFTER_ALNUM}([A-Z]{{2}})[ \u00a0-]?([0-9]{{7}}){NOT_BEFORE_ALNUM}(?![.-][0-9])",
    re.IGNORECASE,
    digit_within=3,
    digits=7,
)


class PolishPassportRecognizer(TextRecognizer):
    """Without a context word nothing is flagged: order codes have the same shape, and one in ten passes the check."""

    entity = "PL_PASSPORT"
    fewest_digits = 7
    digits_in_a_row = 7
    context_window = ContextWindow(before=60, after=30)

    def candidates(self, reading: Reading) -> Iterable[Candidate]:
        for match in _PASSPORT.finditer(reading):
            if is_polish_passport(match[1] + match[2]):
                yield Candidate(*match.span(), score=0.4, score_in_context=0.95)
