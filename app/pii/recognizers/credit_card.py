"""Recognizes payment card numbers: a network's prefix and length, and the Luhn digit."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from app.pii.checksums import is_card_number
from app.pii.reading import Reading, anchored
from app.pii.recognizers.base import (
    NOT_AFTER_ALNUM,
    NOT_BEFORE_ALNUM,
    Candidate,
    ContextWindow,
    TextRecognizer,
    digits_of,
)

_CARD: Final = anchored(
    rf"{NOT_AFTER_ALNUM}(?<![0-9][.+-])(?<!\+)[1-6][0-9]{{3}}"
    r"(?:(?:[ \u00a0-][0-9]{4}){3}(?:[ \u00a0-]?[0-9]{3})?|(?:\.[0-9]{4}){3}|(?:_[0-9]{4}){3}|"
    rf"[ \u00a0-][0-9]{{6}}[ \u00a0-][0-9]{{4,5}}|[0-9]{{8,15}})"
    rf"{NOT_BEFORE_ALNUM}(?!\.[0-9])",
    digit_within=0,
    digits=4,
)
_DIGITS_BEFORE: Final = re.compile(r"[0-9]{2}[ \u00a0]\Z")
_DIGITS_AFTER: Final = re.compile(r"[ \u00a0][0-9]{4}")
_SHORTEST_WITHOUT_CONTEXT: Final = 15
"""Shorter numbers (12 to 14 digits: old Maestro, Visa, Diners) look like times in milliseconds and article codes."""


class CreditCardRecognizer(TextRecognizer):
    entity = "CREDIT_CARD"
    fewest_digits = 12
    digits_in_a_row = 4
    context_window = ContextWindow()

    def candidates(self, reading: Reading) -> Iterable[Candidate]:
        text = reading.text
        cards = [match for match in _CARD.finditer(reading) if is_card_number(digits_of(match[0]))]
        starts, ends = {match.start() for match in cards}, {match.end() for match in cards}
        for match in cards:
            start, end = match.span()
            # Groups beside it that are another card's do not make the two an account number.
            is_part = (start - 1 not in ends and _follows_digits(text, start)) or (
                end + 1 not in starts and _DIGITS_AFTER.match(text, end) is not None
            )
            sure = len(digits_of(match[0])) >= _SHORTEST_WITHOUT_CONTEXT and not is_part
            yield Candidate(start, end, score=0.85 if sure else 0.3, score_in_context=1.0)


def _follows_digits(text: str, start: int) -> bool:
    """Whether further groups of digits stand before it, as in an account number, one in ten of whose parts passes."""
    return _DIGITS_BEFORE.search(text[max(0, start - 3) : start]) is not None
