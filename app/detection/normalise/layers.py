"""Collects what is hidden in a text, and what is hidden in that, within a budget."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from app.detection.normalise import encodings, markup, radix, readings
from app.detection.normalise.canonical import canonical_form, fold_diacritics
from app.detection.normalise.characters import reveal
from app.detection.normalise.encodings import Found
from app.detection.normalise.gate import Gate, triggers_in
from app.detection.normalise.joined import joined_words_text
from app.detection.normalise.passages import passages_of
from app.detection.normalise.transliteration import transliterated_text

MAX_DEPTH: Final = 3
"""How many encodings around each other are undone."""
BUDGET_FACTOR: Final = 4
"""Decoded characters kept for one text: this many times its length, at least MIN_BUDGET and at most MAX_BUDGET."""
MIN_BUDGET: Final = 2_000
MAX_BUDGET: Final = 100_000
"""As much as the longest text: what is decoded costs as much again as what was sent, however often it is wrapped."""
MAX_NESTED: Final = 20_000
"""Characters of decoded text that are searched again, so that hostile text does not multiply the work."""
MAX_LAYERS: Final = 40
"""Most layers kept for one text: each is matched and scored on its own. What is found beyond, the last one gathers."""

SEPARATOR: Final = "\n"
"""Between texts that are gathered."""

DECODERS: Final[dict[int, Callable[[str], Iterator[Found]]]] = {
    Gate.TOKEN: encodings.token_text,
    Gate.PERCENT: encodings.percent_text,
    Gate.ENTITY: encodings.entity_text,
    Gate.ESCAPE: encodings.escape_text,
    Gate.HEX_PAIRS: encodings.hex_pairs_text,
    Gate.BINARY: encodings.binary_text,
    Gate.DECIMAL: encodings.decimal_text,
    Gate.SPACED: readings.spaced_text,
    Gate.LEET: readings.leet_text,
    Gate.UPSIDE_DOWN: readings.upside_down_text,
    Gate.PIECES: encodings.pieces_text,
    Gate.OCTAL: encodings.octal_text,
    Gate.QUOTED_PRINTABLE: encodings.quoted_printable_text,
    Gate.MORSE: readings.morse_text,
    Gate.LETTER_EMOJI: readings.letter_emoji_text,
    Gate.PARTED_WORDS: markup.parted_text,
    Gate.QUOTED_WORDS: markup.quoted_words_text,
    Gate.TRANSLITERATED: transliterated_text,
    Gate.ASCII85: radix.ascii85_text,
    Gate.NAMED_RADIX: radix.named_radix_text,
    Gate.JOINED_WORDS: joined_words_text,
}
"""What each gate lets through to."""
EXCHANGES: Final[dict[int, Callable[[str, readings.Words], Iterator[Found]]]] = {
    Gate.ROT13: readings.rot13_text,
    Gate.ATBASH: readings.atbash_text,
    Gate.CAESAR: readings.caesar_text,
    Gate.REVERSED: readings.reversed_text,
}
"""The same for readings word by word, which share the list of words."""
_ENCODED: Final = DECODERS.keys() | EXCHANGES.keys()


@dataclass(frozen=True, slots=True)
class Layer:
    """A text found inside the text by undoing an encoding."""

    kind: str
    """Name of the encoding undone last, such as `base64` or `leetspeak`."""
    text: str
    """The decoded text in canonical form."""
    folded: str
    """`text` without the diacritics of Latin letters; same length."""
    start: int
    """First code point of the original that it came from."""
    end: int
    """One past the last code point of the original that it came from."""
    gathered: bool = False
    """Whether it came from several places between the two, with text of the original among them."""


@dataclass(frozen=True, slots=True)
class _Part:
    """What a decoder made of a stretch of the original."""

    kind: str
    text: str
    start: int
    end: int
    gathered: bool = False
    """Whether it was made of several stretches."""


@dataclass(slots=True)
class _Harvest:
    """Layers found so far and what may still be spent."""

    budget: int
    nested: int
    """Characters of layers that may still be searched for what is wrapped inside."""
    layers: list[Layer]
    seen: set[str]
    rest: list[Layer] = field(default_factory=list)
    """What is found beyond the layers that stand alone; each but a single one has been gathered already."""

    def add(self, parts: Iterable[_Part], depth: int) -> None:
        """Keep the decoded texts that are new, and whatever is wrapped inside them, at most `depth` deep.

        Those beyond the layers that stand alone are read as one text, so that any number of them costs what their
        length does. The shortest are read first: a reading of all of a long text takes none of them its room.
        """
        while depth:
            inner: list[_Part] = []
            fresh = list({part.text: part for part in reversed(list(parts))}.values())[::-1]
            alone, beyond = _told_apart(fresh, MAX_LAYERS - 1 - len(self.layers))
            for part in sorted([*alone, *beyond], key=lambda part: len(part.text)):
                (self.rest if part in beyond else self.layers).extend(self._read(part, inner, depth))
            parts, depth = inner, depth - 1

    def _read(self, part: _Part, inner: list[_Part], depth: int) -> Iterator[Layer]:
        """Yield a text's layer, unless there is no room or nothing new in it; add to `inner` what is wrapped inside."""
        if self.budget <= 0:
            return
        visible, _, _, gates = reveal(part.text[: self.budget])
        canonical, _ = canonical_form(visible, Gate.UNTIDY in gates)
        if not canonical or canonical in self.seen:
            return
        self.budget -= len(canonical)
        self.seen.add(canonical)
        yield Layer(part.kind, canonical, fold_diacritics(canonical), part.start, part.end, part.gathered)
        if depth > 1 and self.nested > 0 and not _ENCODED.isdisjoint(gates):
            searched = visible[: self.nested]
            self.nested -= len(searched)
            inner += (_Part(each.kind, each.text, part.start, part.end) for each in _decode(searched, gates))

    def collected(self) -> tuple[Layer, ...]:
        """Return the layers, with what is found beyond those that stand alone in one."""
        if len(self.rest) < 2:
            return (*self.layers, *self.rest)
        gathered = Layer(
            self.rest[0].kind,
            SEPARATOR.join(layer.text for layer in self.rest),
            SEPARATOR.join(layer.folded for layer in self.rest),
            min(layer.start for layer in self.rest),
            max(layer.end for layer in self.rest),
            gathered=True,
        )
        return (*self.layers, gathered)


