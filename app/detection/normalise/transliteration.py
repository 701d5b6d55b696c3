"""Latin words in Cyrillic or Greek letters, which stand for the letters that they sound like."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import accumulate
from typing import Final

from app.detection.normalise.encodings import Found
from app.detection.normalise.gate import FREQUENT, LATIN_SOUNDS, new_triggers
from app.detection.normalise.vocabulary import LONGEST_WORD, RANKS, likeliest

_WORD: Final = re.compile(rf"(?<!\w)[{''.join(LATIN_SOUNDS)}]+(?!\w)", re.IGNORECASE)
_LIKELIEST: Final = str.maketrans({letter: sounds[0] for letter, sounds in LATIN_SOUNDS.items()})
_MOST_READINGS: Final = 96
"""Readings of one word that are tried; past that the likelier letters are taken."""
_MOST_WORDS: Final = 150
"""Different words of which every reading is tried: about 60 ms of work at worst."""
_SHORTEST: Final = 3
"""Letters of a word that counts: shorter ones are words in most readings."""
_FEWEST_LETTERS: Final = 12
"""Letters of known words that a stretch must hold beyond those of unknown ones."""
_FUNCTION_WORDS: Final = frozenset(word for word in FREQUENT if len(word) >= _SHORTEST)
_FEWEST_FUNCTION_WORDS: Final = 2
"""Different ones that show a sentence, in a text without words of attacks: names and loan words are alike in many
languages."""


def transliterated_text(visible: str) -> Iterator[Found]:
    """Read the stretch of words in these letters that makes most known words of Latin letters."""
    words = list(_WORD.finditer(visible))
    lowered = [word[0].casefold() for word in words]
    readings: dict[str, str] = {}
    for word in lowered:
        if word not in readings:
            tried = len(readings) < _MOST_WORDS and len(word) <= LONGEST_WORD
            readings[word] = _likeliest_reading(word) if tried else word.translate(_LIKELIEST)
    stretch = _stretch([_gain(word, readings[word]) for word in lowered])
    if stretch is None:
        return
    first, last = stretch
    if 2 * (last - first) >= len(words):  # What is unknown in both readings belongs to it.
        first, last = 0, len(words)
    start, end = words[first].start(), words[last - 1].end()
    text = _WORD.sub(lambda word: readings[word[0].casefold()], visible[start:end])
    function_words = _FUNCTION_WORDS.intersection(readings[word] for word in lowered[first:last])
    if len(function_words) >= _FEWEST_FUNCTION_WORDS or new_triggers(text, visible):
        yield Found("transliteration", text, start, end)


def _gain(word: str, reading: str) -> int:
    """Return how many letters of known words the reading wins, below 0 where it makes no word of a long one."""
    if len(word) < _SHORTEST:
        return 0
    return len(word) if reading in RANKS and word not in RANKS else -len(word)


def _stretch(gains: list[int]) -> tuple[int, int] | None:
    """Return the first and one past the last word of the stretch with the largest sum, if that is large enough."""
    totals = [0, *accumulate(gains)]
    lowest, best, found = 0, _FEWEST_LETTERS - 1, None
    for place, total in enumerate(totals):
        if total - totals[lowest] > best:
            best, found = total - totals[lowest], (lowest, place)
        if total < totals[lowest]:
            lowest = place
    return found


def _likeliest_reading(word: str) -> str:
    """Return the most frequent word that the letters may stand for, or what looks most like one."""
    readings = [""]
    for letter in word:
        sounds = LATIN_SOUNDS[letter]
        if len(readings) * len(sounds) > _MOST_READINGS:
            sounds = sounds[:1]
        readings = [reading + sound for reading in readings for sound in sounds]
    known = [reading for reading in readings if reading in RANKS]
    return min(known, key=RANKS.__getitem__) if known else likeliest(readings)
