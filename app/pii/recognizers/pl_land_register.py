"""Recognizes the Polish land and mortgage register number: court, eight digits, check digit."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from app.pii.checksums import is_land_register
from app.pii.reading import Reading, anchored
from app.pii.recognizers.base import NOT_AFTER_ALNUM, NOT_BEFORE_ALNUM, Candidate, TextRecognizer

_NUMBER: Final = anchored(
    rf"{NOT_AFTER_ALNUM}([A-Z]{{2}}[0-9][A-Z0-9])[ ]?/[ ]?([0-9]{{8}})[ ]?/[ ]?([0-9]){NOT_BEFORE_ALNUM}(?!/)",
    re.IGNORECASE,
    digit_within=2,
)


class LandRegisterRecognizer(TextRecognizer):
    """The number opens the register on the ministry's site, owner's name and PESEL included."""

    entity = "PL_LAND_REGISTER"
    fewest_digits = 10
    digits_in_a_row = 8

    def candidates(self, reading: Reading) -> Iterable[Candidate]:
        for match in _NUMBER.finditer(reading):
            if is_land_register("".join(match.groups()).upper()):
                yield Candidate(*match.span(), score=0.95)
