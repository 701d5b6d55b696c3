"""Recognizes phone numbers: international, national in usual grouping, and any digits next to a phone word."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import phonenumbers

from app.pii.reading import Reading, anchored
from app.pii.recognizers.base import NOT_AFTER_ALNUM, Candidate, TextRecognizer, digits_of
from app.pii.tables import cells_under
from app.pii.words import words

_SEPARATOR: Final = r"[ \u00a0.\-–/]"
_BODY: Final = re.compile(rf"\(?\+? ?[0-9]{{1,15}}\)?(?:{_SEPARATOR}{{0,3}}\(?[0-9]{{1,12}}\)?){{0,8}}")
_GROUP: Final = re.compile(r"([0-9]+)\)?")
_DIGIT: Final = re.compile(r"[0-9]+")
_LETTER: Final = re.compile(r"[^\W\d_]")
_FOLLOWED_BY_MORE: Final = re.compile(r"[^\W_]|[.:-][0-9]|[,/](?![0-9]{7,12}(?![^\W_]|[.,:/-][0-9]))[0-9]")
_ANOTHER: Final = re.compile(r"[ ]?[/,;][ ]?(?P<number>[0-9]{7,12})(?![^\W_]|[.,:/-][0-9])")
_TOLD: Final = 0.75
"""Score from which a word says that a number is one: of two beside each other with as many digits, both are."""

_ABROAD: Final = rf"\(?(?:\+|00(?!{_SEPARATOR}{{0,3}}0))"
"""How an international number begins: no code of a country begins with 0."""
_INTERNATIONAL: Final = re.compile(_ABROAD)
_NORTH_AMERICA: Final = re.compile(r"(?:1[ .-])?\(?[2-9][0-9]{2}(?:\)[ .-]{0,2}|[ .-]{1,2})[0-9]{3}[ .-][0-9]{4}")
_FRENCH: Final = re.compile(r"0[1-9](?:\.[0-9]{2}){4}")
_POLISH_MOBILE: Final = re.compile(rf"(?:0 ?)?[4-8][0-9]{{2}}({_SEPARATOR})[0-9]{{3}}\1[0-9]{{3}}")
_POLISH_LANDLINE: Final = re.compile(
    rf"\(?0?[1-9][0-9]\)?{_SEPARATOR}[0-9]{{3}}{_SEPARATOR}[0-9]{{2}}{_SEPARATOR}[0-9]{{2}}"
)
_TRUNK_ZERO: Final = re.compile(rf"\(?0[1-9][0-9]{{1,3}}\)?(?:{_SEPARATOR}?[0-9]{{2,8}}){{1,4}}")
_POLISH_PREFIXES: Final = tuple(
    words(
        "12 13 14 15 16 17 18 22 23 24 25 29 32 33 34 41 42 43 44 45 46 48 50 51 52 53 54 55 56 57 58 59 60 61 62 63 "
        "65 66 67 68 69 71 72 73 74 75 76 77 78 79 81 82 83 84 85 86 87 88 89 91 94 95"
    )
)
"""Area codes and mobile ranges of the Polish numbering plan (Office of Electronic Communications)."""
_DATE: Final = re.compile(
    r"[0-9]{4}([-./])[0-9]{1,2}\1[0-9]{1,2}(?![0-9])|[0-9]{1,2}([-./])[0-9]{1,2}\2(?:[0-9]{4}|[0-9]{2})(?![0-9])"
)
_IPV4: Final = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")
_SHAPES: Final = (
    _NORTH_AMERICA.pattern,
    _POLISH_MOBILE.pattern.replace(r"\1", _SEPARATOR),
    _POLISH_LANDLINE.pattern,
    _TRUNK_ZERO.pattern,
    _FRENCH.pattern,
)
_ANY_SHAPE: Final = re.compile("|".join(f"(?:{pattern})" for pattern in (rf"{_ABROAD}.*", *_SHAPES)))
_SHAPE_AHEAD: Final = re.compile("|".join(f"(?:{pattern})" for pattern in (_ABROAD, *_SHAPES)))
"""Where no number of any shape begins, none of the beginnings of what stands there has one."""
_DIGITS_AHEAD: Final = r"(?=[(+ ]{0,3}[0-9](?:[ \u00a0.\-–/()]{0,5}[0-9]){6})"
"""Seven digits as near to each other as a number's are: without them what starts here is none."""
_NOT_IN_A_ROW: Final = r"(?<![0-9][ \u00a0.,:;\-–/()+])"
"""Only what is no number in a row of numbers can be told by a word before it; of those in a row, shapes tell."""
_START: Final = anchored(
    rf"{NOT_AFTER_ALNUM}(?<![0-9][.,/:-]){_DIGITS_AHEAD}(?:(?=\(?(?:{_SHAPE_AHEAD.pattern}))|{_NOT_IN_A_ROW})"
    r"(?:\(?\+|\(?(?=[0-9]))",
    digit_within=0,
    before=3,
    before_with="(+",
)
_TRUNK_REGIONS: Final = ("GB", "DE", "FR", "IE", "NL", "BE", "AT", "AU")

