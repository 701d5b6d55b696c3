"""Names of persons in the columns of a table whose header says that they are there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from app.pii.reading import Reading
from app.pii.tables import cells_under, is_beside, plain
from app.pii.words import words

_PEOPLE: Final = (
    "patient|employee|student|pupil|teacher|tenant|applicant|candidate|passenger|guest|attendee|participant|doctor|nurse|"
    "pacjent(?:ka)?|pracownik|uczeń|uczen|uczennica|najemca|kandydat(?:ka)?|uczestni(?:k|czka)|lekarz"
)
"""Those who are never companies, as customers may be."""
_PART_OF_A_NAME: Final = re.compile(
    r"(?:(?:first|last|given|family|middle|maiden|sur|fore) ?)names?|surname|(?:drugie )?imi(?:ę|e|ona)|"
    r"nazwisko(?: rodowe| panieńskie)?|imi[ęe] i nazwisko|nazwisko i imi[ęe]"
)
_COLUMN: Final = re.compile(rf"{_PART_OF_A_NAME.pattern}|(?:full ?)?name|(?:{_PEOPLE})(?:'?s)?(?: ?names?)?")
_OF_PEOPLE: Final = re.compile(
    r"ssn|pesel|dob|d\.o\.b\.|date of birth|birth.*|data ur.*|age|wiek|gender|sex|płeć|nationality|salary"
)
"""Headers beside which a plain "name" is that of a person, and not of a product, a company or a host."""
_NAME: Final = re.compile(r"[^\W\d_][^\W\d_.'’-]*(?:[ ,.'’-]{1,2}[^\W\d_][^\W\d_.'’-]*){0,5}\.?")
_NOBODY: Final = words(
    "null none nil na n/a nan unknown brak test true false yes no tak nie anonymous total razem suma string text "
    "varchar required optional vacant empty free visitor tbc tba dj pusty puste wolny wolne"
)
_SMALL_IN_NAMES: Final = words("van von der den de la da di dos del al el bin ibn ter i and y")
_TITLES: Final = words("mr mrs ms miss mx dr prof sir dame pan pani państwo mgr inż lek med dent ks")
_WORD: Final = re.compile(r"[^\W\d_]+")
_LONGEST: Final = 60


def names_in_tables(reading: Reading) -> Iterator[tuple[int, int]]:
    """Yield where each name begins and ends (exclusive)."""
    text = reading.text
    known: dict[int, bool] = {}
    for cell in cells_under(reading, _COLUMN):
        value = text[cell.start : cell.end]
        header = plain(cell.header)
        if not 1 < len(value) <= _LONGEST or not _NAME.fullmatch(value) or value.lower() in _NOBODY:
            continue
        if header == "name" and not is_beside(cell, _OF_PEOPLE, known):
            continue
        written = [match for match in _WORD.finditer(value) if match[0] not in _SMALL_IN_NAMES]
        in_small = any(match[0][0].islower() for match in written)
        if in_small and not (value.islower() and _PART_OF_A_NAME.fullmatch(header)):
            continue
        first = next((match.start() for match in written if match[0].lower() not in _TITLES), None)
        if first is not None:
            yield cell.start + first, cell.end
