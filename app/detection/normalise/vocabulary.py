"""Tells language from letters that only look like it: the words of data/detection, most frequent first."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Final

WORDS_FILE: Final = Path(__file__).with_name("words.txt")
"""One word a line, written by `python -m app.evaluation.vocabulary`."""
LONGEST_WORD: Final = 18
MAX_SEGMENTED: Final = 1_200
"""Letters of one text that are cut into words: about 10 ms of work."""
_WORD: Final = re.compile(r"[^\W\d_]+")
_USUAL: Final = 3
"""Words of the list that must share a trigram."""
_PLAUSIBLE: Final = 0.8
"""Share of a word's trigrams that must be usual. So 98 % of the letters of English texts that the list was not made
from stand in plausible words and 82 % of Polish ones, but 18 and 2 % after rot13, 54 and 29 % from their end."""
_SHORTEST: Final = 2
"""Letters of a word that may count as language."""
_LOOKED_AT: Final = 100
"""Trigrams of a text that are looked at to tell whether it is written words; of more, every second or third one."""
_UNKNOWN_WORD: Final = 11.0
_UNKNOWN_LETTER: Final = 2.4
"""What an unknown word, and each of its letters, costs against the words of the list, whose costs are 4 to 13."""


def _load() -> dict[str, int]:
    """Return the rank of every word, 1 for the most frequent, also as it is written without diacritics."""
    ranks: dict[str, int] = {}
    for rank, word in enumerate(WORDS_FILE.read_text(encoding="utf-8").split(), start=1):
        ranks.setdefault(word, rank)
        if not word.isascii():
            bare = unicodedata.normalize("NFD", word.replace("ł", "l"))
            ranks.setdefault("".join(letter for letter in bare if not unicodedata.combining(letter)), rank)
    return ranks


def _usual_trigrams() -> dict[str, int]:
    """Return in how many words every usual trigram stands; the edges of a word are written ^ and $."""
    count = Counter(f"^{word}$"[at : at + 3] for word in RANKS for at in range(len(word)))
    return {trigram: times for trigram, times in count.items() if times >= _USUAL}


RANKS: Final = _load()
_TRIGRAMS: Final = _usual_trigrams()
_COSTS: Final = {word: math.log(rank * math.log(len(RANKS) + 2)) for word, rank in RANKS.items()} | {
    "a": 3.0, "i": 3.0, "w": 6.5, "z": 7.0, "o": 9.5, "u": 9.0, "y": 10.0,
}  # fmt: skip
"""What a word costs in a segmentation: the negative logarithm of its share after Zipf's law. Single letters are words
of English and Polish."""


def is_plausible(word: str) -> bool:
    """Tell whether a casefolded word is known, or is put together like one: nearly all its trigrams are usual."""
    if word in RANKS:
        return True
    size = left = len(word)
    if size <= 2:
        return False
    edged, fewest = f"^{word}$", _PLAUSIBLE * size
    for at in range(size):
        if edged[at : at + 3] not in _TRIGRAMS:
            left -= 1
            if left < fewest:
                return False
    return True


def likeliest(words: Iterable[str]) -> str:
    """Return the word with most usual trigrams, and among equals the one whose trigrams stand in most words."""

    def likeness(word: str) -> tuple[int, int]:
        edged = f"^{word}$"
        times = [_TRIGRAMS.get(edged[at : at + 3], 0) for at in range(len(word))]
        return len(times) - times.count(0), sum(times)

    first, *others = words
    return max((first, *others), key=likeness) if others else first


def language_share(text: str, shortest: int = _SHORTEST) -> float:
    """Return the share of letters (0 to 1) in plausible words of `shortest` letters and more; 0 without any letter."""
    words = _WORD.findall(text.casefold())
    letters = sum(map(len, words))
    return (
        sum(len(word) for word in words if len(word) >= shortest and is_plausible(word)) / letters if letters else 0.0
    )


def language_reaches(text: str, share: float) -> bool:
    """Tell whether the language share of a text reaches `share`; of what falls short, only so much is looked at."""
    words = _WORD.findall(text.casefold())
    left = letters = sum(map(len, words))
    for word in words:
        if len(word) < _SHORTEST or not is_plausible(word):
            left -= len(word)
            if left / letters < share:
                return False
    return letters > 0


def usual_share(text: str) -> float:
    """Return the share (0 to 1) of usual trigrams among those of the letters of a casefolded text, of which every third
    character at least counts for one: 0.65 and more for written words, also without anything between them."""
    usual = total = 0
    step = 1 + len(text) // _LOOKED_AT
    for run in _WORD.findall(text):
        trigrams = [run[at : at + 3] for at in range(0, len(run) - 2, step)]
        total += len(trigrams)
        usual += sum(map(_TRIGRAMS.__contains__, trigrams))
    return usual / max(total, len(text) / (3 * step), 1)


def segment(letters: str) -> list[str]:
    """Cut casefolded letters without spaces into the cheapest sequence of words (Viterbi over word costs).

    Takes time proportional to the number of letters.
    """
    size = len(letters)
    best, back = [0.0] * (size + 1), [0] * (size + 1)
    for end in range(1, size + 1):
        cheapest, start = math.inf, end - 1
        for begin in range(max(0, end - LONGEST_WORD), end):
            cost = _COSTS.get(letters[begin:end])
            if cost is None:
                cost = _UNKNOWN_WORD + _UNKNOWN_LETTER * (end - begin)
            if best[begin] + cost < cheapest:
                cheapest, start = best[begin] + cost, begin
        best[end], back[end] = cheapest, start
    cuts = [size]
    while cuts[-1] > 0:
        cuts.append(back[cuts[-1]])
    return [letters[begin:end] for begin, end in pairwise(reversed(cuts))]