_PHONE_BEFORE: Final = re.compile(
    r"(?:(?<![^\W_])(?:phone|tel|cell|mobile|mob|call|ring|rang|dial|text|sms|whatsapp|fax|ph|kom|fon|"
    r"telefon\w*|tel\.? ?kom|dzwoń\w*|"
    r"wa\.me|zadzwo\w+|dzwon\w*|zadzwoń\w*|komórk\w*|komork\w*|infolini\w*|kontakt\w*|contact|handy|t|m|num(?:er|"
    r"ber)|numerem|hotline|reach)"
    r"(?![^\W_])|phone|telefon|_tel)[^0-9\n]{0,24}\Z|(?:phone|tel)[^0-9]{0,4}\Z",
    re.IGNORECASE,
)
_OTHER_NUMBER_BEFORE: Final = re.compile(
    r"(?<![^\W_])(?:order|ref|reference|invoice|ticket|case|id|isbn|sku|part|serial|tracking|account|acct|"
    r"iban|konto|konta|rachun\w+|nip|regon|"
    r"pesel|krs|nrb|zamówieni\w+|zamowieni\w+|faktur\w+|zgłoszeni\w+|sygn\w*|paczk\w+|przesyłk\w+|nhs|ssn|"
    r"passport|paszport\w*|policy|batch|mpn|licen[cs]e|prawo jazdy|kod\w*|ksi[eę]g\w+|"
    r"vin|ean|model|version|wersj\w|bdo|card|kart\w+|number of|pozycj\w+|artyku\w+|"
    r"seri\w+)(?![^\W_])[^0-9\n]{0,16}\Z",
    re.IGNORECASE,
)
_NUMBERED: Final = re.compile(r"(?<=[^\W\d_])[ _-]?[1-9](?=[\"']?[ ]?[:=][^0-9A-Za-z\n]{0,4}\Z)")
"""Which of several a label is of: "phone 2: "."""
_REST_OF_A_WORD: Final = re.compile(r"\A[^\W_]+")
"""Behind the last number, as in K7XQ2M: no word begins there."""
_LOOK_BACK: Final = 40
_COLUMN: Final = re.compile(
    r"(?:(?:home|work|mobile|cell|contact|customer|client|daytime|evening|emergency) )?"
    r"(?:(?:tele)?phone|tel\.?|mobile|cell|fax|telefon|tel\.? kom\.?|komórka|komorka|kom\.?|gsm)"
    r"(?: ?(?:no\.?|number|nr|[12]|kom\w*|kontaktowy|domowy|służbowy))?|(?:nr|numer) tel\w*\.?"
)
"""Headers of columns of them."""
_CELL: Final = re.compile(r"\+?[0-9(][0-9 \u00a0().\-–/]{5,22}[0-9]\Z|\+?[0-9]{7,15}\Z")
_BETWEEN: Final = " \u00a0.,:;-–/()+"
"""What stands between numbers in a row, none of which is told by a word."""
_FEWEST_DIGITS: Final = 7
_MOST_DIGITS: Final = 15
"""ITU-T E.164: at most 15 digits."""
_MOST_NATIONAL_DIGITS: Final = 12


@dataclass(frozen=True, slots=True)
class _Before:
    """What the words before a number say that it is."""

    speaks_of_a_phone: bool
    speaks_of_another_number: bool

    @classmethod
    def of(cls, text: str, start: int) -> _Before:
        before = _NUMBERED.sub("", text[max(0, start - _LOOK_BACK) : start])
        if before.rstrip(_BETWEEN)[-1:].isdecimal():
            return cls(False, False)
        *others, after_last_number = _DIGIT.split(before)
        if others:
            after_last_number = _REST_OF_A_WORD.sub("", after_last_number, count=1)
        if not _LETTER.search(after_last_number):
            return cls(False, False)
        own_tag = after_last_number[after_last_number.rfind("<") :] if after_last_number.endswith(">") else ""
        if _PHONE_BEFORE.search(own_tag):
            return cls(True, False)  # Whatever the tag before it is of.
        return cls(
            _PHONE_BEFORE.search(after_last_number) is not None,
            _OTHER_NUMBER_BEFORE.search(after_last_number) is not None,
        )


def _ends_of_numbers(text: str, body: re.Match[str]) -> list[int]:
    """Return where the groups of a body end that leave a plausible number of digits."""
    ends: list[int] = []
    digits = 0
    position = body.start()
    for group in _GROUP.finditer(text, body.start(), body.end()):
        digits += group.end(1) - group.start(1)
        position = group.end()
        if digits > _MOST_DIGITS:
            break
        if digits >= _FEWEST_DIGITS:
            ends.append(position)
    return ends


