"""Recognizes a person's age: a number of years that the words around it give to somebody."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from app.pii.presidio import RecognizerResult
from app.pii.reading import Reading, anchored
from app.pii.recognizers.base import NOT_AFTER_ALNUM, NOT_BEFORE_ALNUM, Candidate, TextRecognizer
from app.pii.recognizers.known_names import UPPER
from app.pii.recognizers.people import KIN, PERSON, SOMEBODY, is_named
from app.pii.tagger import Tagging

SCORE: Final = 0.6
_NEAR: Final = 48
"""Code points that are read before the number, and after it."""
_BOUND_BEFORE: Final = 24
"""Those among which a word may make a bound of it."""
_MAYBE_NAMED: Final = 0.15
"""Probability that what stands behind "N-year-old" is a name, from which it is somebody's age: the wording says the
rest."""
_NAMED: Final = 32
"""Code points behind "N-year-old" among which a name says whose age it is."""
_GROWN: Final = 10
"""From which a number that only "I'm" and the end of a clause speak for is an age."""
_YEARS: Final = r"(?:1[01][0-9]|[1-9]?[0-9])(?![0-9]|[.,:/][0-9]|[ ]?[%°$€£+])"
_NUMBER: Final = anchored(
    rf"{NOT_AFTER_ALNUM}(?<![0-9][.,:/–-])(?<![$€£#+]){_YEARS}",
    digit_within=0,
)
_SAID: Final = (
    "old", "of age", "y/o", "yo", "y.o.", "lat", " l.", "turn", "m ", "i was", "'s ", "’s ", "is ", "was ", "are ",
)  # fmt: skip
"""One of these stands in every text in which an age is said."""
_LABELLED: Final = anchored(
    rf"{NOT_AFTER_ALNUM}(?:age[\"']?[ ]?(?:[:=|,]|is|was)?|aged|at the age of|wiek[\"']?[ ]?[:=|]?|w wieku|"
    rf"(?:(?<=[,(])|(?<=[,(][ ])|(?<=pacjent[ ])|(?<=pacjentka[ ]))(?:lat|l\.))[ ]?[\"']?"
    rf"{NOT_AFTER_ALNUM}(?P<age>{_YEARS})",
    re.IGNORECASE,
    keys=frozenset(("ag", "at", "wi", "w ", "la", "l.")),
)
"""A field of a form, or a word that is said of persons alone."""

_OF_A_PERSON: Final = re.compile(
    rf"[ -]?(?:years?|yrs?)[ -]old,?[ ](?:[^\W\d_]+[ ]){{0,2}}?{PERSON}{NOT_BEFORE_ALNUM}|"
    rf"[ -]?letni[^\W\d_]{{0,4}}[ ](?:[^\W\d_]+[ ])?{PERSON}{NOT_BEFORE_ALNUM}|"
    rf"[ -]?lat(?:ek|k[aiuąęo][^\W\d_]?|kowi){NOT_BEFORE_ALNUM}|"
    rf"[ ]?(?:y/o|y\.o\.)(?-i:(?:[ ][{UPPER}][^\W\d_]+){{2}})",
    re.IGNORECASE,
)
"""Behind the number: years, and a person who has them; y/o is said of the living, so that two capitals are a name."""
_NEARLY: Final = r"(?:[ ](?:only|just|now|already|almost|nearly|about|still|turning|exactly)){0,2}[ ]"
_NEARLY_POLISH: Final = r"(?:[ ](?:ju[zż]|dopiero|teraz|prawie|niemal|ledwo))?[ ]"


class _Wording(NamedTuple):
    """What stands around somebody's age."""

    before: re.Pattern[str]
    """Ends where the number begins."""
    after: re.Pattern[str]
    somebody: bool = False
    """Whether a person must be spoken of near it: things have an age too."""
    from_age: int = 0


def _wording(before: str, after: str, *, somebody: bool = False, from_age: int = 0) -> _Wording:
    return _Wording(re.compile(f"(?:{before})$", re.IGNORECASE), re.compile(after, re.IGNORECASE), somebody, from_age)


