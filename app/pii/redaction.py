"""Decides between overlapping spans, and does to each value what the policy's table says of its kind."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import unicodedata
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from app.pii.composing import in_ascii
from app.pii.placeholders import Mention, mentions, written
from app.redaction import REPLACE_ALL, RedactionTable
from app.tool_arguments import decoded

_PLACEHOLDER: Final = re.compile(r"<([A-Za-z][A-Za-z0-9_]{0,40}?)_([0-9]{1,9})>")
_ESCAPED: Final = re.compile(r"\\u(00[2-7][0-9A-Fa-f])")
"""What a placeholder is made of, as JSON may write it: Go's encoder does so with brackets."""
_WHITE_SPACE: Final = re.compile(r"\s+")
_SEPARATORS: Final = re.compile(r"[\s().\-\u2010-\u2015\u2212/]+")
NAME_ENTITIES: Final = frozenset({"PERSON", "LOCATION", "ORGANIZATION", "NRP"})
"""Entities found by reading words rather than by the shape of the value."""
WRITTEN_IN_GROUPS: Final = frozenset(
    {
        "PHONE_NUMBER",
        "CREDIT_CARD",
        "IBAN_CODE",
        "US_SSN",
        "PL_PESEL",
        "PL_NIP",
        "PL_REGON",
        "PL_ID_CARD",
        "PL_PASSPORT",
        "PL_LAND_REGISTER",
        "PL_KRS",
        "PASSPORT",
        "DRIVER_LICENSE",
        "UK_NINO",
        "UK_NHS",
        "UK_UTR",
        "US_TAX_ID",
        "PL_PWZ",
        "MEDICAL_RECORD",
        "INSURANCE_NUMBER",
        "VEHICLE_IDENTIFICATION_NUMBER",
        "IMEI",
        "VEHICLE_PLATE",
        "ZIP_CODE",
        "MAC_ADDRESS",
    }
)
"""Entities whose separators tell nothing; those of a date, an address or a host do: 10.1.1.12 is not 10.11.1.2."""
CASE_SENSITIVE: Final = frozenset({"API_KEY", "PASSWORD", "URL"})
"""Entities of which one in other letters is another one."""
HASH_DIGITS: Final = 12
"""Hexadecimal digits of a hash, 48 bits: among a million values of one kind, two share one with a chance of 0.2 %."""
MASK: Final = "*"


class Within(StrEnum):
    """What a value is a part of where the text is JSON."""

    STRING = "string"
    NUMBER = "number"


@dataclass(frozen=True, slots=True)
class Span:
    """One found value: code point offsets of the original text, end exclusive; score from 0 to 1."""

    entity: str
    start: int
    end: int
    score: float
    within: Within | None = None
    nesting: int = 0
    """How many JSON strings hold the JSON that it is a part of, one inside the other."""

    def value_in(self, text: str) -> str:
        """Return the value, without the escapes that it is written with."""
        value = text[self.start : self.end]
        for _ in range(self.nesting + (self.within is Within.STRING)):
            value = decoded(f'"{value}"')
        return value

    def as_written(self, substitute: str) -> str:
        """Return a substitute as the text takes it: escaped inside of strings, a string in place of a number."""
        if self.within is None:
            return substitute
        written_form = json.dumps(substitute, ensure_ascii=False) if self.within is Within.NUMBER else substitute
        for _ in range(self.nesting + (self.within is Within.STRING)):
            written_form = json.dumps(written_form, ensure_ascii=False)[1:-1]
        return written_form


@dataclass(frozen=True, slots=True)
class Placeholder:
    """One placeholder of a redacted text and what it stands for."""

    entity: str
    number: int
    spellings: tuple[str, ...] = field(repr=False)
    """How the value was written, the first one first; several when they differ in case, white space or separators."""
    order: tuple[int, ...] = ()
    """Which spelling stood at each place; empty when there is only one."""

    @property
    def name(self) -> str:
        return written(self.entity, self.number)


