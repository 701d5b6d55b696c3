"""Recognizes the British National Insurance number: two letters, six digits and a suffix letter."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from app.pii.reading import Reading, anchored
from app.pii.recognizers.base import NOT_AFTER_ALNUM, NOT_BEFORE_ALNUM, Candidate, ContextWindow, TextRecognizer

_NUMBER: Final = anchored(
    rf"{NOT_AFTER_ALNUM}(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]"
    rf"([ -]?)[0-9]{{2}}\1[0-9]{{2}}\1[0-9]{{2}}[ -]?[A-D]{NOT_BEFORE_ALNUM}",
    re.IGNORECASE,
    digit_within=3,
    digits=2,
)


class NinoRecognizer(TextRecognizer):
    """Letters and prefixes never issued are those of HMRC's National Insurance Manual, NIM39110. There is no check
    digit: without spaces the number needs a context word."""

    entity = "UK_NINO"
    fewest_digits = 6
    digits_in_a_row = 2
    context_window = ContextWindow(before=60, after=30)

    def candidates(self, reading: Reading) -> Iterable[Candidate]:
        for match in _NUMBER.finditer(reading):
            yield Candidate(*match.span(), score=0.7 if match[1] else 0.4, score_in_context=0.95)
