"""Recognizes the Polish identity card: three letters and six digits, the first of them a check digit."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from app.pii.checksums import is_polish_id_card
from app.pii.reading import Reading, anchored
from app.pii.recognizers.base import NOT_AFTER_ALNUM, NOT_BEFORE_ALNUM, Candidate, ContextWindow, TextRecognizer

_CARD: Final = anchored(
    rf"{NOT_AFTER_ALNUM}([A-Z]{{3}})[ \u00a0-]?([0-9]{{6}}){NOT_BEFORE_ALNUM}(?![.-][0-9])",
    re.IGNORECASE,
    digit_within=4,
    digits=6,
)


class PolishIdCardRecognizer(TextRecognizer):
    """Without a context word nothing is flagged: article codes have the same shape, and one in ten passes the "
    "check."""

    entity = "PL_ID_CARD"
    fewest_digits = 6
    digits_in_a_row = 6
    context_window = ContextWindow(before=60, after=30)

    def candidates(self, reading: Reading) -> Iterable[Candidate]:
        for match in _CARD.finditer(reading):
            if is_polish_id_card(match[1] + match[2]):
                yield Candidate(*match.span(), score=0.4, score_in_context=0.95)
