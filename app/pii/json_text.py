"""A text that is JSON, as tools give back: what it says without its escapes, and where values may be replaced in it.

JSON inside of a string of it, as of a tool that hands on what another one gave back, is read the same way.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from app.pii.composing import rewritten
from app.pii.redaction import Span, Within
from app.tool_arguments import decoded, is_json_container

_ESCAPE: Final = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)", re.DOTALL
)
"""Two halves of a surrogate pair are one character."""
_TOKEN: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|-?[0-9][0-9.eE+-]*', re.DOTALL)
"""Strings, names among them, and numbers."""
_NAMES_A_VALUE: Final = re.compile(r"\s*:")
_DEEPEST: Final = 4
"""Strings inside each other in which JSON is read: each costs a reading of what it holds."""


class _Token(NamedTuple):
    """A string's content or a number: code point offsets of the text that was given, end exclusive."""

    start: int
    end: int
    within: Within
    names_a_value: bool
    nesting: int


def unescaped(text: str, deepest: int = _DEEPEST) -> tuple[str, Sequence[int] | None]:
    """Return a JSON text with the escapes of its strings undone, and where each of its characters begins in the given
    one; None where both are the same.

    Args:
        text: JSON values, one or more.
        deepest: how many strings inside each other are read as JSON where they say some.
    """
    if "\\" not in text:
        return text, None
    pieces: list[str] = []
    places: list[int] = []
    position = 0
    for match in _TOKEN.finditer(text):
        if "\\" not in match[0]:
            continue
        start, end = match.start() + 1, match.end() - 1
        said, at = _said(text[start:end])
        if deepest and is_json_container(said):
            said, inner = unescaped(said, deepest - 1)
            at = at if inner is None else [at[place] for place in inner]
        pieces += text[position:start], said
        places += range(position, start)
        places += (start + place for place in at[:-1])
        position = end
    pieces.append(text[position:])
    places += range(position, len(text) + 1)
    return "".join(pieces), places


def fitted(text: str, spans: Iterable[Span]) -> list[Span]:
    """Return spans as parts of strings and whole numbers: what is put in their place leaves a JSON text one.

    Of a span over several strings, each part is a value of its own, and names between them are none.

    Args:
        text: JSON values, one or more.
        spans: in order and not overlapping, with escapes whole.
    """
    tokens: list[_Token] | None = None
    place = 0
    fit: list[Span] = []
    for span in spans:
        tokens = list(_tokens(text, _DEEPEST)) if tokens is None else tokens
        while place < len(tokens) and tokens[place].end <= span.start:
            place += 1
        touched = list(_touched(tokens, place, span.end))
        values = [token for token in touched if not token.names_a_value]
        for token in values or touched:
            part = _part(text, span, token)
            if part is not None and (not fit or part.start >= fit[-1].end):
                fit.append(part)
    return fit


def _said(content: str) -> tuple[str, Sequence[int]]:
    """Return the content of a string with its escapes undone, and where each character begins in it."""
    if "\\" not in content:
        return content, range(len(content) + 1)
    said, places = rewritten(
        content,
        ((match.start(), match.end(), decoded(f'"{match[0]}"')) for match in _ESCAPE.finditer(content)),
    )
    return said, range(len(content) + 1) if places is None else places


def _tokens(text: str, deepest: int, nesting: int = 0) -> Iterator[_Token]:
    """Yield the strings and numbers of a JSON text, of a string that says JSON those in it."""
    for match in _TOKEN.finditer(text):
        names_a_value = _NAMES_A_VALUE.match(text, match.end()) is not None
        if not match[0].startswith('"'):
            yield _Token(match.start(), match.end(), Within.NUMBER, names_a_value, nesting)
            continue
        start, end = match.start() + 1, match.end() - 1
        said, at = _said(text[start:end])
        if deepest and is_json_container(said):
            for token in _tokens(said, deepest - 1, nesting + 1):
                yield token._replace(start=start + at[token.start], end=start + at[token.end])
        else:
            yield _Token(start, end, Within.STRING, names_a_value, nesting)


def _touched(tokens: Sequence[_Token], place: int, end: int) -> Iterator[_Token]:
    while place < len(tokens) and tokens[place].start < end:
        yield tokens[place]
        place += 1


def _part(text: str, span: Span, token: _Token) -> Span | None:
    """Return what of a span lies inside a string, or the whole number; None where no letter or digit does."""
    if token.within is Within.NUMBER:
        start, end = token.start, token.end
    else:
        start, end = max(span.start, token.start), min(span.end, token.end)
    part = replace(span, start=start, end=end, within=token.within, nesting=token.nesting)
    has_value = start < end and any(map(str.isalnum, part.value_in(text)))
    return part if token.within is Within.NUMBER or has_value else None
