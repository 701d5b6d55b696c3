"""Recognizes PESEL, the Polish personal number: 11 digits with a birth date and a check digit."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from app.pii.checksums import is_pesel
from app.pii.reading import Reading, anchored
from app.pii.recognizers.base import (
    NOT_AFTER_ALNUM,
    NOT_BEFORE_ALNUM,
    Candidate,
    ContextWindow,
    TextRecognizer,
    digits_of,
)

_PLAIN: Final = anchored(
    rf"{NOT_AFTER_ALNUM}(?<![0-9]\.)[0-9]{{11}}{NOT_BEFORE_ALNUM}(?!\.[0-9])", digit_within=0, digits=11
)
_GROUPED: Final = anchored(
    rf"{NOT_AFTER_ALNUM}[0-9]{{6}}[ \u00a0-][0-9]{{5}}{NOT_BEFORE_ALNUM}", digit_within=0, digits=6
)
_SPLIT: Final = anchored(
    rf"{NOT_AFTER_ALNUM}(?<![0-9][ -])(?:[0-9]{{2}}([ -])[0-9]{{2}}\1[0-9]{{2}}\1|[0-9]{{3}}[ -][0-9]{{3}}[ -])"
    rf"[0-9]{{5}}{NOT_BEFORE_ALNUM}(?![ -][0-9])",
    digit_within=0,
    digits=2,
)
_ATTACHED: Final = anchored(rf"(?<=pesel)[0-9]{{11}}{NOT_BEFORE_ALNUM}", re.IGNORECASE, needs=("pesel",))


class PeselRecognizer(TextRecognizer):
    entity = "PL_PESEL"
    fewest_digits = 11
    digits_in_a_row = 5
    context_window = ContextWindow()

    def candidates(self, reading: Reading) -> Iterable[Candidate]:
        for match in _PLAIN.finditer(reading):
            if is_pesel(match[0]):
                yield Candidate(*match.span(), score=0.85, score_in_context=1.0)
        for match in _GROUPED.finditer(reading):
            if is_pesel(digits_of(match[0])):
                yield Candidate(*match.span(), score=0.4, score_in_context=0.95)
        for match in _SPLIT.finditer(reading):
            if is_pesel(digits_of(match[0])):
                yield Candidate(*match.span(), score=0.1, score_in_context=0.95)
        for match in _ATTACHED.finditer(reading):
            if is_pesel(match[0]):
                yield Candidate(*match.span(), score=1.0)
