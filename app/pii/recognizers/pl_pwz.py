"""Recognizes PWZ, the number of a Polish doctor's right to practise, next to its name: seven digits, the first of them
a check digit."""

from __future__ import annotations

from typing import Final

from app.pii.checksums import is_pwz
from app.pii.reading import anchored
from app.pii.recognizers.base import NOT_AFTER_ALNUM, NOT_BEFORE_ALNUM, CheckedNumberRecognizer, ContextWindow

_NUMBER: Final = anchored(
    rf"{NOT_AFTER_ALNUM}(?<![0-9][.,/-])[1-9][0-9]{{6}}{NOT_BEFORE_ALNUM}(?![.,/-][0-9])", digit_within=0, digits=7
)


class PwzRecognizer(CheckedNumberRecognizer):
    """Without a context word nothing is flagged: one number of seven digits in eleven passes the check."""

    entity = "PL_PWZ"
    fewest_digits = 7
    digits_in_a_row = 7
    context_window = ContextWindow(before=50, after=12, across_digits=False)
    pattern = _NUMBER
    is_valid = staticmethod(is_pwz)
    score_in_context = 0.95