def _told_apart(parts: list[_Part], room: int) -> tuple[list[_Part], list[_Part]]:
    """Return those that stand alone, and the others as one, if there are any.

    There is room for those that show most of TRIGGERS, and among equals for the longest, so that an attack stands alone
    among any number of harmless texts.
    """
    if len(parts) <= room:
        return parts, []
    worth = [(len(triggers_in(part.text)), len(part.text)) for part in parts]
    ranked = sorted(range(len(parts)), key=worth.__getitem__, reverse=True)
    alone, others = ([parts[place] for place in sorted(places)] for places in (ranked[:room], ranked[room:]))
    if len(others) < 2:
        return alone, others
    text = SEPARATOR.join(part.text for part in others)
    start, end = min(part.start for part in others), max(part.end for part in others)
    return alone, [_Part(others[0].kind, text, start, end, gathered=True)]


def find_passages(visible: str, to_original: Sequence[int]) -> tuple[Layer, ...]:
    """Return the passages of a text as `reveal` shows it that people do not see, in their order and apart."""
    passages = []
    for each in passages_of(visible):
        shown, _, _, gates = reveal(each.text)
        text, _ = canonical_form(shown, Gate.UNTIDY in gates)
        passages.append(Layer(each.kind, text, fold_diacritics(text), to_original[each.start], to_original[each.end]))
    return tuple(passages)


def find_layers(
    original: str,
    visible: str,
    to_original: Sequence[int],
    canonical: str,
    signals: Sequence[str],
    gates: Sequence[int],
) -> tuple[Layer, ...]:
    """Return everything that the text hides, at most MAX_LAYERS layers and MAX_BUDGET characters.

    Args:
        original: the text as it came; hidden characters are read from it.
        visible: the text as `reveal` shows it.
        to_original: for each index of `visible`, and for its end, the index in `original`.
        canonical: the text's canonical form; a layer that equals it says nothing.
        signals: what was unusual about its characters.
        gates: what the gate let through of `visible`.
    """
    smuggled = not encodings.SMUGGLING.isdisjoint(signals)
    if not smuggled and _ENCODED.isdisjoint(gates):
        return ()
    budget = min(max(BUDGET_FACTOR * len(original), MIN_BUDGET), MAX_BUDGET)
    harvest = _Harvest(budget, MAX_NESTED, [], {canonical})
    smuggling = chain(encodings.tag_text(original), encodings.selector_text(original)) if smuggled else ()
    hidden = (_Part(each.kind, each.text, each.start, each.end) for each in smuggling)
    shown = (
        _Part(each.kind, each.text, to_original[each.start], to_original[each.end]) for each in _decode(visible, gates)
    )
    harvest.add(chain(hidden, shown), MAX_DEPTH)
    return harvest.collected()


def _decode(visible: str, gates: Sequence[int]) -> Iterator[Found]:
    """Yield what each decoder that the gate lets through makes of the text, parts of it before readings of all of it,
    one of which may take the whole budget."""
    words: readings.Words | None = None
    for gate in sorted(gates):
        if decoder := DECODERS.get(gate):
            yield from decoder(visible)
        elif exchange := EXCHANGES.get(gate):
            words = readings.words_of(visible) if words is None else words
            yield from exchange(visible, words)
