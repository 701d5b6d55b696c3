"""Takes what the tagger has marked as one kind of personal data."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from app.pii.given_names import NOT_NAMES
from app.pii.groups import ENGLISH as ENGLISH_GROUPS
from app.pii.groups import is_group
from app.pii.presidio import RecognizerResult
from app.pii.reading import Reading
from app.pii.recognizers.base import Candidate, TextRecognizer
from app.pii.recognizers.known_names import PLACE_AFTER, Preceding
from app.pii.recognizers.username import SHARED
from app.pii.tables import cell_at
from app.pii.tagger import Tagged, Tagging
from app.pii.words import words as words_of

LEAST_SCORE: Final = 0.5
"""Score of a value that is just probable enough."""
_WITH_DIGIT: Final = frozenset({"STREET_ADDRESS", "DATE_OF_BIRTH"})
_TOP_SCORE: Final = {"USERNAME": 0.6}
"""Of kinds whose values patterns know better: what looks like a user name may be a password."""
_PREPOSITIONS: Final = words_of("in at on to from of for and near w we na przy do od z ze i oraz obok")
_BEFORE_PLACES: Final = _PREPOSITIONS | words_of("zam zamieszkały zamieszkała adres adresem address")
_POINTING: Final = _PREPOSITIONS | words_of("this that these next last the every each ten ta to tym tę te tej tego")
"""Words that are no moment by themselves: where the tagger doubts "this week", one of the two may be left."""
_GLUED: Final = {"USERNAME": frozenset("@_"), "PASSWORD": frozenset("!?#$%^&*+-_~@")}
"""Signs that belong to a login where they stand right before or behind it."""
_COURTESIES: Final = words_of("please pls plz thanks thx ok okay proszę prosze dzięki dzieki and i")
"""Words that are no part of a login at its end."""
_LABELS: Final = words_of("password passwd passwort passphrase passcode pass pwd hasło haslo")
"""Words that name a password, and are none."""
_MOMENTS: Final = frozenset({"DATE_TIME", "DATE_OF_BIRTH"})
_NEVER_POSTCODES: Final = _MOMENTS | {"STREET_ADDRESS"}
_CLOCK: Final = r"[0-2]?[0-9][:.][0-5][0-9](?::[0-5][0-9])?"
_MOMENT: Final = re.compile(
    rf"(?<![\w.,:/-])(?:[12][0-9]{{3}}-[01]?[0-9]-[0-3]?[0-9](?:[T ]{_CLOCK})?|"
    r"[12][0-9]{3}([./])[01]?[0-9]\1[0-3]?[0-9]|"
    rf"[0-3]?[0-9]([./-])[0-3]?[0-9]\2(?:[12][0-9])?[0-9]{{2}}(?:,?[ ]{_CLOCK})?|{_CLOCK}(?:[ ]?[-–][ ]?{_CLOCK})?)"
    r"(?!\w|[.,:/-][0-9])"
)
"""Dates and times in digits: where one part of such a number is somebody's, all of it is."""
_LONGEST_MOMENT: Final = 20
_LONG_AGO: Final = re.compile(r"(?<![0-9])1[0-8][0-9]{2}(?![0-9])")
"""Dates before 1900 are those of persons in books."""
_YEAR_AFTER: Final = 6
_SURELY_PERSONAL: Final = 0.75
"""Probability from which a date among words of business counts all the same."""
_BUSINESS: Final = re.compile(
    r"(?<![^\W_])(?:demo|release[ds]?|sprint|deploy\w*|build|go-live|milestone|deadline|retro|freeze|maintenance|outage|"
    r"version|invoice[ds]?|payroll|pay date|fiscal|quarter\w*|warehouse|office|shop|store|sale|offer|promo\w*|tender|"
    r"board|policy|terms|opens?|opening|closes?|closed|customers?|orders?|shipped|wersj\w+|wdroż\w+|faktur\w+|"
    r"sklep\w*|magazyn\w*|promocj\w+|ofert\w*|przetarg\w*|regulamin\w*|czynn\w+|nieczynn\w+|kwarta\w+|"
    r"termin składania|serwisow\w+|zarząd\w*|rozporządzeni\w+|ustaw\w*)(?![^\W_])",
    re.IGNORECASE,
)
_BUSINESS_BEFORE: Final = 45
_BUSINESS_AFTER: Final = 15
_STATEMENT: Final = re.compile(
    r"(?m)^[ \t]*(?:>>> |(?:async )?def \w+\(|class \w+[(:]|from [\w.]+ import |import [\w.]+[ \t]*(?:as \w+)?;?$|"
    r"return |"
    r"(?:el)?if .*[:{]$|for .* in .*:$|for \(|while .*[:{]$|try:$|except\b.*:$|with .*:$|raise \w|assert |self\.|"
    r"@[\w.]+(?:\(.*\))?$|#include |(?:const|let|var|static|public|private|export|function|func|fn|struct|void) |"
    r"[\w.]+(?:\[.*\])?(?:: [\w.\[\]| ]+)? = .|.*\b[\w.]+\(.*\)[;:]?$|.*;$)"
)
"""A line that only a program holds."""
_NEAR_CODE: Final = 150
_FEWEST_STATEMENTS: Final = 2
_OF_A_USER: Final = re.compile(
    r"user|login|logg|account|acct|nick|handle|author|owner|assignee|TODO|FIXME|konto|kont[ao]|u[zż]ytkown|@|--",
    re.IGNORECASE,
)
_NEAR_USER: Final = 40
_INSIDE_NUMBER: Final = re.compile(r"[A-Za-z0-9][/_]\Z")
_DAY_OF_A_MONTH: Final = re.compile(r"(?:Feb|Mar|Apr|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[ ]{1,2}[0-9]{1,2}(?![0-9])")
"""As tools date what they log. Not January: it is a name, of somebody's age."""
_WORD: Final = re.compile(r"[^\W_]+")
_BETWEEN_CELLS: Final = re.compile(r"[,;|\t]")
_DIGIT: Final = re.compile(r"[0-9]")
_POSTCODE: Final = re.compile(r"(?<![\w-])(?:[0-9]{2}-[0-9]{3}|[A-Z]{2}[ ][0-9]{5}(?:-[0-9]{4})?)(?![\w-])")
"""Polish and American ones, of these with the state."""
_POSTCODE_LENGTH: Final = 13
_FLAT_AFTER: Final = re.compile(r"(?<=[0-9])[A-Za-z]?/[0-9]{1,4}[A-Za-z]?(?![\w/]|[.,][0-9])")
_REGION: Final = re.compile(r"[^\W\d_]+o-[^\W\d_]+(?:i|ie|iego|iemu|im|a|iej|ą)")
"""Joined adjectives and towns (Kujawsko-Pomorskie, Bielsko-Biała): joined surnames have no -o before the hyphen."""


