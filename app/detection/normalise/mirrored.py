"""Tells from marks and capitals alone whether a text of any language was written from its end.

Of 172,200 texts of `data` eight are taken for it, of which two are not: a list of chat commands (`!help`), and one of
file names (`.rs`).
"""

from __future__ import annotations

import re
from typing import Final

from app.detection.normalise.vocabulary import RANKS

_BACKWARDS: Final = re.compile(r"(?<!\S)(?:[.,!?;:]+(?=[^\W\d_]{2})|[^\W\d_A-Z]{2,}[A-Z](?!\S))")
"""Words with marks right before them, and words of small letters that end with a capital."""
_FORWARDS: Final = re.compile(r"(?<=[^\W\d_])[.,!?;:]+(?!\S)")
_FEWEST: Final = 3
_MORE: Final = 4
"""How many times as many signs must speak for it as against it."""
_WORDS: Final = 20
"""Words to one such sign, at most."""
_WORD: Final = re.compile(r"[^\W\d_]{2,}")
_OWN_SHARE: Final = 0.25
_OWN_LETTERS: Final = 8
"""Letters of known words of three letters and more, as a share and in all, from which a text is left as it is."""


def is_set_backwards(text: str) -> bool:
    """Return whether marks stand before words, and capitals at their ends."""
    backwards = len(_BACKWARDS.findall(text))
    if backwards < _FEWEST or backwards * _WORDS < len(text.split()):
        return False
    return backwards > _MORE * len(_FORWARDS.findall(text))


def holds_own_words(text: str, beside: tuple[int, int]) -> bool:
    """Return whether a text, but for what stands between two places, is made of words as it stands."""
    begin, end = beside
    words = _WORD.findall(f"{text[:begin]} {text[end:]}".casefold())
    known = sum(len(word) for word in words if len(word) > 2 and word in RANKS)
    return known >= max(_OWN_LETTERS, _OWN_SHARE * sum(map(len, words)))
