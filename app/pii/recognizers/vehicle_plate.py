"""Recognizes number plates of vehicles: British ones by their shape, others next to a word that says so."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from app.pii.reading import Reading, anchored
from app.pii.recognizers.base import NOT_AFTER_ALNUM, NOT_BEFORE_ALNUM, Candidate, ContextWindow, TextRecognizer
from app.pii.words import words

_BRITISH: Final = anchored(
    rf"{NOT_AFTER_ALNUM}[A-HJ-PR-Y]{{2}}(?:0[2-9]|[12][0-9]|5[1-9]|[67][0-9])( ?)([A-HJ-PR-Z]{{3}}){NOT_BEFORE_ALNUM}",
    digit_within=2,
    digits=2,
)
_POLISH: Final = anchored(
    rf"{NOT_AFTER_ALNUM}(?=[A-Z0-9 ]{{0,8}}[0-9])[A-Z]{{2,3}}[ -]?(?:[0-9][A-Z0-9]{{3,4}}|[A-Z][0-9A-Z]{{2,4}})"
    rf"{NOT_BEFORE_ALNUM}",
    digit_within=8,
)
_ANY: Final = anchored(
    rf"{NOT_AFTER_ALNUM}(?<![0-9][.,:/-])(?=[A-Z -]{{0,6}}[0-9])(?=[0-9 -]{{0,6}}[A-Z])"
    rf"(?:[A-Z0-9]{{2,4}}[ -][A-Z0-9]{{2,5}}(?:-[A-Z0-9]{{1,3}})?|[A-Z0-9]{{5,8}}){NOT_BEFORE_ALNUM}(?![.:/-][0-9])",
    digit_within=6,
)
_NOT_A_SERIAL: Final = words("AND THE FOR USD EUR PLN GBP PDF USB CPU RAM API SQL XML CSV KWH MHZ GHZ PCS")
_NAMED_BEFORE: Final = re.compile(
    r"(?<![^\W_])(?:(?:license |licence |number |reg |registration )?plates?|"
    r"reg(?:istration|istered|\.)?(?: (?:no|number|mark)\.?)?|nr rej\.?|numer\w* rej\w*|rejestracj\w+|"
    r"rejestracyj\w+|tablic\w*(?: rej\w*)?|blach\w+|auto|wóz|trailer|ute|vehicle|pojazd\w*)"
    r"[^\w\n]{1,4}(?:(?:no|is|was|nr|o numerze|bearing plate)[^\w\n]{1,3})?\Z",
    re.IGNORECASE,
)
_LOOK_BACK: Final = 40


class VehiclePlateRecognizer(TextRecognizer):
    """British plates since 2001: area, age identifier (02 to 29 or 51 to 79), three letters, never I or Q there (DVLA,
    INF104). Polish plates: two or three letters of the district and four or five characters (Regulation of the
    Minister of Infrastructure on registration of vehicles). Others have as many forms as countries."""

    entity = "VEHICLE_PLATE"
    fewest_digits = 1
    context_window = ContextWindow(before=40, after=20)

    def candidates(self, reading: Reading) -> Iterable[Candidate]:
        text = reading.text
        for match in _BRITISH.finditer(reading):
            if match[2] not in _NOT_A_SERIAL:
                yield Candidate(*match.span(), score=0.6 if match[1] else 0.3, score_in_context=0.9)
        for match in _POLISH.finditer(reading):
            yield Candidate(*match.span(), score=0.2, score_in_context=0.7)
        for match in _ANY.finditer(reading):
            if _NAMED_BEFORE.search(text[max(0, match.start() - _LOOK_BACK) : match.start()]):
                yield Candidate(*match.span(), score=0.75)
