"""Brings a text into the form that detection reads: look-alikes folded, hidden characters out, encodings undone.

Everything is linear in the text's length, and an ordinary text passes through calls that run at C speed: one RE2
pass (the gate) tells which of the decoders could possibly apply, and the others are never tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.detection.normalise.canonical import canonical_form, fold_diacritics
from app.detection.normalise.characters import reveal
from app.detection.normalise.gate import Gate
from app.detection.normalise.layers import Layer, find_layers
from app.detection.normalise.offsets import compose

__all__ = ["Layer", "PreparedText", "prepare"]


@dataclass(frozen=True, slots=True)
class PreparedText:
    """A text, its canonical form, and what was hidden in it."""

    original: str
    canonical: str
    """Compatibility forms and look-alikes resolved, hidden characters removed, casefolded, white space runs collapsed
    (to a line break when the run holds one, else to one blank). Always encodable as UTF-8."""
    folded: str
    """`canonical` without the diacritics of Latin letters and with typewriter quotes and dashes; same length."""
    offsets: Sequence[int]
    """For each index of `canonical`, and for its end, the index in `original`."""
    signals: tuple[str, ...]
    """What was unusual about the characters: zero_width, bidi_control, tag_characters, variation_selectors,
    homoglyphs, styled_letters, combining_flood, nul_bytes, control_characters, lone_surrogates."""
    layers: tuple[Layer, ...]
    """Other readings of the text or of a part of it."""

    def original_span(self, start: int, end: int) -> tuple[int, int]:
        """Return the code points of the original behind `canonical[start:end]`, end exclusive."""
        if start >= end:
            return self.offsets[start], self.offsets[start]
        return self.offsets[start], max(self.offsets[end], self.offsets[end - 1] + 1)


def prepare(text: str) -> PreparedText:
    """Return the text as detection reads it. Accepts any string, lone surrogates included."""
    visible, to_original, signals, gates = reveal(text)
    canonical, to_visible = canonical_form(visible, Gate.UNTIDY in gates)
    folded = fold_diacritics(canonical)
    layers = find_layers(text, visible, to_original, canonical, signals, gates)
    return PreparedText(text, canonical, folded, compose(to_visible, to_original), signals, layers)
