"""Recognizes vehicle identification numbers (VIN): by the check digit where they are North American, else next to a
word that says so."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from app.pii.checksums import is_vehicle_number
from app.pii.reading import Reading, in_stretches
from app.pii.recognizers.base import (
    NOT_AFTER_ALNUM,
    NOT_BEFORE_ALNUM,
    Candidate,
    ContextWindow,
    TextRecognizer,
    numbers_a_thing,
)

_NUMBER: Final = re.compile(
    rf"{NOT_AFTER_ALNUM}(?:[A-HJ-NPR-Z0-9]{{13}}|[a-hj-npr-z0-9]{{13}})[0-9]{{4}}{NOT_BEFORE_ALNUM}"
)
_NORTH_AMERICAN: Final = re.compile(r"[1-5].{7}[0-9X][A-HJ-NPR-TV-Y1-9].{2}[0-9]{5}")
"""As one is told without a word beside it: the check digit, the model year, five digits at the end (49 CFR 565.15)."""


class VehicleNumberRecognizer(TextRecognizer):
    """One string of such a form in eleven has the check digit by chance, so what is named as another number is none."""

    entity = "VEHICLE_IDENTIFICATION_NUMBER"
    fewest_digits = 4
    digits_in_a_row = 4
    context_window = ContextWindow(before=60, after=15)

    def candidates(self, reading: Reading) -> Iterable[Candidate]:
        for match in in_stretches(_NUMBER, reading):
            if is_vehicle_number(match[0].upper()):
                sure = _NORTH_AMERICAN.fullmatch(match[0]) and not numbers_a_thing(reading, match.start())
                yield Candidate(*match.span(), score=0.7 if sure else 0.1, score_in_context=0.95)
