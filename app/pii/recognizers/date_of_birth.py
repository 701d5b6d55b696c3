"""Recognizes a date of birth: a date with a word of birth before it, never any other date."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from app.pii.reading import Reading, anchored
from app.pii.recognizers.base import NOT_AFTER_ALNUM, Candidate, ContextWindow, TextRecognizer
from app.pii.words import words

_DAY: Final = r"(?:0?[1-9]|[12][0-9]|3[01])"
_MONTH: Final = r"(?:0?[1-9]|1[0-2])"
_YEAR: Final = r"(?:19|20)[0-9]{2}"
_SEPARATOR: Final = r"[ ]?[./-][ ]?"
_ENGLISH_MONTH: Final = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|"
    r"nov(?:ember)?|dec(?:ember)?)\.?"
)
_POLISH_MONTH: Final = (
    r"(?:stycznia|lutego|marca|kwietnia|maja|czerwca|lipca|sierpnia|wrze[sś]nia|pa[zź]dziernika|listopada|grudnia|"
    r"sty|lut|kwi|cze|lip|sie|wrz|pa[zź]|lis|gru|I{1,3}|IV|VI{0,3}|IX|XI{0,2}|X)\.?"
)
_GAP: Final = r"[\s.,-]{1,3}"
_DATE: Final = anchored(
    rf"{NOT_AFTER_ALNUM}(?<![0-9][.,:/-])(?:"
    rf"{_YEAR}({_SEPARATOR}){_MONTH}\1{_DAY}|"
    rf"{_DAY}{_SEPARATOR}{_MONTH}{_SEPARATOR}(?:{_YEAR}|[0-9]{{2}})|"
    rf"{_MONTH}{_SEPARATOR}{_DAY}{_SEPARATOR}{_YEAR}|"
    rf"{_DAY}(?:st|nd|rd|th)?(?: of)?{_GAP}(?:{_ENGLISH_MONTH}|{_POLISH_MONTH}){_GAP}{_YEAR}|"
    rf"{_ENGLISH_MONTH}{_GAP}{_DAY}(?:st|nd|rd|th)?{_GAP}{_YEAR}"
    rf")(?![0-9])(?:[ ]?r\.|[ ]roku)?",
    re.IGNORECASE,
    digit_within=0,
    keys=words("ja fe ma ap ju au se oc no de"),
)


class DateOfBirthRecognizer(TextRecognizer):
    """Years before 1900 are not read: those dates are of persons in books. No other number may stand between the word
    and the date, so the next date of a form is not taken for one."""

    entity = "DATE_OF_BIRTH"
    fewest_digits = 4
    digits_in_a_row = 2
    context_window = ContextWindow(before=45, after=0, across_digits=False)

    def candidates(self, reading: Reading) -> Iterable[Candidate]:
        for match in _DATE.finditer(reading):
            yield Candidate(*match.span(), score=0.1, score_in_context=0.85)