@dataclass(frozen=True, slots=True)
class Redaction:
    """A redacted text, and what is needed to undo it."""

    text: str = field(repr=False)
    placeholders: tuple[Placeholder, ...] = ()
    backslash_is_text: bool = False
    """Whether a backslash may stand right before a placeholder as part of the text."""


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
    best = ranked[0]
    if all(best.start <= span.start and span.end <= best.end for span in group):
        if best.entity not in NAME_ENTITIES:
            return [best]
        if all(span.entity in NAME_ENTITIES for span in group):
            part = _trimmed(text, best)
            return [] if part is None else [part]
    shapes = [span for span in ranked if span.entity not in NAME_ENTITIES]
    names = [span for span in ranked if span.entity in NAME_ENTITIES]
    kept = _merge(ranked[0], shapes) if shapes and shapes[0] == ranked[0] else _merge_all(shapes)
    for name in _merge_all(names) if len({name.entity for name in names}) == 1 else names:
        kept += uncovered(text, name, kept)
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


def uncovered(text: str, span: Span, kept: Iterable[Span | Mention]) -> list[Span]:
    """Return the parts of a span outside all kept places that still hold a letter or digit."""
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
    if (start, end) == (span.start, span.end):
        return span
    return replace(span, start=start, end=end) if end > start else None


def placeholders(text: str) -> list[tuple[int, int]]:
    """Return the offsets of everything in a text that already looks like a placeholder, in order."""
    return [match.span() for match in _PLACEHOLDER.finditer(text)]


def strictest(spans: Sequence[Span], found: Iterable[Span], table: RedactionTable) -> list[Span]:
    """Give each resolved span the kind that asks for the strictest action among all that were found in it.

    So nothing is left of an address because a link around it may stay.

    Args:
        spans: what `resolve_overlaps` made of
        found: in order and not overlapping.
        table: what is done with each kind.
    """
    if not table.entities:
        return list(spans)
    resolved = list(spans)
    ends = [span.end for span in resolved]
    for other in found:
        asked = table.of(other.entity).strictness
        place = bisect_right(ends, other.start)
        while place < len(resolved) and resolved[place].start < other.end:
            span = resolved[place]
            if asked > table.of(span.entity).strictness:
                resolved[place] = replace(other, start=span.start, end=span.end)
            place += 1
    return resolved


@dataclass(frozen=True, slots=True)
class Redactor:
    """Carries a table out on texts."""

    table: RedactionTable = REPLACE_ALL
    hash_key: bytes = field(default=b"", repr=False)
    known: tuple[Placeholder, ...] = field(default=(), repr=False)
    """What the texts before this one have: their values get the same placeholders, new ones none of their numbers."""

    def redact(self, text: str, spans: Sequence[Span]) -> Redaction:
        """Do to each span (in order, not overlapping) what the table says.

        Values are the same when they differ only in case (but for secrets and links), in white space, or, of a number
        that is written in groups, in separators. A number under which the text could be taken to name a placeholder
        already is skipped, so that every new one is unambiguous. A value that is known keeps its first spelling: what a
        placeholder stands for where a text has it more often than this one.
        """
        pieces: list[str] = []
        replaced: list[tuple[int, Span]] = []
        position = 0
        for span in spans:
            pieces += text[position : span.start], self._in_place_of(text, span)
            if self.table.of(span.entity).action == "replace":
                replaced.append((len(pieces) - 1, span))
            position = span.end
        pieces.append(text[position:])
        return _with_placeholders(text, pieces, replaced, self.known)

    def _in_place_of(self, text: str, span: Span) -> str:
        if self.table.keeps(span.entity):
            return text[span.start : span.end]
        return span.as_written(self.substitute(span.entity, span.value_in(text)))

    def keeping_nothing(self) -> Redactor:
        """Return the redactor of what may be stored of a text: it replaces what this one keeps."""
        return replace(self, table=self.table.keeping_nothing())

    def substitute(self, entity: str, value: str) -> str:
        """Return what stands in place of a value; for one that is replaced, what stands there until it has a number."""
        action = self.table.of(entity)
        match action.action:
            case "keep":
                return value
            case "mask":
                return _masked(value, action.keep_last)
            case "hash":
                return f"<{entity}:{self._hash(entity, value)}>"
            case "remove":
                return ""
            case "replace":
                return "<>"  # Takes the place of a placeholder until its number is known.

    def _hash(self, entity: str, value: str) -> str:
        named = f"vigil personal data\0{entity}\0{_canonical(entity, value)}".encode("utf-8", "surrogatepass")
        return hmac.new(self.hash_key, named, hashlib.sha256).hexdigest()[:HASH_DIGITS]


