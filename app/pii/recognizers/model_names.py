"""Takes persons from the language model's named entities, without what the model is known to mistake for one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from presidio_analyzer import RecognizerResult
from presidio_analyzer.nlp_engine import NlpArtifacts

from app.pii.recognizers.base import Candidate, TextRecognizer
from app.pii.recognizers.known_names import NOT_NAMES, PLACE_AFTER, UPPER, GivenNames, Preceding
from app.pii.words import words

_PERSON_LABEL: Final = "PERSON"
_NAME: Final = re.compile(rf"[{UPPER}][^\W\d_]*[.]?(?:[ \u00a0'’.-]{{1,2}}[^\W\d_]+){{0,5}}")
_POSSESSIVE: Final = re.compile(r"['’]s?(?:[ ].*)?\Z")
_HOUSE_NUMBER_BEFORE: Final = re.compile(r"[0-9]+[A-Za-z]?,?[ ]\Z")
_NUMBER_AFTER: Final = re.compile(r"[ ][0-9]")
_LOOK_BACK: Final = 24
_COMMON_WORDS: Final = words(
    "landlord tenant borrower lender donor donee policyholder salesperson neighbour haulier convert summarise "
    "summarize rewrite translate explain write compare list draft describe suggest physio postdoc age deed ward "
    "order refund ship hello morning evening easter christmas mastercard visa oracle python java kafka docker "
    "ford toyota suzuki kia honda bmw audi volkswagen street lane "
)


class ModelNameRecognizer(TextRecognizer):
    """A model entity counts when it is written as a name: letters only, a capital first, on one line."""

    entity = "PERSON"

    def __init__(self, language: str, score: float, given_names: GivenNames) -> None:
        self._score = score
        self._given_names = given_names
        super().__init__(language)

    def candidates(self, text: str) -> Iterable[Candidate]:
        return []

    def analyze(
        self, text: str, entities: Sequence[str], nlp_artifacts: NlpArtifacts | None = None
    ) -> list[RecognizerResult]:
        found = nlp_artifacts.entities if nlp_artifacts is not None else []
        persons = [entity for entity in found if entity.label_ == _PERSON_LABEL]
        candidates = [self._candidate(text, entity.start_char, entity.end_char) for entity in persons]
        return [self._result(candidate, text) for candidate in candidates if candidate is not None]

    def _candidate(self, text: str, start: int, end: int) -> Candidate | None:
        line = text[start:end].split("\n", 1)[0]
        name = _POSSESSIVE.sub("", line).rstrip(" .,;:'’\"-")
        end = start + len(name)
        words = name.split()
        if len(name) < 3 or _NAME.fullmatch(name) is None or text[start - 1 : start] in {"'", "’", "&", "/"}:
            return None
        if any(word.lower().strip(".") in NOT_NAMES or word.lower() in _COMMON_WORDS for word in words):
            return None
        before = text[max(0, start - _LOOK_BACK) : start]
        if _HOUSE_NUMBER_BEFORE.search(before) or Preceding.of(text, start).is_place():
            return None
        if _NUMBER_AFTER.match(text, end) or PLACE_AFTER.match(text, end) or PLACE_AFTER.match(" " + words[-1]):
            return None
        if len(words) == 1 and self._given_names.is_ambiguous(name):
            return None
        return Candidate(start, end, self._score)
