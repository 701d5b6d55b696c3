"""One text for the encoder: what was encoded or disguised stands in its place, readable."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from app.detection.normalise import Layer, PreparedText
from app.detection.normalise.layers import SEPARATOR
from app.detection.normalise.vocabulary import is_plausible, language_share

READABLE: Final = 0.5
"""Share of letters in plausible words from which a decoded text takes the place of what it was decoded from."""
CLEARER: Final = 0.25
"""By how much that share must be higher in another reading of a whole text for the text to say nothing as it stands:
words written backwards are often plausible (0.46 in the median of 275 texts, and 0.97 the other way round)."""
_JUDGED: Final = 2_000
"""Characters of a decoded text that are looked at for it."""
NEW_LETTERS: Final = 12
NEW_SHARE: Final = 0.25
"""Letters of new plausible words, and their share of all letters, from which a decoded text says something else: so do
5 of 2,809 that were disguised in one way (`app.evaluation.recovery`)."""
_WORD: Final = re.compile(r"[^\W\d_]{3,}")
_NO_WORD: Final = re.compile(r"\S{40,}")


class Piece(NamedTuple):
    """A stretch of the unfolded text."""

    start: int
    """Its first code point in the unfolded text."""
    canonical: int
    """Its first code point in the canonical text; of no meaning for a layer."""
    layer: Layer | None


@dataclass(frozen=True, slots=True)
class Unfolded:
    """The canonical text with every readable layer in place of what it was found in."""

    text: str
    pieces: tuple[Piece, ...]
    prepared: PreparedText

    def layer_in(self, start: int, end: int) -> Layer | None:
        """Return the first layer that some of `text[start:end]`, which is not empty, comes from."""
        pieces = self.pieces[self._number(start) : self._number(end - 1) + 1]
        return next((piece.layer for piece in pieces if piece.layer is not None), None)

    def original_span(self, start: int, end: int) -> tuple[int, int]:
        """Return the code points of the original behind `text[start:end]`, which is not empty; end exclusive."""
        first, last = self._original(start), self._original(end - 1)
        return min(first[0], last[0]), max(first[1], last[1])

    def _original(self, index: int) -> tuple[int, int]:
        piece = self.pieces[self._number(index)]
        if piece.layer is not None:
            return piece.layer.start, piece.layer.end
        place = piece.canonical + index - piece.start
        return self.prepared.original_span(place, place + 1)

    def _number(self, index: int) -> int:
        return bisect_right(self.pieces, index, key=lambda piece: piece.start) - 1


def unfold(prepared: PreparedText) -> Unfolded:
    """Return the text as one would read it once everything hidden in it is undone.

    What was gathered from many places stands behind it, since it cannot take the place of the text among them; and so
    does what says something else than the reading that was taken of its place, such as base64 in a text whose digits
    are also read as letters.
    """
    canonical, offsets = prepared.canonical, prepared.offsets
    if not prepared.layers and not prepared.passages:
        return Unfolded(canonical, (Piece(0, 0, None),), prepared)
    parts: list[str] = []
    pieces: list[Piece] = []
    length = at = 0

    def add(text: str, place: int, layer: Layer | None) -> None:
        nonlocal length
        if text:
            pieces.append(Piece(length, place, layer))
            parts.append(text)
            length += len(text)

    best = list(_best([layer for layer in prepared.layers if not layer.gathered]))
    for layer in sorted([*best, *_beside(best, prepared.passages)], key=lambda layer: layer.start):
        begin = bisect_left(offsets, layer.start, at, len(canonical))
        end = bisect_left(offsets, layer.end, begin, len(canonical))
        add(canonical[at:begin], at, None)
        add(layer.text, 0, layer)
        at = end
    add(canonical[at:], at, None)
    if len(best) < len(prepared.layers):
        known = _words("".join(parts))
        for layer in prepared.layers:
            if layer.gathered or (not any(layer is each for each in best) and _says_more(layer, known)):
                known |= _words(layer.text)
                add(SEPARATOR + layer.text, 0, layer)
    return Unfolded("".join(parts), tuple(pieces) or (Piece(0, 0, None),), prepared)


def _beside(best: Sequence[Layer], passages: Sequence[Layer]) -> Iterator[Layer]:
    """Yield the passages, ascending, that none of the layers, ascending and apart, stands in."""
    ends = [layer.end for layer in best]
    for passage in passages:
        place = bisect_right(ends, passage.start)
        if place == len(best) or best[place].start >= passage.end:
            yield passage


def says_nothing(prepared: PreparedText) -> bool:
    """Tell whether a text makes sense in another reading of all of it, such as backwards, and hardly any as it
    stands."""
    whole = [
        layer
        for layer in prepared.layers
        if layer.start == 0 and layer.end == len(prepared.original) and not layer.gathered
    ]
    clearest = max((readability(layer.text[:_JUDGED]) for layer in whole), default=0.0)
    return clearest >= READABLE and clearest - readability(prepared.canonical[:_JUDGED]) >= CLEARER


def _words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(text))


def _says_more(layer: Layer, known: frozenset[str]) -> bool:
    """Tell whether a decoded text is readable and much of it are plausible words that are not known; what is too long
    for a word, such as base64 that was read as leetspeak, does not count against it."""
    text = _NO_WORD.sub(" ", layer.text)
    words = _WORD.findall(text)
    new = sum(len(word) for word in words if word not in known and is_plausible(word))
    return new >= max(NEW_LETTERS, NEW_SHARE * sum(map(len, words))) and readability(text[:_JUDGED]) >= READABLE


def _best(layers: Sequence[Layer]) -> Iterator[Layer]:
    """Yield of layers that overlap the one with most readable text, in the order of the text."""
    rated = [(readability(layer.text[:_JUDGED]), layer) for layer in layers]
    readable = [(share * (layer.end - layer.start), layer) for share, layer in rated if share >= READABLE]
    readable.sort(key=lambda entry: (entry[1].start, -entry[1].end))
    reached, best = 0, None
    for worth, layer in readable:
        if best is not None and layer.start >= reached:
            yield best[1]
            best = None
        if best is None or worth > best[0]:
            best = (worth, layer)
        reached = max(reached, layer.end)
    if best is not None:
        yield best[1]


def readability(text: str) -> float:
    """Return the share of letters in plausible words, 0 to 1; in scripts whose words are not known, of letters."""
    latin = sum("a" <= character <= "z" for character in text)
    letters = sum(map(str.isalpha, text))
    if 2 * latin >= letters:
        return language_share(text)
    return letters / max(1, len(text) - text.count(" "))
