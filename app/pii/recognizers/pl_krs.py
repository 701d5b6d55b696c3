"""Recognizes numbers of the Polish court register (KRS): ten digits, the first three of them zero so far."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from app.pii.reading import Reading, anchored
from app.pii.recognizers.base import NOT_AFTER_ALNUM, NOT_BEFORE_ALNUM, Candidate, ContextWindow, TextRecognizer

_NUMBER: Final = anchored(
    rf"{NOT_AFTER_ALNUM}(?<![0-9][.-])000[0-9]{{7}}{NOT_BEFORE_ALNUM}(?![.-][0-9])", digit_within=0, digits=10
)


class KrsRecognizer(TextRecognizer):
    """There is no check digit (Regulation of the Polish Minister of Justice on the KRS of 17 November 2014), so
    nothing is flagged without the register's name."""

    entity = "PL_KRS"
    fewest_digits = 10
    digits_in_a_row = 10
    context_window = ContextWindow(before=50, after=12, across_digits=False)

    def candidates(self, reading: Reading) -> Iterable[Candidate]:
        for match in _NUMBER.finditer(reading):
            yield Candidate(*match.span(), score=0.1, score_in_context=0.95)
