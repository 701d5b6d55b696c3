"""Recognizes REGON, the Polish business register number: 9 or 14 digits with check digits, next to its name."""

from __future__ import annotations

from typing import Final

from app.pii.checksums import is_regon
from app.pii.reading import anchored
from app.pii.recognizers.base import NOT_AFTER_ALNUM, NOT_BEFORE_ALNUM, CheckedNumberRecognizer, ContextWindow

_SEPARATED: Final = anchored(
    rf"{NOT_AFTER_ALNUM}(?<![0-9][.+-])(?<!\+)"
    rf"(?:[0-9]{{3}}[ \u00a0-]?[0-9]{{3}}[ \u00a0-]?[0-9]{{3}}(?:[ \u00a0-]?[0-9]{{5}})?)"
    rf"{NOT_BEFORE_ALNUM}(?![.-][0-9])",
    digit_within=0,
    digits=3,
)


class RegonRecognizer(CheckedNumberRecognizer):
    """Without a context word nothing is flagged: one number of nine digits in ten passes the check."""

    entity = "PL_REGON"
    fewest_digits = 9
    digits_in_a_row = 3
    context_window = ContextWindow(before=60, after=12, across_digits=False)
    pattern = _SEPARATED
    is_valid = staticmethod(is_regon)
    score_in_context = 1.0