class PhoneRecognizer(TextRecognizer):
    """Digits are read group by group; the longest run that is a number counts, so two numbers in a row are two."""

    entity = "PHONE_NUMBER"
    fewest_digits = 7

    def __init__(self, language: str, regions: Sequence[str]) -> None:
        self.regions = tuple(regions)
        super().__init__(language)

    def candidates(self, reading: Reading) -> Iterable[Candidate]:
        text = reading.text
        position = 0
        for at in _START.starts(reading):
            start = _START.pattern.match(text, at) if at >= position else None
            if start is None:
                continue
            body = _BODY.match(text, at)
            if body is None:
                position = start.end() + 1
                continue
            candidate = self._longest_number(text, body)
            if candidate is None:
                first_group = _GROUP.search(text, at, body.end())
                position = first_group.end() if first_group else body.end()
            else:
                yield candidate
                position = candidate.end
                another = _ANOTHER.match(text, position) if candidate.score >= _TOLD else None
                if another is not None and len(another["number"]) == len(digits_of(text[at:position])):
                    yield Candidate(*another.span("number"), candidate.score)
                    position = another.end()
        for cell in cells_under(reading, _COLUMN):
            number = _CELL.match(text, cell.start, cell.end)
            if number is not None and _FEWEST_DIGITS <= len(digits_of(number[0])) <= _MOST_DIGITS:
                yield Candidate(*number.span(), _TOLD)

    def _longest_number(self, text: str, body: re.Match[str]) -> Candidate | None:
        start = body.start()
        opening = 1 if body[0].startswith("(") and ")" not in body[0] else 0
        before: _Before | None = None
        if not (_SHAPE_AHEAD.match(text, start) or (opening and _SHAPE_AHEAD.match(text, start + 1))):
            before = _Before.of(text, start)
            if not before.speaks_of_a_phone:
                return None
        for end in reversed(_ends_of_numbers(text, body)):
            closing = 1 if text[end - 1] == ")" and "(" not in text[start:end] else 0
            value = text[start + opening : end - closing]
            before = before or _Before.of(text, start)
            if not before.speaks_of_a_phone and not _ANY_SHAPE.fullmatch(value):
                continue
            score = self._score(value, before)
            if score is not None and not _FOLLOWED_BY_MORE.match(text, end):
                return Candidate(start + opening, end - closing, score)
        return None

    def _score(self, value: str, before: _Before) -> float | None:
        digits = digits_of(value)
        if _INTERNATIONAL.match(value):
            if value.lstrip("(").startswith("+"):
                return 0.9 if _is_possible("+" + digits) else None
            if _is_valid_abroad("+" + digits[2:]) and not before.speaks_of_another_number:
                return 0.7
        if _DATE.fullmatch(value) or _IPV4.fullmatch(value) or before.speaks_of_another_number:
            return None
        if self._is_national(value, digits):
            return 0.9 if before.speaks_of_a_phone else 0.6
        return 0.75 if before.speaks_of_a_phone and len(digits) <= _MOST_NATIONAL_DIGITS else None

    def _is_national(self, value: str, digits: str) -> bool:
        if "US" in self.regions and _NORTH_AMERICA.fullmatch(value):
            return True
        if "PL" in self.regions and (_POLISH_MOBILE.fullmatch(value) or _POLISH_LANDLINE.fullmatch(value)):
            return digits.removeprefix("0").startswith(_POLISH_PREFIXES)
        if "FR" in self.regions and _FRENCH.fullmatch(value):
            return True
        if _TRUNK_ZERO.fullmatch(value) and 10 <= len(digits) <= 12 and value != digits and value.count("/") < 2:
            return any(_is_plausible(digits, region) for region in _TRUNK_REGIONS if region in self.regions)
        return False


def _is_possible(number: str) -> bool:
    if number.startswith("+0") or not _has_country_code(number):
        return False
    try:
        return phonenumbers.is_possible_number(phonenumbers.parse(number, None))
    except phonenumbers.NumberParseException:
        return False


def _has_country_code(number: str) -> bool:
    """Whether a number begins as an international one does: most digits behind two noughts do not."""
    return any(int(number[1 : 1 + length] or 0) in phonenumbers.COUNTRY_CODE_TO_REGION_CODE for length in (1, 2, 3))


def _is_valid_abroad(number: str) -> bool:
    if number.startswith("+0") or not _has_country_code(number):
        return False
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(number, None))
    except phonenumbers.NumberParseException:
        return False


def _is_valid(digits: str, region: str) -> bool:
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(digits, region))
    except phonenumbers.NumberParseException:
        return False


def _is_plausible(digits: str, region: str) -> bool:
    """Valid in the region; in Britain the beginning and length are enough, as for Ofcom's numbers for drama."""
    if region == "GB" and digits.startswith(("01", "02", "03", "07", "08")) and len(digits) == 11:
        return True
    return _is_valid(digits, region)
