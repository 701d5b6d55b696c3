"""Recognizes MAC addresses: six pairs of hexadecimal digits, or three groups of four as routers print them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from app.pii.reading import Reading, in_stretches
from app.pii.recognizers.base import NOT_AFTER_ALNUM, NOT_BEFORE_ALNUM, Candidate, TextRecognizer

_PAIR: Final = "[0-9A-Fa-f]{2}"
_MAC: Final = re.compile(
    rf"{NOT_AFTER_ALNUM}(?<![0-9A-Fa-f][:-])(?:{_PAIR}([:-])(?:{_PAIR}\1){{4}}{_PAIR}|"
    rf"[0-9A-Fa-f]{{4}}\.[0-9A-Fa-f]{{4}}\.[0-9A-Fa-f]{{4}}){NOT_BEFORE_ALNUM}(?![:.-][0-9A-Fa-f])"
)
_NOT_HEXADECIMAL: Final = re.compile(r"[^0-9a-f]+")
_NOBODYS: Final = frozenset({"000000000000", "ffffffffffff"})
"""Unset, and everybody: IEEE 802, broadcast address."""


class MacAddressRecognizer(TextRecognizer):
    """Notations of IEEE 802 (pairs with hyphens), of most systems (colons) and of Cisco IOS (dots)."""

    entity = "MAC_ADDRESS"

    def candidates(self, reading: Reading) -> Iterable[Candidate]:
        for match in in_stretches(_MAC, reading):
            digits = _NOT_HEXADECIMAL.sub("", match[0].lower())
            if digits not in _NOBODYS and not ("." in match[0] and digits.isdigit()):
                yield Candidate(*match.span(), score=0.9)
