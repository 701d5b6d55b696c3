"""Recognizes numbers of a patient's records, which each hospital forms its own way: behind their name alone."""

from __future__ import annotations

import re
from typing import Final

from app.pii.reading import anchored
from app.pii.recognizers.base import NOT_AFTER_ALNUM
from app.pii.recognizers.named_number import NUMBER, OF, NamedNumberRecognizer, behind
from app.pii.words import words

_NAMES: Final = (
    rf"mrn(?:[ _-]?{OF})?|(?:medical[ _-]?record|patient|hospital|chart|health[ _-]?record)s?[ _-]?{OF}|"
    r"(?:nr|numer)[ ](?:historii choroby|kartoteki|karty pacjenta|dokumentacji medycznej|księgi głównej|pacjenta)"
)
_NAMED: Final = anchored(NOT_AFTER_ALNUM + behind(_NAMES, NUMBER), re.IGNORECASE, keys=words("mr me pa ho ch he nr nu"))


class MedicalRecordRecognizer(NamedNumberRecognizer):
    entity = "MEDICAL_RECORD"
    fewest_digits = 5
    named = _NAMED
    column = re.compile(rf"mrn|(?:medical record|patient|hospital|chart) ?{OF}|(?:nr|numer) (?:kartoteki|pacjenta)")
    cell = re.compile(NUMBER)
