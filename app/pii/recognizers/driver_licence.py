"""Recognizes driving licences: the British number by its inner structure, Polish and American ones by context."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from app.pii.reading import Reading, anchored
from app.pii.recognizers.base import NOT_AFTER_ALNUM, NOT_BEFORE_ALNUM, Candidate, ContextWindow, TextRecognizer

_BRITISH: Final = anchored(
    rf"{NOT_AFTER_ALNUM}[A-Z][A-Z9]{{4}}([ ]?)[0-9](?:[05][1-9]|[16][0-2])(?:0[1-9]|[12][0-9]|3[01])[0-9]\1"
    rf"[A-Z9]{{2}}[0-9][A-Z]{{2}}{NOT_BEFORE_ALNUM}",
    digit_within=6,
)
_POLISH: Final = anchored(
    rf"{NOT_AFTER_ALNUM}(?<![0-9][/.-])[0-9]{{5}}/[0-9]{{2}}/[0-9]{{4}}{NOT_BEFORE_ALNUM}(?!/)",
    digit_within=0,
    digits=5,
)
_AMERICAN: Final = anchored(
    rf"{NOT_AFTER_ALNUM}(?<![0-9][.,:/-])(?:[A-Z]{{1,2}}[0-9]{{5,13}}|[0-9]{{7,12}}|[A-Z][0-9]{{3}}(?:-[0-9]{{3,6}}){{1,4}}|"
    rf"[A-Z]{{3}}[0-9]{{6}})"
    rf"{NOT_BEFORE_ALNUM}(?![.:/-][0-9])",
    digit_within=3,
    digits=3,
)
_NAMED_BEFORE: Final = re.compile(
    r"(?:licen[cs]es?|(?<![^\W_])dl|(?<![^\W_])permis de conduire)(?:[ _]?(?:number|num|no|nr))?[^0-9A-Za-z\n]{1,6}\Z|"
    r"licen[cs]e (?:is|was|number is|no is)[ :]{1,3}\Z|prawo jazdy[^0-9A-Z\n]{1,16}\Z",
    re.IGNORECASE,
)
_OTHER_LICENCE: Final = re.compile(r"plate|key|software|product|agreement|produkt", re.IGNORECASE)
_LOOK_BACK: Final = 40
_LONGEST_ATTRIBUTE: Final = 12
"""Code points before the name that can say that it is another licence: "software licence"."""


class DriverLicenceRecognizer(TextRecognizer):
    """British numbers: DVLA, five characters of the surname, decade, month (plus 50 for women), day, year, initials,
    three check characters whose rule is secret. Polish ones: serial number, year, office, printed in field 5; there
    is no check digit. The states of the US each have their own form (AAMVA): letters and digits behind the name."""

    entity = "DRIVER_LICENSE"
    fewest_digits = 5
    digits_in_a_row = 3
    context_window = ContextWindow(before=45, after=25)

    def candidates(self, reading: Reading) -> Iterable[Candidate]:
        text = reading.text
        for match in _BRITISH.finditer(reading):
            yield Candidate(*match.span(), score=0.9)
        for match in _POLISH.finditer(reading):
            yield Candidate(*match.span(), score=0.3, score_in_context=0.95)
        for match in _AMERICAN.finditer(reading):
            before = text[max(0, match.start() - _LOOK_BACK) : match.start()]
            named = _NAMED_BEFORE.search(before)
            if named and not _OTHER_LICENCE.search(before, max(0, named.start() - _LONGEST_ATTRIBUTE)):
                yield Candidate(*match.span(), score=0.8)
