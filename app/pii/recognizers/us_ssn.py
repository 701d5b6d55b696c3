"""Recognizes US social security numbers: nine digits in groups of 3, 2 and 4 that can have been issued."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from app.pii.reading import Reading, anchored
from app.pii.recognizers.base import (
    NOT_AFTER_ALNUM,
    NOT_BEFORE_ALNUM,
    Candidate,
    ContextWindow,
    TextRecognizer,
    digits_of,
)
from app.pii.tables import header_at, plain

_SSN: Final = anchored(
    rf"{NOT_AFTER_ALNUM}(?<![0-9][.-])[0-8][0-9]{{2}}([ .-]?)[0-9]{{2}}\1[0-9]{{4}}{NOT_BEFORE_ALNUM}(?![.-][0-9])",
    digit_within=0,
    digits=3,
)
_NEVER_ISSUED: Final = frozenset({"123456789", "078051120", "219099999"})
"""Sample numbers printed in advertisements and forms."""

_OTHER_NUMBER_BEFORE: Final = re.compile(
    r"(?<![^\W_])(?:sku|part|item|model|order|ref|reference|ticket|case|serial|lot|batch|article|invoice|catalog(?:ue)?)"
    r"(?:[ ](?:no|number|id|code))?[^0-9A-Za-z\n]{1,4}\Z",
    re.IGNORECASE,
)
_OTHER_COLUMN: Final = re.compile(
    r"sku|(?:part|item|model|order|article|product|catalog(?:ue)?)(?: ?(?:no\.?|number|id|code))?"
)
_LOOK_BACK: Final = 24


class SsnRecognizer(TextRecognizer):
    """Never issued: area 000, 666 or 9xx, group 00, serial 0000 (Social Security Administration, "
    "randomization rules)."""

    entity = "US_SSN"
    fewest_digits = 9
    digits_in_a_row = 4
    context_window = ContextWindow(before=50, after=20)

    def candidates(self, reading: Reading) -> Iterable[Candidate]:
        text = reading.text
        for match in _SSN.finditer(reading):
            digits = digits_of(match[0])
            if digits[:3] in {"000", "666"} or digits[3:5] == "00" or digits[5:] == "0000" or digits in _NEVER_ISSUED:
                continue
            other = _OTHER_NUMBER_BEFORE.search(text[max(0, match.start() - _LOOK_BACK) : match.start()])
            in_other_column = _OTHER_COLUMN.fullmatch(plain(header_at(reading, match.start())))
            alone = match[1] == "-" and not other and not in_other_column
            yield Candidate(*match.span(), score=0.6 if alone else 0.1, score_in_context=0.95)
