"""A text that is JSON, as tools give back: what it says without its escapes, and where values may be replaced in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from app.pii.composing import rewritten
from app.pii.redaction import Span, Within
from app.tool_arguments import decoded

_ESCAPE: Final = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)", re.DOTALL
)
"""Two halves of a surrogate pair are one character."""
_TOKEN: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|-?[0-9][0-9.eE+-]*', re.DOTALL)
"""Strings, names among them, and numbers."""
_NAMES_A_VALUE: Final = re.compile(r"\s*:")


def unescaped(text: str) -> tuple[str, Sequence[int] | None]:
    """Return a JSON text with the escapes of its strings undone, and where each of its characters begins in the given
    one; None where both are the same."""
    return rewritten(text, ((match.start(), match.end(), decoded(f'"{match[0]}"')) for match in _ESCAPE.finditer(text)))


def fitted(text: str, spans: Iterable[Span]) -> list[Span]:
    """Return spans as parts of strings and whole numbers: what is put in their place leaves a JSON text one.

    Of a span over several strings, each part is a value of its own, and names between them are none.

    Args:
        text: a JSON text.
        spans: in order and not overlapping, with escapes whole.
    """
    tokens: list[re.Match[str]] = []
    place = 0
    fit: list[Span] = []
    for span in spans:
        tokens = tokens or list(_TOKEN.finditer(text))
        while place < len(tokens) and tokens[place].end() <= span.start:
            place += 1
        touched = list(_touched(tokens, place, span.end))
        values = [token for token in touched if not _NAMES_A_VALUE.match(text, token.end())]
        for token in values or touched:
            part = _part(text, span, token)
            if part is not None and (not fit or part.start >= fit[-1].end):
                fit.append(part)
    return fit


def _touched(tokens: Sequence[re.Match[str]], place: int, end: int) -> Iterator[re.Match[str]]:
    while place < len(tokens) and tokens[place].start() < end:
        yield tokens[place]
        place += 1


def _part(text: str, span: Span, token: re.Match[str]) -> Span | None:
    """Return what of a span lies inside a string, or the whole number; None where no letter or digit does."""
    if not token[0].startswith('"'):
        return replace(span, start=token.start(), end=token.end(), within=Within.NUMBER)
    start, end = max(span.start, token.start() + 1), min(span.end, token.end() - 1)
    part = replace(span, start=start, end=end, within=Within.STRING)
    return part if start < end and any(map(str.isalnum, part.value_in(text))) else None