class _Numbers:
    """Gives each value the smallest number of its kind that is not taken, and the same value the same one."""

    def __init__(self, known: Iterable[Placeholder] = ()) -> None:
        self._taken: dict[str, set[int]] = defaultdict(set)
        self._numbers: dict[tuple[str, str], int] = {}
        self._next: dict[str, int] = defaultdict(lambda: 1)
        """No smaller number of an entity is free: what is taken stays so."""
        for each in known:
            self._taken[each.entity].add(each.number)
            self._numbers[each.entity, _canonical(each.entity, each.spellings[0])] = each.number

    def take(self, placeholders: Iterable[tuple[str, int]]) -> None:
        """Note entities with numbers that must not be given."""
        for entity, number in placeholders:
            self._taken[entity].add(number)

    def of(self, entity: str, value: str) -> int:
        """Return the number of a value."""
        key = (entity, _canonical(entity, value))
        if key not in self._numbers:
            number = self._next[entity]
            while number in self._taken[entity]:
                number += 1
            self._next[entity] = number + 1
            self._taken[entity].add(number)
            self._numbers[key] = number
        return self._numbers[key]


class RunningNumbers:
    """Placeholders for a text that comes in pieces: the same value gets the same one for as long as it lasts.

    Numbers are given in the order of first appearance, but for those that are taken: by the placeholders that a caller
    names, and by those that were read so far.
    """

    def __init__(self, redactor: Redactor, taken: Iterable[tuple[str, int]] = ()) -> None:
        self.redactor = redactor
        self._numbers = _Numbers()
        self.take(taken)

    def take(self, placeholders: Iterable[tuple[str, int]]) -> None:
        """Note entities with numbers that must not be given."""
        self._numbers.take(placeholders)

    def substitute(self, entity: str, value: str) -> str:
        """Return what stands in place of a value."""
        if self.redactor.table.of(entity).action != "replace":
            return self.redactor.substitute(entity, value)
        return written(entity, self._numbers.of(entity, value))


def _with_placeholders(
    text: str, pieces: list[str], replaced: Sequence[tuple[int, Span]], known: Sequence[Placeholder]
) -> Redaction:
    """Write placeholders into the pieces of a text that stand for replaced spans, and join all pieces."""
    numbers = _Numbers(known)
    left = "".join(pieces)
    if any(span.within is not None for _, span in replaced):
        left = _ESCAPED.sub(lambda match: chr(int(match[1], 16)), left)
    numbers.take(mention[:2] for mention in mentions(left, {span.entity for _, span in replaced}))
    known_spellings = {(each.entity, each.number): each.spellings for each in known}
    spellings: dict[tuple[str, int], dict[str, int]] = {}
    orders: dict[tuple[str, int], list[int]] = defaultdict(list)
    for place, span in replaced:
        value = span.value_in(text)
        key = (span.entity, numbers.of(span.entity, value))
        if key not in spellings:
            spellings[key] = {spelling: order for order, spelling in enumerate(known_spellings.get(key, ()))}
        pieces[place] = span.as_written(written(*key))
        orders[key].append(spellings[key].setdefault(value, len(spellings[key])))
    redacted = "".join(pieces)
    return Redaction(
        text=redacted,
        placeholders=tuple(
            Placeholder(
                entity=entity,
                number=number,
                spellings=tuple(written_as),
                order=tuple(orders[entity, number]) if len(written_as) > 1 else (),
            )
            for (entity, number), written_as in spellings.items()
        ),
        backslash_is_text="\\<" in redacted,
    )


def _masked(value: str, keep_last: int) -> str:
    """Hide every letter, mark and digit but the last ones; separators stay. At least half of them are hidden."""
    places = [place for place, character in enumerate(value) if unicodedata.category(character)[0] not in "PSZ"]
    hidden = set(places[: len(places) - min(keep_last, len(places) // 2)])
    return "".join(MASK if place in hidden else character for place, character in enumerate(value))


def _canonical(entity: str, value: str) -> str:
    """Return what all spellings of a value have in common."""
    grouped = entity in WRITTEN_IN_GROUPS
    joined = _SEPARATORS.sub("", in_ascii(value)) if grouped else _WHITE_SPACE.sub(" ", value)
    return joined if entity in CASE_SENSITIVE else joined.casefold()
