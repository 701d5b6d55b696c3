"""Decides between overlapping spans and replaces values by typed, numbered placeholders."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

_PLACEHOLDER: Final = re.compile(r"<([A-Za-z][A-Za-z0-9_]{0,40}?)_([0-9]{1,9})>")
_WHITE_SPACE: Final = re.compile(r"\s+")
_SEPARATORS: Final = re.compile(r"[\s().\-–/]+")
NAME_ENTITIES: Final = frozenset({"PERSON", "LOCATION", "ORGANIZATION", "NRP"})
"""Entities found by reading words rather than by the shape of the value."""


@dataclass(frozen=True, slots=True)
class Span:
    """One found value: code point offsets of the original text, end exclusive; score from 0 to 1."""

    entity: str
    start: int
    end: int
    score: float


def resolve_overlaps(text: str, spans: Iterable[Span]) -> list[Span]:
    """Return spans in order that do not overlap and cover every letter and digit that the given spans cover.

    The higher score wins, then the longer span. What a losing name leaves uncovered stays a name of its own; what
    a losing number or address leaves uncovered joins the winner, so no part of a value is left standing.
    """
    ordered = sorted(set(spans), key=lambda span: span.start)
    resolved: list[Span] = []
    group: list[Span] = []
    group_end = -1
    for span in ordered:
        if group and span.start >= group_end:
            resolved += _resolve_group(text, group)
            group = []
        group.append(span)
        group_end = max(group_end, span.end) if len(group) > 1 else span.end
    if group:
        resolved += _resolve_group(text, group)
    return resolved


def _resolve_group(text: str, group: list[Span]) -> list[Span]:
    if len(group) == 1:
        return group
    ranked = sorted(group, key=lambda span: (-span.score, span.start - span.end, span.start, span.entity))
    shapes = [span for span in ranked if span.entity not in NAME_ENTITIES]
    names = [span for span in ranked if span.entity in NAME_ENTITIES]
    kept = _merge(ranked[0], shapes) if shapes and shapes[0] == ranked[0] else _merge_all(shapes)
    for name in _merge_all(names) if len({name.entity for name in names}) == 1 else names:
        kept += _uncovered(text, name, kept)
    return sorted(kept, key=lambda span: span.start)


def _merge(first: Span, ranked: list[Span]) -> list[Span]:
    return _merge_all([first, *(span for span in ranked if span != first)])


def _merge_all(ranked: Sequence[Span]) -> list[Span]:
    """Join spans that overlap each other into one, which keeps the entity and score of the best."""
    best = {span: rank for rank, span in enumerate(ranked)}
    merged: list[Span] = []
    for span in sorted(ranked, key=lambda span: span.start):
        if merged and span.start < merged[-1].end:
            last = merged[-1]
            winner = span if best[span] < best.get(last, -1) else last
            joined = replace(winner, start=last.start, end=max(last.end, span.end))
            best[joined] = min(best[span], best.get(last, best[span]))
            merged[-1] = joined
        else:
            merged.append(span)
    return merged


def _uncovered(text: str, span: Span, kept: list[Span]) -> list[Span]:
    """Return the parts of a span outside all kept spans that still hold at least two letters or digits."""
    parts: list[Span] = []
    position = span.start
    for other in sorted(kept, key=lambda other: other.start):
        if other.end <= position or other.start >= span.end:
            continue
        if other.start > position:
            parts.append(replace(span, start=position, end=other.start))
        position = max(position, other.end)
    if position < span.end:
        parts.append(replace(span, start=position, end=span.end))
    return [part for part in (_trimmed(text, part) for part in parts) if part is not None]


def _trimmed(text: str, span: Span) -> Span | None:
    start, end = span.start, span.end
    while start < end and not text[start].isalnum():
        start += 1
    while end > start and not text[end - 1].isalnum():
        end -= 1
    return replace(span, start=start, end=end) if end - start >= 2 else None


def placeholders(text: str) -> list[tuple[int, int]]:
    """Return the offsets of everything in a text that already looks like a placeholder, in order."""
    return [match.span() for match in _PLACEHOLDER.finditer(text)]


def redact(text: str, spans: Sequence[Span]) -> str:
    """Replace spans (in order, not overlapping) by `<ENTITY_n>`; the same value gets the same placeholder.

    Values are the same when they differ only in case, white space, or separators between digits. Numbers that
    already stand in the text in a placeholder of the same entity are skipped, so that every new one is unambiguous.
    """
    taken: dict[str, set[int]] = defaultdict(set)
    for match in _PLACEHOLDER.finditer(text):
        taken[match[1].upper()].add(int(match[2]))
    next_number: dict[str, int] = defaultdict(lambda: 1)
    names: dict[tuple[str, str], str] = {}
    pieces: list[str] = []
    position = 0
    for span in spans:
        key = (span.entity, _canonical(text[span.start : span.end]))
        if key not in names:
            number = next_number[span.entity]
            while number in taken[span.entity]:
                number += 1
            next_number[span.entity] = number + 1
            names[key] = f"<{span.entity}_{number}>"
        pieces += text[position : span.start], names[key]
        position = span.end
    pieces.append(text[position:])
    return "".join(pieces)


def _canonical(value: str) -> str:
    if any(character.isdigit() for character in value):
        return _SEPARATORS.sub("", value).casefold()
    return _WHITE_SPACE.sub(" ", value).casefold()
