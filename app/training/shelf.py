"""All that the encoder learns from, as arrays. What an epoch holds depends on the seed and its number alone.

Needs numpy and nothing of the project but its errors, so that a machine with a GPU can train from the file alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from app.errors import VigilError

LONGEST: Final = 320
"""Sub-words of an attack that are shown whole: where in it the attack stands is not known."""
WINDOW: Final = 256
"""Sub-words of a harmless text that are shown, as many as a window of the service; the start token counts in both."""
DISGUISED: Final = 0.12
"""Share of own texts that an epoch shows in a disguise, attacks and harmless ones alike, so that what undoing a
disguise leaves behind says nothing."""
CUT_WEIGHT: Final = 0.4
"""Of a piece of a longer attack: it may well be harmless."""
OWN: Final = 0
"""The reservoir of the project's own texts, all of which an epoch shows."""
NO_FAMILY: Final = -1
"""Of an attack whose family nobody told."""
COMPOSED: Final = 1
"""The reservoir of documents with a line put in."""
SPREAD: Final = 0.15
"""Batches hold texts of about one length: lengths are blurred by this share, so that batches differ by epoch."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """How much of each kind an epoch holds."""

    attacks_per_source: int
    benign_per_file: int
    composed: int
    known: float = 1.0
    """Share of the own texts that the encoder knows already; all others are always shown."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Texts that are learned from together; the start token is not among the sub-words yet."""

    texts: NDArray[np.int64]
    """Places in the shelf."""
    skipped: NDArray[np.int64]
    """Sub-words before the piece that is shown."""
    lengths: NDArray[np.int64]
    """Sub-words of the piece."""
    weights: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Shelf:
    """One entry for each text in every array but `ids`."""

    ids: NDArray[np.uint32]
    """The sub-words of all texts, one text after the other, without start tokens."""
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    attack: NDArray[np.bool_]
    family: NDArray[np.int64]
    """Place in the order of the families, or NO_FAMILY."""
    weights: NDArray[np.float32]
    smoothing: NDArray[np.float32]
    """How far the target is moved towards one half: doubtful labels teach less."""
    planted: NDArray[np.int64]
    """First sub-word that was planted and one past the last, or twice -1; shape (texts, 2)."""
    reservoirs: NDArray[np.int64]
    """OWN, COMPOSED, or the number of a third-party source."""
    pairs: NDArray[np.int64]
    """Number of the contrast pair, or -1."""
    disguises: NDArray[np.int64]
    """Place of the text that this one is in disguise, or -1."""
    held_out: NDArray[np.bool_]
    """Seen by no weight; measured on."""
    known: NDArray[np.bool_]
    """Whether the encoder that a training goes on from has learned from it."""

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file that `save` wrote.

        Raises:
            VigilError: another version wrote it.
        """
        with np.load(path, allow_pickle=False) as stored:
            if missing := [field.name for field in fields(cls) if field.name not in stored]:
                raise VigilError(f"{path} has no {missing[0]}: another version wrote it; name another --work")
            return cls(**{field.name: stored[field.name] for field in fields(cls)})

    def save(self, path: Path) -> None:
        """Write a file that `load` reads; one that is stopped leaves none, so that the next run writes it anew."""
        partial = path.with_name(f"{path.stem}.partial.npz")
        np.savez_compressed(partial, **{field.name: getattr(self, field.name) for field in fields(self)})
        partial.replace(path)

    def epoch(self, mixture: Mixture, seed: str, number: int, most: int) -> Iterator[Batch]:
        """Yield the batches of an epoch, of at most `most` sub-words with padding, in no order; pairs stay together."""
        digest = hashlib.sha256(f"{seed}:{number}".encode()).digest()
        chance = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        texts = self._drawn(mixture, chance)
        limits = np.where(self.attack[texts], LONGEST, WINDOW) - 1
        spare = np.maximum(self.lengths[texts] - limits, 0)
        skipped = (chance.random(len(texts)) * (spare + 1)).astype(np.int64)
        weights = self.weights[texts] * np.where((spare > 0) & self.attack[texts], np.float32(CUT_WEIGHT), 1)
        lengths = np.minimum(self.lengths[texts], limits)
        # Texts of a pair share a key, hence a place in the order, and nearly always a batch.
        unit = np.where(
            self.pairs[texts] >= 0, self.pairs[texts], self.pairs.max(initial=0) + 1 + np.arange(len(texts))
        )
        _, of_unit = np.unique(unit, return_inverse=True)
        longest = np.zeros(of_unit.max(initial=0) + 1, np.int64)
        np.maximum.at(longest, of_unit, lengths)
        key = (longest * chance.uniform(1 - SPREAD, 1 + SPREAD, len(longest)))[of_unit]
        order = np.lexsort((of_unit, key))
        bounds = _bounds(lengths[order] + 1, of_unit[order], most)
        for place in chance.permutation(len(bounds) - 1):
            chosen = order[bounds[place] : bounds[place + 1]]
            yield Batch(texts[chosen], skipped[chosen], lengths[chosen], weights[chosen].astype(np.float32))

    def _drawn(self, mixture: Mixture, chance: np.random.Generator) -> NDArray[np.int64]:
        learned = ~self.held_out & (self.disguises < 0)
        # Of a pair both texts are shown or neither.
        draws = chance.random(len(self.pairs) + int(self.pairs.max(initial=-1)) + 1)
        draw = draws[np.where(self.pairs >= 0, len(self.pairs) + self.pairs, np.arange(len(self.pairs)))]
        own = np.flatnonzero(learned & (self.reservoirs == OWN) & (~self.known | (draw < mixture.known)))
        shown = own.copy()
        disguised = np.flatnonzero((self.disguises >= 0) & np.isin(self.disguises, own))
        # One disguise of each text, another one each time, and of those a share.
        disguised = disguised[chance.permutation(len(disguised))]
        plain, first = np.unique(self.disguises[disguised], return_index=True)
        taken = chance.random(len(plain)) < DISGUISED
        shown[np.searchsorted(own, plain[taken])] = disguised[first[taken]]
        parts = [shown]
        for reservoir in range(COMPOSED, int(self.reservoirs.max(initial=0)) + 1):
            entries = np.flatnonzero(learned & (self.reservoirs == reservoir))
            if len(entries):
                harmless = not self.attack[entries[0]]
                cap = mixture.benign_per_file if harmless else mixture.attacks_per_source
                cap = mixture.composed if reservoir == COMPOSED else cap
                parts.append(chance.choice(entries, min(cap, len(entries)), replace=False))
        return np.concatenate(parts)


def _bounds(lengths: NDArray[np.int64], units: NDArray[np.int64], most: int) -> list[int]:
    """Return where batches begin, and the end: greedy, and never between the two texts of a unit."""
    bounds, longest = [0], 0
    at = 0
    while at < len(lengths):
        end = at + 1
        while end < len(lengths) and units[end] == units[at]:
            end += 1
        longer = max(longest, int(lengths[at:end].max()))
        if longer * (end - bounds[-1]) > most and at > bounds[-1]:
            bounds.append(at)
            longer = int(lengths[at:end].max())
        longest, at = longer, end
    return [*bounds, len(lengths)]
