"""Recognizes numbers of a patient's records, which each hospital forms its own way: behind their name alone."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from app.pii.reading import Reading, anchored
from app.pii.recognizers.base import NOT_AFTER_ALNUM, NOT_BEFORE_ALNUM, Candidate, TextRecognizer
from app.pii.tables import cells_under
from app.pii.words import words

_VALUE: Final = r"[A-Z]{0,4}[-/]?[0-9][0-9A-Z]{0,11}(?:[-/][0-9A-Z]{1,8}){0,3}"
_OF: Final = r"(?:number|num|no\.?|nr\.?|id|#)"
_IS: Final = r"[^0-9A-Za-z\n]{0,4}(?:(?:is|was|to|of)[^0-9A-Za-z\n]{1,3})?"
_NAMED: Final = anchored(
    rf"{NOT_AFTER_ALNUM}(?:mrn(?:[ _-]?{_OF})?|"
    rf"(?:medical[ _-]?record|patient|hospital|chart|health[ _-]?record)s?[ _-]?{_OF}|"
    r"(?:nr|numer)[ ](?:historii choroby|kartoteki|karty pacjenta|dokumentacji medycznej|księgi głównej|pacjenta))"
    rf"(?![^\W_]){_IS}(?P<value>(?-i:{_VALUE})){NOT_BEFORE_ALNUM}(?![.:][0-9])",
    re.IGNORECASE,
    keys=words("mr me pa ho ch he nr nu"),
)
_COLUMN: Final = re.compile(
    rf"mrn|(?:medical record|patient|hospital|chart) ?{_OF}|(?:nr|numer) (?:kartoteki|pacjenta)"
)
_CELL: Final = re.compile(_VALUE)
_MONTH: Final = re.compile(r"(?:19|20)[0-9]{2}[-/][01][0-9](?:[-/][0-3][0-9])?")
_FEWEST_DIGITS: Final = 5
_DIGIT: Final = re.compile("[0-9]")


class MedicalRecordRecognizer(TextRecognizer):
    entity = "MEDICAL_RECORD"
    fewest_digits = _FEWEST_DIGITS

    def candidates(self, reading: Reading) -> Iterable[Candidate]:
        text = reading.text
        for match in _NAMED.finditer(reading):
            if _is_number(match["value"]):
                yield Candidate(*match.span("value"), score=0.9)
        for cell in cells_under(reading, _COLUMN):
            value = _CELL.fullmatch(text, cell.start, cell.end)
            if value is not None and _is_number(value[0]):
                yield Candidate(cell.start, cell.end, score=0.9)


def _is_number(value: str) -> bool:
    return len(_DIGIT.findall(value)) >= _FEWEST_DIGITS and not _MONTH.fullmatch(value)
