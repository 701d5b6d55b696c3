"""Recognizes numbers of insurance policies and of the members of a health plan, which each insurer forms its own way:
behind their name alone."""

from __future__ import annotations

import re
from typing import Final

from app.pii.reading import anchored
from app.pii.recognizers.base import NOT_AFTER_ALNUM
from app.pii.recognizers.named_number import NUMBER, OF, NamedNumberRecognizer, behind
from app.pii.words import words

_NUMBER: Final = rf"(?:[A-Z]{{1,4}}[ ])?{NUMBER}"
"""The letters of a series may stand apart."""
_POLICY: Final = r"policy[ _-]?(?:number|num|no\.?|nr\.?|#)"
"""No "policy ID": policies of a network have one."""
_KIND: Final = r"(?: (?:ubezpiecz\w{1,12}|oc|ac|oc/ac|nnw))?"
_NAMES: Final = (
    rf"{_POLICY}|"
    rf"(?:policy[ _-]?holder|(?<!national[ _-])insurance|(?:member|subscriber|beneficiary)(?:ship)?)[ _-]?{OF}|"
    rf"(?:nr|numer\w{{0,3}}) polisy{_KIND}|polis[ayęą]{_KIND} (?:nr\.?|numer|o numerze)"
)
_NAMED: Final = anchored(NOT_AFTER_ALNUM + behind(_NAMES, _NUMBER), re.IGNORECASE, keys=words("po in me su be nr nu"))


class InsuranceNumberRecognizer(NamedNumberRecognizer):
    entity = "INSURANCE_NUMBER"
    fewest_digits = 4
    shortest = 6
    named = _NAMED
    column = re.compile(
        rf"(?:insurance )?{_POLICY}|(?:policy ?holder|insurance|(?:member|subscriber|beneficiary)(?:ship)?) ?{OF}|"
        r"(?:nr|numer) polisy|polisa"
    )
    cell = re.compile(_NUMBER)
