"""Recognizes postal addresses: street and house number in Polish, English and European forms, with the town behind."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from typing import Final

from app.pii.reading import Reading, anchored
from app.pii.recognizers.base import NOT_AFTER_ALNUM, NOT_BEFORE_ALNUM, Candidate, ContextWindow, TextRecognizer
from app.pii.recognizers.known_names import UPPER
from app.pii.recognizers.postcodes import AMERICAN, AMERICAN_STATE, AUSTRALIAN, BRITISH, IRISH, POLISH
from app.pii.words import words

_WORD: Final = r"[^\W\d_][\w.’'-]{0,24}"
_CAPITALISED: Final = rf"[{UPPER}][\w.’'-]{{0,24}}"
_NOT_IN_A_NUMBER: Final = r"(?<![0-9][.,:/-])"

_POLISH_FLAT: Final = (
    r"(?:[ ]?/[ ]?[0-9]{1,4}[A-Za-z]?)?(?:,?[ ]?(?:m|lok|mieszkania|mieszkanie)\.?[ ]?[0-9]{1,4}[A-Za-z]?)?"
)
_POLISH_HOUSE: Final = rf"[0-9]{{1,4}}[A-Za-z]?{_POLISH_FLAT}{NOT_BEFORE_ALNUM}(?!-[0-9])"
_ORDINAL: Final = r"[0-9]{1,2}(?:-?go)?[ -]"
_POLISH_TOWN: Final = rf"{_CAPITALISED}(?:[ -](?:nad |k\.|k/)?{_CAPITALISED}){{0,2}}"
_NOT_COUNTED: Final = (
    r"(?![ ]?(?:zł|pln|eur|%|km|m2|mkw|szt|os[oó]b|lat|min\b|godz|r\.|rok|aut|dni|stycz|lut|mar|kwi|maj|czer|lip|sier|"
    r"wrze|pa[zź]dz|list|grud))"
)
_POLISH_STREET: Final = anchored(
    rf"{NOT_AFTER_ALNUM}(?P<kind>(?:ul|al|pl|os)\.\s{{0,3}}|"
    r"(?:ul|ulic[aeyę]|ulicą|alej[aeię]|aleją|al|plac|placu|placem|osiedl[eua]|rynek|rynku|rondo|rondzie|skwer\w{0,2}|"
    rf"bulwar\w{{0,2}}|os)\s{{1,3}})(?P<name>(?:{_ORDINAL})?{_WORD}(?:[ ]{_WORD}){{0,4}}?)?(?(name),?\s{{1,8}}|)"
    rf"(?:nr[ ])?(?P<house>{_POLISH_HOUSE}){_NOT_COUNTED}(?P<town>,?\s{{1,24}}{POLISH}[ ]{{1,2}}{_POLISH_TOWN})?",
    re.IGNORECASE,
    keys=words("ul al pl os ry ro sk bu"),
)
_SMALL_IN_NAMES: Final = words(
    "i im. im nad pod na gen. ks. św. dr dra prof. płk. por. kpt. bp. inż. abp. króla księcia"
)
_MARKET_SQUARES: Final = words("rynek rynku")
"""They have house numbers and no other name."""
_POLISH_POSTCODE: Final = anchored(
    rf"{NOT_AFTER_ALNUM}{_NOT_IN_A_NUMBER}{POLISH}[ ]{{1,2}}(?={_CAPITALISED}){_POLISH_TOWN}", digit_within=0, digits=2
)
_BEFORE_POLISH_POSTCODE: Final = re.compile(
    rf"{_CAPITALISED}(?:[ ]{_CAPITALISED}){{0,2}}[ ][0-9]{{1,4}}[A-Za-z]?{_POLISH_FLAT}(?:,[ ]?|,?\s{{1,8}})\Z"
)

_SUFFIXES: Final = sorted(
    words(
        "street st str road rd avenue ave lane ln drive dr court ct close crescent cres terrace place boulevard blvd "
        "mews grove parade square sq gardens gdns walk row quay wynd bend hollow trail trl parkway pkwy highway hwy "
        "circle cir lawn rise green way hill park broadway plaza loop alley rapids ridge path wharf esplanade"
    )
)
_SUFFIX: Final = f"(?:{'|'.join(_SUFFIXES)})"
_UNIT: Final = (
    r"(?:apt|apartment|suite|ste|unit|flat|room|floor|fl|blk|block)\.?[ ]?#?(?:[0-9][\w-]{0,5}|[A-Z])"
    rf"{NOT_BEFORE_ALNUM}"
)
_POSTCODE: Final = (
    rf"(?:{BRITISH}|{AMERICAN_STATE},?[ ]{{1,2}}{AMERICAN}|{AUSTRALIAN}|{IRISH}|[0-9]{{4,5}}){NOT_BEFORE_ALNUM}"
)
_ENGLISH_STREET: Final = anchored(
    rf"{NOT_AFTER_ALNUM}{_NOT_IN_A_NUMBER}(?P<number>[0-9]{{1,5}}[A-Za-z]?(?:[/-][0-9]{{1,4}})?)[ ]"
    rf"(?P<name>(?:{_WORD}\s){{1,4}}?)(?P<suffix>{_SUFFIX}){NOT_BEFORE_ALNUM}\.?(?:[ ][NS]?[EW])?{NOT_BEFORE_ALNUM}",
    re.IGNORECASE,
    digit_within=0,
    needs=[suffix for suffix in _SUFFIXES if not any(part in suffix for part in _SUFFIXES if part != suffix)],
)
_ENGLISH_TOWN: Final = re.compile(
    rf"(?:,?\s{{1,3}}(?i:{_UNIT}))?(?:(?:,\s{{0,3}}|\s{{1,3}}){_CAPITALISED}(?:[ ]{_CAPITALISED}){{0,2}}){{0,2}}"
    rf",?\s{{1,3}}{_POSTCODE}"
)
_UNIT_AFTER: Final = re.compile(rf",?\s{{1,3}}{_UNIT}{NOT_BEFORE_ALNUM}", re.IGNORECASE)
_UNIT_BEFORE: Final = re.compile(rf"{NOT_AFTER_ALNUM}{_UNIT},?\s{{1,2}}\Z", re.IGNORECASE)
_ENGLISH_POSTCODE: Final = anchored(
    rf"{NOT_AFTER_ALNUM}(?:{BRITISH}|{AMERICAN_STATE}[ ]{{1,2}}{AMERICAN}|{AUSTRALIAN}){NOT_BEFORE_ALNUM}",
    digit_within=5,
)
_BEFORE_ENGLISH_POSTCODE: Final = re.compile(
    rf"{NOT_AFTER_ALNUM}{_NOT_IN_A_NUMBER}[0-9]{{1,5}}[A-Za-z]?[ ]{_CAPITALISED}(?:(?:,?\s{{1,2}}){_WORD}){{0,7}}"
    r",?\s{1,2}\Z"
)
_STREET_AND_UNIT: Final = anchored(
    rf"{NOT_AFTER_ALNUM}{_NOT_IN_A_NUMBER}[0-9]{{1,5}}(?P<name>(?:[ ][\w.’'-]{{1,24}}){{1,6}}?),?\s{{1,2}}"
    rf"(?P<unit>apt|apartment|suite|flat)\.?[ ]#?[0-9]{{1,5}}[A-Za-z]?{NOT_BEFORE_ALNUM}",
    re.IGNORECASE,
    digit_within=0,
    needs=("apt", "apartment", "suite", "flat"),
)
_AFTER_UNIT: Final = re.compile(
    rf"(?:\s?,?\s{{1,3}}(?:{_UNIT}|[^\W\d_][\w.()’'-]{{0,24}})){{0,7}}?,?\s{{1,3}}{_POSTCODE}", re.IGNORECASE
)
_MILITARY: Final = anchored(
    rf"{NOT_AFTER_ALNUM}(?:(?:PSC|CMR|Unit)[ ][0-9]{{1,5}},?[ ]Box[ ][0-9]{{1,5}}|US(?:S|CGC|NS|NV)[ ]{_WORD})"
    rf",?\s{{1,2}}[ADF]PO,?[ ]A[AEP][ ]{AMERICAN}{NOT_BEFORE_ALNUM}",
    re.IGNORECASE,
    keys=words("ps cm un us"),
)
_EUROPEAN_ENDING: Final = anchored(
    r"(?:(?<=[^\W\d_])(?:straat|gasse|vej|vejen|gade|gatan|gata|vägen|veien|vegen|stien|laan|dreef|kade|utca|tie|katu|"
    r"ulice)|(?<=[^\W\d_ -][ -]|.[^\W\d_])(?:stra(?:ss|ß)e|str\.|weg|platz|allee))"
    rf"[ ][0-9]{{1,4}}[A-Za-z]?{NOT_BEFORE_ALNUM}",
    re.IGNORECASE,
    parts=(
        "straat",
        "gasse",
        "vej",
        "gade",
        "gatan",
        "gata",
        "vägen",
        "veien",
        "vegen",
        "stien",
        "laan",
        "dreef",
        "kade",
        "utca",
        "tie",
        "katu",
        "ulice",
        "strasse",
        "straße",
        "str.",
        "weg",
        "platz",
        "allee",
    ),
)
_BEFORE_ENDING: Final = re.compile(rf"{NOT_AFTER_ALNUM}(?:[^\W\d_][\w’'-]{{0,24}}|{_CAPITALISED}[ -])\Z")
_EUROPEAN: Final = anchored(
    rf"{NOT_AFTER_ALNUM}(?:via|viale|piazza|calle|avenida|avda\.?|rua|plaza|paseo|corso|strada)[ ]"
    rf"{_WORD}(?:[ ]{_WORD}){{0,4}}?,?[ ][0-9]{{1,5}}[A-Za-z]?{NOT_BEFORE_ALNUM}|"
    rf"{NOT_AFTER_ALNUM}{_NOT_IN_A_NUMBER}[0-9]{{1,4}},?[ ](?:bis[ ]|ter[ ])?"
    rf"(?:rue|avenue|boulevard|chemin|impasse|quai|calle)[ ]{_WORD}(?:[ ]{_WORD}){{0,3}}",
    re.IGNORECASE,
    digit_within=0,
    keys=words("vi pi ca av ru pl pa co st"),
    needs=(
        *("via", "piazza", "calle", "avenida", "avda", "rua", "plaza", "paseo", "corso", "strada"),
        *("rue", "avenue", "boulevard", "chemin", "impasse", "quai"),
    ),
)
_EUROPEAN_TOWN: Final = re.compile(
    rf",?\s{{1,3}}(?:(?:[A-Z]{{1,2}}-)?[0-9]{{4,5}}[ ])?{_CAPITALISED}(?:(?<![^\W\d_]{{4}}\.)[ ]{_CAPITALISED}){{0,2}}"
)
"""No word behind a longer one with a full stop: that ends a sentence, and is no abbreviation."""
_TWO_NUMBERS: Final = anchored(
    rf"{NOT_AFTER_ALNUM}{_NOT_IN_A_NUMBER}[0-9]{{2,5}}[ ]"
    rf"(?:[{UPPER}][\w’'-]{{1,24}}[ ]){{1,5}}[0-9]{{1,4}}{NOT_BEFORE_ALNUM}",
    digit_within=0,
    digits=2,
)
_NUMBER_BEFORE: Final = re.compile(
    rf"{NOT_AFTER_ALNUM}{_NOT_IN_A_NUMBER}(?:[0-9]{{3,5}}|[0-9]{{1,4}} (?:bis|ter),?)[ ]\Z"
)
_PO_BOX: Final = anchored(
    rf"{NOT_AFTER_ALNUM}(?:P\.?[ ]?O\.?[ ]?Box|skr(?:ytka)?\.? poczt(?:owa)?\.?)[ ](?:nr[ ])?[0-9]{{1,6}}"
    rf"{NOT_BEFORE_ALNUM}",
    re.IGNORECASE,
    keys=frozenset({"po", "p.", "p ", "sk"}),
)
_LOOK_BACK: Final = 100
_UNIT_LOOK_BACK: Final = 20
_LONGEST_WORD: Final = 26
_NUMBER_LOOK_BACK: Final = 12
_YEAR: Final = re.compile(r"(?:19|20)[0-9]{2}")
_NUMBER_OF_STREET: Final = re.compile(rf"\A{_ORDINAL}", re.IGNORECASE)
"""What a name may begin with: 3 Maja, 3-Maja, 3-go Maja."""


class StreetAddressRecognizer(TextRecognizer):
    """A house number makes the difference: a street alone is a place. Small letters count after words as "live at"."""

    entity = "STREET_ADDRESS"
    fewest_digits = 1
    context_window = ContextWindow(before=40, after=0)

    def candidates(self, reading: Reading) -> Iterable[Candidate]:
        for candidate in chain(_polish(reading), _english(reading), _european(reading), _boxes(reading)):
            length = len(reading.text[candidate.start : candidate.end].rstrip(".,’'-"))
            yield replace(candidate, end=candidate.start + length)


def _polish(reading: Reading) -> Iterator[Candidate]:
    text = reading.text
    for match in _POLISH_STREET.finditer(reading):
        kind, name = match["kind"].strip().lower(), match["name"]
        if not (_is_street_name(name) if name else kind in _MARKET_SQUARES) or _YEAR.fullmatch(match["house"]):
            continue
        capitalised = name is None or not name[0].islower()
        sure = match["town"] is not None or kind == "ul." or (capitalised and kind != "os")
        yield Candidate(*match.span(), score=0.85 if sure else 0.3, score_in_context=0.85 if kind != "os" else None)
    for match in _POLISH_POSTCODE.finditer(reading):
        first = max(0, match.start() - _LOOK_BACK)
        street = _BEFORE_POLISH_POSTCODE.search(text[first : match.start()])
        if street:
            yield Candidate(first + street.start(), match.end(), score=0.8)


def _is_street_name(name: str) -> bool:
    """Whether words are written alike: with capitals but for small joining words, or all small."""
    written = [word for word in _NUMBER_OF_STREET.sub("", name).split() if not word[0].isdigit()]
    if not written:
        return False  # A pattern's letters are also those superscripts that are digits here.
    if written[0][0].islower():
        return all(word[0].islower() for word in written)
    return all(word[0].isupper() or word in _SMALL_IN_NAMES for word in written[1:])


def _english(reading: Reading) -> Iterator[Candidate]:
    text = reading.text
    for match in _ENGLISH_STREET.finditer(reading):
        town = _ENGLISH_TOWN.match(text, match.end()) or _UNIT_AFTER.match(text, match.end())
        named = match["suffix"][0].isupper() and all(word[0].isupper() for word in match["name"].split())
        year = _YEAR.fullmatch(match["number"]) is not None
        start = _start_before(text, match.start(), _UNIT_BEFORE, _UNIT_LOOK_BACK)
        sure = named and (town is not None or not year)
        yield Candidate(start, town.end() if town else match.end(), 0.75 if sure else 0.2, 0.8)
    for match in _STREET_AND_UNIT.finditer(reading):
        if match["unit"].lower() == "flat" and any(word[0].islower() for word in match["name"].split()):
            continue
        town = _AFTER_UNIT.match(text, match.end())
        yield Candidate(match.start(), town.end() if town else match.end(), score=0.75)
    for match in _ENGLISH_POSTCODE.finditer(reading):
        first = max(0, match.start() - _LOOK_BACK)
        street = _BEFORE_ENGLISH_POSTCODE.search(text[first : match.start()])
        if street:
            yield Candidate(first + street.start(), match.end(), score=0.75)


def _european(reading: Reading) -> Iterator[Candidate]:
    text = reading.text
    for start, end in chain((match.span() for match in _EUROPEAN.finditer(reading)), _with_endings(reading)):
        town = _EUROPEAN_TOWN.match(text, end)
        with_town = town is not None and (any(map(str.isdigit, town[0])) or text.startswith(",", end))
        capitals = any(map(str.isupper, text[start:end]))
        yield Candidate(
            _start_before(text, start, _NUMBER_BEFORE, _NUMBER_LOOK_BACK),
            town.end() if town and with_town else end,
            score=0.7 if capitals else 0.2,
            score_in_context=0.7,
        )
    for match in _TWO_NUMBERS.finditer(reading):
        yield Candidate(*match.span(), score=0.2, score_in_context=0.65)


def _with_endings(reading: Reading) -> Iterator[tuple[int, int]]:
    """Yield streets whose last word ends as streets do in Germanic, Nordic and Hungarian."""
    text = reading.text
    for match in _EUROPEAN_ENDING.finditer(reading):
        start = _start_before(text, match.start(), _BEFORE_ENDING, _LONGEST_WORD)
        if start < match.start():
            yield start, match.end()


def _boxes(reading: Reading) -> Iterator[Candidate]:
    for match in _PO_BOX.finditer(reading):
        yield Candidate(*match.span(), score=0.8)
    for match in _MILITARY.finditer(reading):
        yield Candidate(*match.span(), score=0.9)


def _start_before(text: str, start: int, pattern: re.Pattern[str], look_back: int) -> int:
    """Return where something begins that may stand directly before an address, or the address's own start."""
    first = max(0, start - look_back)
    found = pattern.search(text[first:start])
    return first + found.start() if found else start
