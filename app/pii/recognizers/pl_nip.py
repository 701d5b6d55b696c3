"""Recognizes NIP, the Polish tax number: 10 digits with a check digit, in groups or with the prefix PL."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from app.pii.checksums import is_nip
from app.pii.reading import Reading, anchored
from app.pii.recognizers.base import (
    NOT_AFTER_ALNUM,
    NOT_BEFORE_ALNUM,
    Candidate,
    ContextWindow,
    TextRecognizer,
    digits_of,
)

_GROUPS: Final = "|".join(
    r"[ \u00a0-]".join(f"[0-9]{{{length}}}" for length in lengths) for lengths in ((3, 3, 2, 2), (3, 2, 2, 3))
)
_GROUPED: Final = anchored(
    rf"{NOT_AFTER_ALNUM}(?<![0-9]-)(PL[ \u00a0-]?)?(?:{_GROUPS}){NOT_BEFORE_ALNUM}(?!-[0-9])",
    re.IGNORECASE,
    digit_within=3,
    digits=3,
)
_DOTTED: Final = anchored(
    rf"{NOT_AFTER_ALNUM}(?<![0-9][.-])(?:[0-9]{{3}}\.[0-9]{{3}}\.[0-9]{{2}}\.[0-9]{{2}}|[0-9]{{3}}\.[0-9]{{2}}\.[0-9]{{2}}\.[0-9]{{3}})"
    rf"{NOT_BEFORE_ALNUM}(?!\.[0-9])",
    digit_within=0,
    digits=3,
)
"""An address of a host may look so."""
_ATTACHED: Final = anchored(
    rf"{NOT_AFTER_ALNUM}nip(?P<number>[0-9]{{10}}){NOT_BEFORE_ALNUM}", re.IGNORECASE, keys=frozenset(("ni",))
)
_PLAIN: Final = anchored(
    rf"{NOT_AFTER_ALNUM}(?<![0-9][.+-])(?<!\+)(PL[ \u00a0-]?)?[0-9]{{10}}{NOT_BEFORE_ALNUM}(?![.-][0-9])",
    re.IGNORECASE,
    digit_within=3,
    digits=10,
)


class NipRecognizer(TextRecognizer):
    """Bare digits need a context word: one number of ten digits in eleven passes the check."""

    entity = "PL_NIP"
    fewest_digits = 10
    digits_in_a_row = 3
    context_window = ContextWindow(before=120)

    def candidates(self, reading: Reading) -> Iterable[Candidate]:
        for match in _GROUPED.finditer(reading):
            if is_nip(digits_of(match[0])):
                yield Candidate(*match.span(), score=0.75 if match[1] or "-" in match[0] else 0.6, score_in_context=1.0)
        for match in _PLAIN.finditer(reading):
            if is_nip(digits_of(match[0])):
                yield Candidate(*match.span(), score=0.75 if match[1] else 0.2, score_in_context=1.0)
        for match in _DOTTED.finditer(reading):
            if is_nip(digits_of(match[0])):
                yield Candidate(*match.span(), score=0.2, score_in_context=1.0)
        for match in _ATTACHED.finditer(reading):
            if is_nip(match["number"]):
                yield Candidate(*match.span("number"), score=1.0)
