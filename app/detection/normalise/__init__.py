"""Brings a text into the form that detection reads: look-alikes folded, hidden characters out, encodings undone.

Everything is linear in the text's length, and an ordinary text passes through calls that run at C speed: one RE2
pass (the gate) tells which of the decoders could possibly apply, and the others are never tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from app.detection.normalise.canonical import canonical_form, fold_diacritics
from app.detection.normalise.characters import reveal
from app.detection.normalise.gate import GATE, Gate
from app.detection.normalise.layers import Layer, find_layers, find_passages
from app.detection.normalise.offsets import Offsets, compose
from app.detection.normalise.placeholders import read_as_names
from app.detection.normalise.readings import is_set_apart, join_letters

__all__ = ["Layer", "PreparedText", "prepare"]

SPACED: Final = "spaced_letters"
"""Signal that all letters of a text were set apart."""


@dataclass(frozen=True, slots=True)
class PreparedText:
    """A text, its canonical form, and what was hidden in it."""

    original: str
    canonical: str
    """Compatibility forms and look-alikes resolved, hidden characters removed, letters joined where the whole text sets
    them apart, casefolded, white space runs collapsed (to a line break when the run holds one, else to one blank).
    Always encodable as UTF-8."""
    folded: str
    """`canonical` without the diacritics of Latin letters and with typewriter quotes and dashes; same length."""
    offsets: Sequence[int]
    """For each index of `canonical`, and for its end, the index in `original`."""
    signals: tuple[str, ...]
    """What was unusual about the characters: zero_width, bidi_control, tag_characters, variation_selectors,
    homoglyphs, styled_letters, combining_flood, nul_bytes, control_characters, lone_surrogates, spaced_letters."""
    layers: tuple[Layer, ...]
    """Other readings of the text or of a part of it."""
    passages: tuple[Layer, ...] = ()
    """What people do not see of the text, in its order and apart, as it reads without the format around it. They stand
    in the text, so that only what reads it as a whole needs them."""

    def original_span(self, start: int, end: int) -> tuple[int, int]:
        """Return the code points of the original behind `canonical[start:end]`, end exclusive."""
        if start >= end:
            return self.offsets[start], self.offsets[start]
        return self.offsets[start], max(self.offsets[end], self.offsets[end - 1] + 1)


def prepare(text: str) -> PreparedText:
    """Return the text as detection reads it. Accepts any string, lone surrogates included."""
    visible, to_original, signals, gates = reveal(text)
    visible, to_revealed = read_as_names(visible)
    to_original = compose(to_revealed, to_original)
    if Gate.SPACED in gates:
        visible, to_original, signals, gates = _joined(visible, to_original, signals, gates)
    canonical, to_visible = canonical_form(visible, Gate.UNTIDY in gates)
    folded = fold_diacritics(canonical)
    layers = find_layers(text, visible, to_original, canonical, signals, gates)
    passages = find_passages(visible, to_original) if Gate.UNSHOWN in gates else ()
    return PreparedText(text, canonical, folded, compose(to_visible, to_original), signals, layers, passages)


def _joined(
    visible: str, to_original: Offsets, signals: tuple[str, ...], gates: Sequence[int]
) -> tuple[str, Offsets, tuple[str, ...], Sequence[int]]:
    """Join the letters of a text that sets them all apart: as it stands it has no words that could be read.

    Twice, for letters that have both blanks and signs between them.
    """
    for _ in range(2):
        found = join_letters(visible) if Gate.SPACED in gates else None
        if found is None:
            # What is set apart and makes no words is not worth a second look for passages.
            gates = [gate for gate in gates if gate != Gate.SPACED] if is_set_apart(visible) else gates
            break
        visible, to_visible = found
        to_original = compose(to_visible, to_original)
        gates = GATE.matching(visible)
        signals = tuple(dict.fromkeys((*signals, SPACED)))
    return visible, to_original, signals, gates
