"""Recognizes persons by known given names in every Polish case, by titles, and by labels such as "name:".

A run that only its names speak for is left out where the tagger read it and saw no person: Juliet, Rosa Parks. A given
name with a surname takes more doubt than one alone.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from app.pii.given_names import NOT_NAMES, GivenNames
from app.pii.presidio import RecognizerResult
from app.pii.reading import Reading, anchored
from app.pii.recognizers.base import Candidate, TextRecognizer
from app.pii.recognizers.name_columns import names_in_tables
from app.pii.tagger import Tagging
from app.pii.words import words

UPPER: Final = "".join(chr(code) for code in range(0x41, 0x250) if chr(code).isupper())
"""Capital letters of the Latin blocks up to Latin Extended-B."""
_WORD: Final = anchored(
    rf"(?<!\w)(?<![@/\\])[{UPPER}][^\W\d_]*(?:[-’'][{UPPER}][^\W\d_]+)*(?!\w|\.\w|[@/\\(])", capital=True
)
_GAP: Final = re.compile(r"[ \u00a0]{1,2}(?:(?:van|von|de|der|den|da|di|dos|del|la|al|bin|ibn|ter|née)[ ]){0,3}|\.[ ]?")
_LONGEST_RUN: Final = 6
_WITH_SURNAME: Final = 0.9
"""Score of a given name with a surname."""
_NOBODY: Final = 0.015
"""Probability of a person below which such a run is nobody's: a famous person, a figure, a brand. On the held-out tenth
persons have F2 .855 in English and .898 in Polish with it, and .857 and .899 with .06, which passed over the person in
"The order was placed by Peter Johnson and paid on the same day."."""
_DOUBLE_SURNAME: Final = re.compile(
    r"[^\W\d_]{2,}(?<!o)-[^\W\d_]{2,}"
    r"(?:[scz]k(?:i|iego|iemu|im|a|iej|ą)|wicz(?:a|owi|em|u)?|czyk(?:a|owi|iem|u)?|[^\W\d_]ek)"
)
"""Two Polish surnames that a woman bears after marriage; joined adjectives of regions have -o before the hyphen."""

_TITLES: Final = words(
    "mr mrs ms miss mx dr prof professor doctor sir dame fr pan pana panu panem panie pani panią pania państwa "
    "państwu panny panna p mgr inż inz lek mec hab med prof doktor doktora mecenas mecenasa ks ojciec ciocia "
    "wujek wujku pacjent pacjenta pacjentka pacjentki pacjentce kuzyn kuzyna kuzynka brat brata bratu siostra "
    "siostry żona żony mąż męża syn syna synem córka córki córką cioci kolega koleżanka trener dyr "
)
_RELATIONS: Final = words(
    "son daughter wife husband sister brother mum mom dad uncle aunt cousin friend boss manager colleague "
    "coworker neighbour neighbor landlord tenant girlfriend boyfriend partner ex flatmate roommate professor "
    "teacher niece nephew client patient grandson granddaughter "
)
_POSSESSIVES: Final = words("my our his her")
_INTRODUCTIONS: Final = frozenset(
    {
        "name is", "name's", "i am called", "i'm called", "is called", "are called", "named", "signed by",
        "regards", "sincerely", "cheers",
        "yours", "xx", "nazywam się", "nazywam sie", "na imię", "na imie", "imieniem", "nazwiskiem",
        "pozdrawiam", "pozdrowienia",
        "poważaniem", "powazaniem", "wyrazami szacunku", "podpisano", "numer telefonu", "numeru telefonu",
    }
)  # fmt: skip
_NAME_LABELS: Final = words(
    "name fullname full_name first_name last_name firstname lastname surname givenname forename nazwisko imię imie "
)
_LABELS: Final = _NAME_LABELS | words(
    "customer client patient employee tenant landlord buyer seller payee payer beneficiary recipient sender "
    "contact attn witness from to re reporter resident donor donee borrower lender given author signed guest "
    "passenger student teacher holder applicant pacjent pacjentka klient klientka najemca wynajmujący wynajmujacy "
    "nabywca sprzedawca kupujący kupujacy odbiorca nadawca zamawiający zamawiajacy wykonawca uczestnik "
    "uczestniczka właściciel wlasciciel właścicielka lekarz pracownik kierowca zgłaszający zglaszajacy "
    "zgłaszająca zwracający zwracajacy wnioskodawca kontakt podpis od dotyczy dłużnik dluznik rodzic opiekun "
    "wydający wydająca odbierający odbierająca wystawca matka ojciec autor osoba "
)
_PLACES: Final = words(
    "ul ulica ulicy ulicę al aleja alei aleje pl plac placu os osiedle rondo ronda most im imienia św świętego "
    "świętej święty swietego saint st mount cape szkoła szkoły szkole liceum szpital szpitala parafia kościół "
    "patron patrona dzień dnia zdrowaś strasse rue "
)
_PRECEDING_WORD: Final = re.compile(r"[^\W_]+(?:['’_][^\W_]+)*")
_LOOK_BACK: Final = 40
_TELLING: Final = frozenset().union(
    _TITLES, _RELATIONS, _LABELS, _PLACES, (phrase.split()[-1] for phrase in _INTRODUCTIONS)
)
"""Last words that tell something of what comes after them."""
_JOINS: Final = "'’_"


class Preceding(NamedTuple):
    """The last words before a position, in small letters, and what stands between them and the position."""

    words: tuple[str, ...]
    gap: str

    @classmethod
    def of(cls, text: str, start: int) -> Preceding:
        tail = text[max(0, start - _LOOK_BACK) : start].lower()
        found = _PRECEDING_WORD.findall(tail)[-3:]
        return cls(tuple(found), tail[tail.rfind(found[-1]) + len(found[-1]) :] if found else tail)

    @classmethod
    def at(cls, reading: Reading, start: int) -> Preceding:
        """Return the same for a place where a word begins, and nothing where they would tell nothing: most words."""
        last = reading.word_before(start)
        if last is None:
            return _NOTHING
        begins, ends = last
        word = reading.text[begins:ends].lower()
        whole = (
            begins >= start - _LOOK_BACK
            and reading.text[begins - 1 : begins] not in _JOINS
            and len(word) == ends - begins > 1
        )
        return _NOTHING if whole and word not in _TELLING else cls.of(reading.text, start)

    @property
    def last(self) -> str:
        return self.words[-1] if self.words else ""

    def is_title(self) -> bool:
        return self.gap.strip(" ") in {"", "."} and self.gap != "" and self.last in _TITLES

    def is_place(self) -> bool:
        """Whether a street, a patron saint or the like is about to be named, also with an initial between."""
        if self.gap.strip(" ") not in {"", "."} or not self.words:
            return False
        return self.last in _PLACES or (len(self.last) == 1 and len(self.words) > 1 and self.words[-2] in _PLACES)

    def is_introduction(self) -> bool:
        if self.gap.strip(" \n\t,:") or not self.gap or len(self.gap) > 4:
            return False
        if self.last in _RELATIONS and len(self.words) > 1 and self.words[-2] in _POSSESSIVES:
            return True
        return any(" ".join(self.words[-length:]) in _INTRODUCTIONS for length in (1, 2, 3))

    def is_label(self, labels: frozenset[str] = _LABELS) -> bool:
        if self.last not in labels or self.gap.strip(" \"'\n\t:=."):
            return False
        return ":" in self.gap or "=" in self.gap or "..." in self.gap

    def is_name_label(self) -> bool:
        return self.is_label(_NAME_LABELS) or (self.last in _NAME_LABELS and self.gap in {"  ", "   "})


_NOTHING: Final = Preceding((), " ")

PLACE_AFTER: Final = re.compile(
    r"[ ](?:street|st\b|str\b|sq\b|(?:suite|apt)(?!\.?[ ]{0,2}#?[0-9])|road|rd\b|avenue|ave\b|lane|ln\b|drive|dr\b|"
    r"square|court|close|"
    r"crescent|way|terrace|place|boulevard|blvd|park|"
    r"university|college|school|hospital|airport|station|bridge|hall|house|county|island|islands|prize|"
    r"award|cup|theorem|law|effect|"
    r"equation|inc|ltd|llc|gmbh|sp\b|s\.a|bank|hotel|river|lake|church|museum|library|foundation|test|score|"
    r"hill|valley|beach)\b|['’]s (?:law|theorem|paradox|principle)",
    re.IGNORECASE,
)


class _Word(NamedTuple):
    start: int
    end: int
    text: str


class KnownNameRecognizer(TextRecognizer):
    """Reads runs of capitalised words; a run is a person when a given name, a title or a label says so."""

    entity = "PERSON"

    def __init__(self, language: str, given_names: GivenNames, *, asks_tagger: bool = True) -> None:
        """Read with lists of names; `asks_tagger` is whether a given name with a surname may be nobody's."""
        self._given_names = given_names
        self._asks_tagger = asks_tagger
        super().__init__(language)

    def candidates(self, reading: Reading) -> Iterable[Candidate]:
        return (candidate for candidate, _ in self._persons(reading))

    def results_in(self, reading: Reading, tagging: Tagging) -> list[RecognizerResult]:
        persons = [each for each in tagging.values if each.entity == self.entity]
        ends = [each.end for each in persons]

        def doubted(candidate: Candidate) -> bool:
            """Whether the tagger read the name and does not take any of it for a person's."""
            if candidate.score >= _WITH_SURNAME:
                read = self._asks_tagger and candidate.end <= tagging.read_to
                return read and tagging.person_in(candidate.start, candidate.end) < _NOBODY
            place = bisect_right(ends, candidate.start)
            seen = place < len(persons) and persons[place].start < candidate.end
            return candidate.end <= tagging.read_to and not seen

        found = (candidate for candidate, sure in self._persons(reading) if sure or not doubted(candidate))
        return self._results(found, reading)

    def _persons(self, reading: Reading) -> Iterator[tuple[Candidate, bool]]:
        """Yield each run that a name, a title or a label makes a person, and whether a title or a label says so."""
        text = reading.text
        for run in _runs(reading):
            start, end = run[0].start, run[-1].end
            before = Preceding.at(reading, start)
            score = self._score(text, run, before)
            if score is not None and not before.is_place() and not PLACE_AFTER.match(text, end):
                told = before.is_title() or before.is_introduction() or before.is_label()
                yield Candidate(start, end, score), told
        for start, end in names_in_tables(reading):
            yield Candidate(start, end, _WITH_SURNAME), True

    def _score(self, text: str, run: list[_Word], before: Preceding) -> float | None:
        several = len(run) >= 2
        ranks = [self._given_names.rank(word.text) for word in run]
        given = any(ranks)
        clear = given and any(rank == 1 and len(word.text) > 2 for rank, word in zip(ranks, run, strict=True))
        if several and (clear or (given and before.is_label())):
            return 0.9
        if before.words and any(len(word.text) > 1 for word in run):  # Not an initial alone.
            if before.is_title() or before.is_introduction():
                return 0.85
            if (several and before.is_label()) or before.is_name_label():
                return 0.7
        if clear:
            return 0.65
        if not several:
            return 0.6 if "-" in run[0].text and _DOUBLE_SURNAME.fullmatch(run[0].text) else None
        initial_first = len(run[0].text) == 1 and text.startswith(".", run[0].end)
        if given or (initial_first and all(len(word.text) > 2 for word in run[1:])):
            return 0.55
        return None


def _runs(reading: Reading) -> Iterator[list[_Word]]:
    """Yield capitalised words that stand side by side, without words that no name contains."""
    text = reading.text
    run: list[_Word] = []
    for match in _WORD.finditer(reading):
        word = _Word(match.start(), match.end(), match[0])
        joined = run and len(run) < _LONGEST_RUN and _gap_is_inside_a_name(text, run[-1], word)
        if run and not joined:
            yield run
            run = []
        if word.text.lower() in NOT_NAMES:
            if run:
                yield run
                run = []
            continue
        run.append(word)
    if run:
        yield run


def _gap_is_inside_a_name(text: str, last: _Word, following: _Word) -> bool:
    gap = text[last.end : following.start]
    if gap == " ":
        return True
    return _GAP.fullmatch(gap) is not None and (not gap.startswith(".") or len(last.text) <= 2)
