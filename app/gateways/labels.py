"""Free-form metadata of other contracts as the flat labels that a decision is stored with."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Final

from app.contracts import MetadataValue

MOST_LABELS: Final = 32
LONGEST_KEY: Final = 64
LONGEST_VALUE: Final = 512
DEEPEST: Final = 4
"""Levels of nesting that are read."""
_NOT_A_KEY: Final = re.compile(r"[^A-Za-z0-9_.-]+", re.ASCII)


def labels(*sources: object) -> dict[str, MetadataValue]:
    """Return what of some JSON values can be stored as labels; the first source that names a label wins.

    Nested maps are joined with dots, lists with commas, long values are cut, and what still does not fit is left out:
    clients that let a text pass when the guard refuses their request must not be refused over a label.
    """
    flat: dict[str, MetadataValue] = {}
    for source in sources:
        if not isinstance(source, Mapping):
            continue
        for key, value in _flattened(source, "", DEEPEST):
            if key and len(flat) < MOST_LABELS:
                flat.setdefault(key, value)
    return flat


def _flattened(source: Mapping[object, object], prefix: str, depth: int) -> Iterator[tuple[str, MetadataValue]]:
    for name, value in source.items():
        key = (prefix + _NOT_A_KEY.sub("_", str(name)))[:LONGEST_KEY]
        if isinstance(value, Mapping):
            if depth > 1:
                yield from _flattened(value, f"{key}.", depth - 1)
        elif isinstance(value, list):
            plain = [str(each) for each in value if isinstance(each, str | int | float)]
            yield key, ",".join(plain)[:LONGEST_VALUE]
        elif isinstance(value, str):
            yield key, value[:LONGEST_VALUE]
        elif isinstance(value, bool) or (isinstance(value, int) and abs(value) < 2**53):
            yield key, value
        elif isinstance(value, int):
            yield key, str(value)[:LONGEST_VALUE] if abs(value) < 10**100 else "(a large number)"
        elif isinstance(value, float) and math.isfinite(value):
            yield key, value
