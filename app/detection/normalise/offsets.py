"""Where the characters of a rewritten text came from."""

from __future__ import annotations

import re
import sys
from array import array
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Offsets: TypeAlias = "range | array[int]"
"""For each index of a text, and for its end, the index in the text it was made from; a range is the identity."""


def rewrite(text: str, pattern: re.Pattern[str], replace: Callable[[str], str]) -> tuple[str, Offsets]:
    """Replace each match by at most one character; return the new text and its offsets in the old one."""
    spans = [match.span() for match in pattern.finditer(text)]
    replacements = [replace(text[start:end]) for start, end in spans]
    kept_from = [0, *(end for _, end in spans)]
    kept_to = [*(start for start, _ in spans), len(text)]
    pieces = [text[start:end] for start, end in zip(kept_from, kept_to, strict=True)]
    # A replacement stands where its match began, so it continues the range before it.
    ends = [start + len(piece) for (start, _), piece in zip(spans, replacements, strict=True)] + [len(text) + 1]
    offsets = array("I", chain.from_iterable(map(range, kept_from, ends)))
    return "".join(chain.from_iterable(zip(pieces, [*replacements, ""], strict=True))), offsets


def lengths_table(lengths: Mapping[str, int]) -> npt.NDArray[np.uint8]:
    """Return how long the form of every code point is: 1 for all that are not named."""
    table = np.ones(sys.maxunicode + 1, dtype=np.uint8)
    for character, length in lengths.items():
        table[ord(character)] = length
    return table


def spread_forms(
    text: str,
    table: npt.NDArray[np.uint8],
    exceptions: tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]] | None = None,
) -> Offsets:
    """Return the offsets in `text` of the text in which every character is replaced by its form, as long as the table
    says; `exceptions` are places and how long the forms are there."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    repeats = np.append(table[points], np.uint8(1))
    if exceptions is not None:
        repeats[exceptions[0]] = exceptions[1]
    return packed(np.repeat(places(len(text)), repeats))


def packed(offsets: npt.NDArray[np.uint32]) -> Offsets:
    packed: array[int] = array("I")
    packed.frombytes(offsets.tobytes())
    return packed


def places(length: int) -> npt.NDArray[np.uint32]:
    return np.arange(length + 1, dtype=np.uint32)


def positions(text: str, character: str) -> Iterator[int]:
    position = text.find(character)
    while position >= 0:
        yield position
        position = text.find(character, position + 1)


def compose(inner: Offsets, outer: Offsets) -> Offsets:
    """Return `outer[i] for i in inner`; a range is the identity."""
    if isinstance(inner, range):
        return outer
    if isinstance(outer, range):
        return inner
    return packed(np.frombuffer(outer, np.uint32)[np.frombuffer(inner, np.uint32)])
