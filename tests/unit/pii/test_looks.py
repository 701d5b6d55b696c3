"""What is found out about all words at once is what Python's own methods say of each."""

from __future__ import annotations

import re

import pytest

from app.pii.characters import kinds_of, words_of
from app.pii.looks import _before, _cases, _style
from tests.unit.pii.test_reading import TEXTS

ODD = "".join(map(chr, range(0x2200)))
"""Letters of many scripts, digits that are none of ours, letters in circles, ligatures with a capital in them."""
WORDS = (
    "a A 1 ab AB Ab aB abC 12 a1 1a \u01c5 \u01c5a A\u01c5 \u00b2 1\u00b2 \u0661 "
    "\u4e00 A\u4e00 a\u4e00 \u4e00a \u24d0 \u2170"
)


def case(word: str) -> int:
    """Return the place of a word's case in the look's vector."""
    if word.isdigit():
        return 4
    if any(map(str.isdigit, word)):
        return 5
    if word.islower():
        return 0
    if word.isupper():
        return 6 if len(word) == 1 else 2
    return 1 if word[1:].islower() else 3


def before(text: str, start: int) -> int:
    """Return the place of what stands before a word."""
    shorn = text[:start].rstrip(" \t\u00a0")
    if not shorn or shorn[-1] == "\n":
        return 0
    if shorn[-1].isalnum():
        return 1
    marks = dict(zip(":,.!?@_/-\"'\u201e(", (2, 3, 4, 4, 4, 5, 6, 7, 8, 9, 9, 9, 10), strict=True))
    return marks.get(shorn[-1], 11)


@pytest.mark.parametrize("text", [ODD, WORDS, *TEXTS[::8]])
def test_words_look_as_each_does_alone(text: str) -> None:
    kinds = kinds_of(text)
    starts, _ = words_of(kinds)
    words = list(re.finditer(r"[^\W_]+", text))
    if words:
        assert _cases(kinds, starts).tolist() == [case(word[0]) for word in words]
        assert _before(kinds, starts).tolist() == [before(text, word.start()) for word in words]
    upper, lower = sum(map(str.isupper, text)), sum(map(str.islower, text))
    assert _style(kinds) == (1 if upper == 0 else 2 if upper > lower else 0)
