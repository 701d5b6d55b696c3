"""Placeholders of personal data: how one is written, and every way in which a model may write it again.

A redaction reads a text by the same grammar before it numbers its own placeholders. So whatever stands in a text that a
restoration could take for a placeholder is never given as one, and restoring a redacted text gives the original.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final, NamedTuple

_OPEN: Final = r"\\?<|&lt;"
_CLOSE: Final = r"\\?>|&gt;"
_UNDERSCORE: Final = r"\\{0,2}_"
_LOOSE: Final = r"\s{0,2}(?:\\{0,2}[_-])?\s{0,2}"
"""Between the words of a name in brackets; counts are bounded, so that no text makes the search slow."""
_NUMBER: Final = "[0-9]{1,9}"
_NOT_JOINED_BEFORE: Final = r"(?<![^\W_])(?<![^\W_]_)"
"""No letter, digit, or either with an underscore: `MY_PERSON_1` is another name, `_PERSON_1_` an emphasis."""
_NOT_JOINED_AFTER: Final = rf"(?![0-9])(?!{_UNDERSCORE}[^\W_])"
"""Letters may follow: an ending glued to the placeholder."""


class Mention(NamedTuple):
    """One place where a text writes a placeholder; code point offsets, end exclusive."""

    entity: str
    number: int
    start: int
    end: int


def written(entity: str, number: int) -> str:
    """Return the placeholder as a redaction writes it: `<PERSON_1>`."""
    return f"<{entity}_{number}>"


def mentions(text: str, entities: Iterable[str], *, backslash_is_text: bool = False) -> list[Mention]:
    """Return where a text writes placeholders of these entities, in order, in time linear in its length.

    In brackets (`<>`, `[]`, `&lt;&gt;`, with or without backslashes) a name may be written in any case, its words
    parted by underscores, hyphens, white space or nothing. Without brackets: in any case with underscores, in capitals
    also with a hyphen or space in place of any. `[PERSON_1](...)` is a link, whose brackets stay.

    Args:
        text: of any kind.
        entities: as `EMAIL_ADDRESS`.
        backslash_is_text: that a backslash before an otherwise unescaped `<PERSON_1>` belongs to the text (a Windows
            path) and not to the placeholder.
    """
    lowered = text.casefold()
    found: list[Mention] = []
    for entity in entities:
        if all(word in lowered for word in entity.casefold().split("_")):
            found += _mentions_of(entity, text, backslash_is_text)
    found.sort(key=lambda mention: mention.start)
    kept: list[Mention] = []
    for mention in found:
        if not kept or mention.start >= kept[-1].end:
            kept.append(mention)
    return kept


def _mentions_of(entity: str, text: str, backslash_is_text: bool) -> Iterator[Mention]:
    for match in _pattern(entity).finditer(text):
        start = match.start()
        escaped_once = text[start] == "\\" and text.find("\\", start + 1, match.end()) == -1
        number = match["bracketed"] or match["bare"]
        yield Mention(entity, int(number), start + (escaped_once and backslash_is_text), match.end())


@lru_cache(maxsize=512)
def _pattern(entity: str) -> re.Pattern[str]:
    words = [re.escape(word) for word in entity.split("_")]
    loose, strict, capitals = (joint.join(words) for joint in (_LOOSE, _UNDERSCORE, rf"(?:{_UNDERSCORE}|[ -])"))
    return re.compile(
        rf"(?:{_OPEN}|\\?\[)\s{{0,2}}{loose}{_LOOSE}(?P<bracketed>{_NUMBER})\s{{0,2}}(?:{_CLOSE}|\\?\](?!\())"
        rf"|(?:{_OPEN}|{_NOT_JOINED_BEFORE})"
        rf"(?:{strict}{_UNDERSCORE}|(?-i:{capitals}(?:{_UNDERSCORE}|[ -]?)))"
        rf"(?P<bare>{_NUMBER}){_NOT_JOINED_AFTER}(?:{_CLOSE})?",
        re.IGNORECASE,
    )
