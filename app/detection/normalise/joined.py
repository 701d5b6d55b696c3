"""Words written without anything between them, which a model reads as if there were blanks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from app.detection.normalise.encodings import Found
from app.detection.normalise.gate import FREQUENT, triggers_in
from app.detection.normalise.vocabulary import MAX_SEGMENTED, RANKS, segment

FEWEST_LETTERS: Final = 20
_FEWEST_WORDS: Final = 4
"""In compounds and identifiers there are fewer, and hardly any function word."""
_KNOWN_SHARE: Final = 0.8
"""Share of the letters that must be in known words."""
_TOKEN: Final = re.compile(r"\S{20,}")
_NO_PROSE: Final = re.compile(r"[/\\@_=<>#]|[a-z][A-Z]")
"""What addresses, tags and identifiers hold, whose words are names."""
_RUN: Final = re.compile(rf"[^\W\d_]{{{FEWEST_LETTERS},}}")
_FUNCTION_WORDS: Final = frozenset(word for word in FREQUENT if len(word) > 2)


def joined_words_text(visible: str) -> Iterator[Found]:
    """Cut long runs of letters that hold a word of attacks into the known words that they are made of."""
    room = MAX_SEGMENTED
    for token in _TOKEN.finditer(visible):
        if _NO_PROSE.search(token[0]):
            continue
        for run in _RUN.finditer(visible, *token.span()):
            letters = run[0].casefold()
            if len(letters) <= room and triggers_in(letters):
                room -= len(letters)
                words = segment(letters)
                if _is_sentence(words):
                    yield Found("joined_words", " ".join(words), *run.span())


def _is_sentence(words: list[str]) -> bool:
    known = sum(len(word) for word in words if word in RANKS)
    return (
        len(words) >= _FEWEST_WORDS
        and known >= _KNOWN_SHARE * sum(map(len, words))
        and not _FUNCTION_WORDS.isdisjoint(words)
    )