class TaggedRecognizer(TextRecognizer):
    """Reports one entity; a probability from `at_least` to 1 becomes a score of LEAST_SCORE and more."""

    def __init__(self, language: str, entity: str, at_least: float) -> None:
        self.entity = entity  # type: ignore[misc]  # The others have one entity each, this one any.
        self._at_least = at_least
        super().__init__(language)

    def candidates(self, reading: Reading) -> Iterable[Candidate]:
        return []

    def results_in(self, reading: Reading, tagging: Tagging) -> list[RecognizerResult]:
        text = reading.text
        chosen = [each for each in tagging.values if each.entity == self.entity and self._is_probable(text, each)]
        if not chosen:
            return []
        found = ((trimmed(reading, each), each.score) for each in chosen)
        return self._results(
            (Candidate(*span, self._scaled(score)) for span, score in found if span is not None), reading
        )

    def _is_probable(self, text: str, tagged: Tagged) -> bool:
        if self.entity == "USERNAME" and _is_identifier(text, tagged):
            return False
        if self.entity != "DATE_TIME" or not self._at_least <= tagged.score < _SURELY_PERSONAL:
            return tagged.score >= self._at_least
        near = slice(max(0, tagged.start - _BUSINESS_BEFORE), tagged.end + _BUSINESS_AFTER)
        return _BUSINESS.search(text[near]) is None

    def _scaled(self, probability: float) -> float:
        top = _TOP_SCORE.get(self.entity, 1.0)
        return LEAST_SCORE + (top - LEAST_SCORE) * (probability - self._at_least) / max(1e-6, 1 - self._at_least)