_OLD: Final = (
    rf"[ -]?(?:years?|yrs?)[ -]olds?{NOT_BEFORE_ALNUM}|[ ](?:years|yrs) of age|"
    rf"[ ]?(?:y/o|yo|y\.o\.){NOT_BEFORE_ALNUM}"
)
_OLD_AND_NAMED: Final = re.compile(_OLD, re.IGNORECASE)
_CLAUSE_ENDS: Final = (
    r"[ ]*(?:$|[.,;!?)\n]|(?:and|but|so|with|who|on|in|this|last|next|yesterday|today|tomorrow|soon|years?|yrs?|male|"
    rf"female|now|already|when|then|too){NOT_BEFORE_ALNUM})"
)
"""No unit follows and nothing that is counted."""
_LAT: Final = (
    rf"[ ]lata?{NOT_BEFORE_ALNUM}(?![ ](?:do[sś]wiadcz|sta[zż]|gwaranc|pra[ck]|nauk|sk[lł]ad|kredyt|umow|na[ ]|temu|"
    r"do[ ]|przerw|wi[eę]zie|rocz|lokat|ochron|od[ ]|w[ ]))"
)
_WORDINGS: Final = (
    _wording(
        rf"(?:[’'](?:s|m|re)|[ ](?:is|am|are|was|were|turn(?:ed|s|ing)?)){_NEARLY}",
        _OLD,
        somebody=True,
    ),
    _wording(rf"[ ]turn(?:ed|s|ing)?{_NEARLY}", _CLAUSE_ENDS, somebody=True),
    _wording(
        rf"{NOT_AFTER_ALNUM}(?:i[’']?m|i (?:am|was)){_NEARLY}",
        _CLAUSE_ENDS,
        from_age=_GROWN,
    ),
    _wording(
        rf"{NOT_AFTER_ALNUM}(?:s?he(?:[’']s| is| was)|"
        rf"(?:my|our|his|her|the|their|your)[ ](?:[^\W\d_]+[ ])?{KIN}(?:[’']s| is| was| are)){_NEARLY}",
        _CLAUSE_ENDS,
    ),
    _wording(rf"{NOT_AFTER_ALNUM}(?:mam|masz|sko[nń]czy[lł][ae]?m){_NEARLY_POLISH}", _LAT),
    _wording(
        rf"{NOT_AFTER_ALNUM}(?:ma|maj[aą]|mia[lł]a?|u?ko[nń]cz(?:y|y[lł]a?|[aą])|obchodzi){_NEARLY_POLISH}",
        _LAT,
        somebody=True,
    ),
    _wording(r"[,(][ ]?", r"[ ](?:l\.|lata?|latka)(?=$|[,.;:)\n])", somebody=True),
    _wording(r"[ ]l\.[ ]?", r"(?=$|[,.;:)\n])", somebody=True),
)
_LAST_WORD: Final = re.compile(
    r"(?:[’'](?:s|m|re)|im|is|am|are|was|were|turn(?:ed|s|ing)?|only|just|now|already|almost|nearly|about|still|exactly|"
    r"mam|masz|sko[nń]czy[lł][ae]?m|ma|maj[aą]|mia[lł]a?|u?ko[nń]cz(?:y|y[lł]a?|[aą])|obchodzi|ju[zż]|dopiero|teraz|prawie|"
    r"niemal|ledwo)[ ]$|[,(][ ]?$|[ ]l\.[ ]?$",
    re.IGNORECASE,
)
"""One of these ends whatever may stand before the number; asked first, as it costs less."""
_LONGEST_LAST_WORD: Final = 12
_BOUNDED_BEFORE: Final = re.compile(
    rf"{NOT_AFTER_ALNUM}(?:(?:under|over|above|below|min\w*|max\w*|average|mean|median|legal|least|most|between|if you|"
    r"(?:drinking|voting|retirement|reading|school|target|account)[ _]age|powy[zż]ej|poni[zż]ej|[sś]redni\w*|najmniej|"
    rf"emerytaln\w*){NOT_BEFORE_ALNUM}|(?:from|than|not|od|do|przed) $)",
    re.IGNORECASE,
)
"""Where it is a bound and nobody's age, as what is meant is anybody that old; or the age of an account."""
_BOUNDED_AFTER: Final = re.compile(
    r"[ ]?[-–][ ]?[0-9]|[ ](?:to|do)[ ][0-9]|[ ]plus|[ ]lat[ ](?:i|lub)[ ](?:wi[eę]cej|mniej|starsz|m[lł]odsz)|"
    r"(?:[ -]years?(?:[ -]olds?| of age)?)?,?[ ](?:and|or)[ ](?:over|above|older|up|more|under|younger|below)|"
    r"[ ](?:months?|weeks?|days?|hours?|min(?:ute)?s?|mies|tyg|dni|godz)",
    re.IGNORECASE,
)


class AgeRecognizer(TextRecognizer):
    """The number alone is the value, so that "<AGE_1>-year-old" still reads. Bounds ("over 18", "ages 3-5") and the age
    of things ("a 10-year-old server") are nobody's."""

    entity = "AGE"
    fewest_digits = 1

    def results_in(self, reading: Reading, tagging: Tagging) -> list[RecognizerResult]:
        return self._results(self.candidates(reading, tagging), reading)

    def candidates(self, reading: Reading, tagging: Tagging | None = None) -> Iterable[Candidate]:
        """Yield the numbers that are somebody's age; a name speaks of somebody where the tagger saw it."""
        text = reading.text
        found = {match.span("age") for match in _LABELLED.finditer(reading)}
        if any(part in reading.folded for part in _SAID):
            found |= {match.span() for match in _NUMBER.finditer(reading) if _is_said_of_somebody(match, text, tagging)}
        for start, end in sorted(found):
            if not _is_bound(text, start, end):
                yield Candidate(start, end, SCORE)


def _is_said_of_somebody(match: re.Match[str], text: str, tagging: Tagging | None) -> bool:
    start, end = match.span()
    after = text[end : end + _NEAR]
    if _OF_A_PERSON.match(after):
        return True
    if _OLD_AND_NAMED.match(after) and is_named(start, end + _NAMED, tagging, _MAYBE_NAMED):
        return True
    if not _LAST_WORD.search(text[max(0, start - _LONGEST_LAST_WORD) : start]):
        return False
    before = text[max(0, start - _NEAR) : start]
    return any(
        int(match[0]) >= wording.from_age
        and wording.after.match(after)
        and wording.before.search(before)
        and (not wording.somebody or _is_about_somebody(before, start, tagging))
        for wording in _WORDINGS
    )


def _is_about_somebody(before: str, start: int, tagging: Tagging | None) -> bool:
    return SOMEBODY.search(before) is not None or is_named(start - len(before), start, tagging)


def _is_bound(text: str, start: int, end: int) -> bool:
    return bool(
        _BOUNDED_AFTER.match(text[end : end + _NEAR])
        or _BOUNDED_BEFORE.search(text[max(0, start - _BOUND_BEFORE) : start])
    )
