"""Recognizes postcodes: British, Irish and Polish ones by their shape, others next to a word that says so or behind
somebody's town."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable
from typing import Final

from app.pii.presidio import RecognizerResult
from app.pii.reading import Reading, anchored
from app.pii.recognizers.base import NOT_AFTER_ALNUM, NOT_BEFORE_ALNUM, Candidate, ContextWindow, TextRecognizer
from app.pii.recognizers.known_names import UPPER
from app.pii.recognizers.postcodes import AMERICAN_STATE, BRITISH, IRISH, POLISH
from app.pii.tables import header_at, plain
from app.pii.tagger import Tagging

_LETTERS: Final = anchored(rf"{NOT_AFTER_ALNUM}(?:{BRITISH}|{IRISH}){NOT_BEFORE_ALNUM}", digit_within=4)
_POLISH: Final = anchored(
    rf"{NOT_AFTER_ALNUM}(?<![0-9][.,/ -]){POLISH}{NOT_BEFORE_ALNUM}(?![.,-][0-9])"
    rf"(?P<town>[ ]{{1,2}}[{UPPER}][^\W\d_]{{2}})?",
    digit_within=0,
    digits=2,
)
_DIGITS: Final = anchored(
    rf"{NOT_AFTER_ALNUM}(?<![0-9][.,/-])(?:[0-9]{{3}} [0-9]{{2}}|[0-9]{{3,6}}|[0-9]{{4,5}}-[0-9]{{3,4}})"
    rf"{NOT_BEFORE_ALNUM}(?![.,/-][0-9])",
    digit_within=0,
    digits=3,
)
_STATE_BEFORE: Final = re.compile(rf"(?:[^\W\d_],?[ ]){AMERICAN_STATE}[ ]\Z")
_LONGEST_STATE: Final = 6
_NAMED_BEFORE: Final = re.compile(
    r"(?:(?<![^\W_])zip|post ?code|postal ?code|pocztow\w+)(?:[ _]?code)?[^0-9A-Za-z\n]{0,6}"
    r"(?:(?:is|was|to|number|nr)[ :]{1,3})?\Z",
    re.IGNORECASE,
)
_NAMES: Final = ("zip", "post", "pocztow")
"""What every name of a postcode holds: where none is near, the words before a number need not be read."""
_COLUMN: Final = re.compile(r"(?:zip|post|postal|pocztow\w+)(?: ?code)?|kod poczt\w+")
_LOOK_BACK: Final = 40
_OF_A_TOWN: Final = re.compile(r"(?!(?:19|20)[0-9]{2}\Z)[0-9]{4,5}|[0-9]{4}-[0-9]{3}|[0-9]{3} [0-9]{2}")
"""What may stand behind a town, and is no year."""
_COUNTED: Final = re.compile(
    r"[ ]?(?:[%€$£°]|(?:k?m|mi|ft|z[lł]|pln|eur|usd|gbp|m2|os[oó]b|ludzi)(?![^\W_]))|[ ][^\W\d_]+s(?![^\W_])"
)
"""What makes a quantity of the number before it."""
_PAGES_BEFORE: Final = re.compile(r"(?:stron\w*|str\.|s\.|pages?|pp\.?|od|from|rozdz\w*|nr|art\.?)[ ]\Z", re.IGNORECASE)


class PostcodeRecognizer(TextRecognizer):
    """A British postcode names about fifteen houses, an Irish one a single one; Polish ones count before a town."""

    entity = "ZIP_CODE"
    fewest_digits = 1
    context_window = ContextWindow(before=40, after=15)

    def results_in(self, reading: Reading, tagging: Tagging) -> list[RecognizerResult]:
        return self._results(self.candidates(reading, tagging), reading)

    def candidates(self, reading: Reading, tagging: Tagging | None = None) -> Iterable[Candidate]:
        """Yield what may be a postcode; a number behind a place is one where the tagger saw that somebody is there."""
        text = reading.text
        towns = {each.end for each in tagging.values if each.entity == "LOCATION"} if tagging is not None else ()
        for match in _LETTERS.finditer(reading):
            spaced = " " in match[0]
            yield Candidate(*match.span(), score=0.6 if spaced else 0.2, score_in_context=0.85)
        for match in _POLISH.finditer(reading):
            start, end = match.start(), match.start() + 6
            before = text[max(0, start - _LOOK_BACK) : start]
            town = match["town"] is not None and not _PAGES_BEFORE.search(before)
            in_brackets = before.endswith("(") and text.startswith(")", end)
            yield Candidate(start, end, score=0.6 if town or in_brackets else 0.2, score_in_context=0.85)
        names = sorted(place + len(part) for part in _NAMES for place in reading.occurrences((part,)))
        for match in _DIGITS.finditer(reading):
            start = match.start()
            last = bisect_right(names, start) - 1
            named = last >= 0 and names[last] > start - _LOOK_BACK
            if (named and _NAMED_BEFORE.search(text[max(0, start - _LOOK_BACK) : start])) or (
                names and _COLUMN.fullmatch(plain(header_at(reading, start)))
            ):
                yield Candidate(*match.span(), score=0.8)
            elif _is_behind_state(text, match) or (start - 1 in towns and _is_of_a_town(text, match)):
                yield Candidate(*match.span(), score=0.6)


def _is_behind_state(text: str, match: re.Match[str]) -> bool:
    start = match.start()
    return len(match[0]) in {5, 10} and _STATE_BEFORE.search(text[max(0, start - _LONGEST_STATE) : start]) is not None


def _is_of_a_town(text: str, match: re.Match[str]) -> bool:
    spaced = text[match.start() - 1] == " "
    return spaced and _OF_A_TOWN.fullmatch(match[0]) is not None and not _COUNTED.match(text, match.end())