def trimmed(reading: Reading, tagged: Tagged) -> tuple[int, int] | None:
    """Return where a value stands without what does not belong to it, or None for what cannot be one.

    A person's name holds no title or kin word at its ends and is not that of a street, a school, a region or a
    people, and a place not that of a people or its language; addresses and dates of birth hold a digit. A login takes
    in the signs that are glued to its words: half a password would be left standing else. A user's name holds a letter
    and is not that of a host behind another one (`anna@nas`), nor what belongs to nobody (`root`). Nothing goes on
    beyond its cell of a table.
    """
    text = reading.text
    if _BETWEEN_CELLS.search(text, tagged.start, tagged.end) and (cell := cell_at(reading, tagged.start)) is not None:
        tagged = tagged._replace(end=min(tagged.end, cell.end))
    if tagged.entity in _GLUED:
        return _with_signs(text, tagged, _GLUED[tagged.entity])
    words = [found.span() for found in _WORD.finditer(text, tagged.start, tagged.end)]
    outside = NOT_NAMES if tagged.entity == "PERSON" else _BEFORE_PLACES
    while words and text[slice(*words[-1])].lower() in outside:
        words.pop()
    while words and text[slice(*words[0])].lower() in outside:
        words.pop(0)
    if not words:
        return None
    if tagged.entity in _MOMENTS and all(text[slice(*word)].lower() in _POINTING for word in words):
        return None
    start, end = words[0][0], words[-1][1]
    value = text[start:end]
    folded = [reading.folded[slice(*word)] for word in words]
    if tagged.entity == "LOCATION" and ENGLISH_GROUPS.issuperset(folded):
        return None
    if tagged.entity == "PERSON":
        if is_group(folded) or (len(words) == 1 and _DAY_OF_A_MONTH.match(text, start)):
            return None
        region = _REGION.fullmatch(value) is not None
        if region or Preceding.at(reading, start).is_place() or PLACE_AFTER.match(text, end):
            return None
    if tagged.entity in _WITH_DIGIT and not _DIGIT.search(value):
        return None
    if tagged.entity in _NEVER_POSTCODES and _is_of_postcode(text, start, end):
        return None
    if tagged.entity == "STREET_ADDRESS" and (flat := _FLAT_AFTER.match(text, end)) is not None:
        return start, flat.end()
    return _whole_moment(text, start, end) if tagged.entity in _MOMENTS else (start, end)


def _is_of_postcode(text: str, start: int, end: int) -> bool:
    """Whether a stretch is a postcode or a part of one, which have recognizers of their own."""
    near = _POSTCODE.finditer(text, max(0, start - _POSTCODE_LENGTH), end + _POSTCODE_LENGTH)
    return any(match.start() <= start and end <= match.end() for match in near)


def _whole_moment(text: str, start: int, end: int) -> tuple[int, int] | None:
    """Return where a date stands with all its digits; None for one long ago or a part of a number (FA/2019/0417)."""
    if _LONG_AGO.search(text, start, end + _YEAR_AFTER):
        return None
    whole_start, whole_end = start, end
    for match in _MOMENT.finditer(text, max(0, start - _LONGEST_MOMENT), end + _LONGEST_MOMENT):
        if match.start() < end and start < match.end():
            whole_start, whole_end = min(whole_start, match.start()), max(whole_end, match.end())
    if (whole_start, whole_end) == (start, end) and _INSIDE_NUMBER.search(text[max(0, start - 2) : start]):
        return None
    return whole_start, whole_end


def _is_identifier(text: str, tagged: Tagged) -> bool:
    """Whether a login stands among code and nothing says that it is one: names of functions and fields look alike."""
    near = text[max(0, tagged.start - _NEAR_CODE) : tagged.end + _NEAR_CODE]
    if len(_STATEMENT.findall(near)) < _FEWEST_STATEMENTS:
        return False
    return _OF_A_USER.search(text, max(0, tagged.start - _NEAR_USER), tagged.end) is None


def _with_signs(text: str, tagged: Tagged, signs: frozenset[str]) -> tuple[int, int] | None:
    start, end = tagged.start, tagged.end
    while (last := text.rfind(" ", start, end)) != -1 and text[last + 1 : end].lower() in _COURTESIES:
        end = last
    while start > 0 and text[start - 1] in signs:
        start -= 1
    while end < len(text) and text[end] in signs:
        end += 1
    if tagged.entity == "USERNAME":
        if end > tagged.end and text[end - 1] == "@" and text[end : end + 1].isalnum():
            end -= 1  # What follows is the name of a host.
        is_host = text[start] == "@" and text[max(0, start - 1) : start].isalnum()
        if is_host or not any(map(str.isalpha, text[start:end])):
            return None
    of_nobody = SHARED if tagged.entity == "USERNAME" else _LABELS
    return None if text[start:end].lower() in of_nobody else (start, end)
