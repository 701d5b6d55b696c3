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
_NOT_JOINED_BEFORE: Final = r"(?<![^\W_])(?<![^\W_]_)(?<![^\W_]\\_)(?<![^\W_]\\\\_)"
"""No letter, digit, or either with an underscore, which may be escaped: `MY_PERSON_1` is another name, `_PERSON_1_` an
emphasis."""
_NOT_JOINED_AFTER: Final = rf"(?![0-9])(?!{_UNDERSCORE}[^\W_])"
"""Letters may follow: an ending glued to the placeholder."""
_NUMBER_FOLLOWS: Final = re.compile(r"[\\_\-\s]{0,7}[0-9]")


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
    lowered = text.lower()
    found: list[Mention] = []
    for entity in entities:
        if _may_be_in(lowered, entity):
            found += _mentions_of(entity, text, backslash_is_text)
    found.sort(key=lambda mention: mention.start)
    kept: list[Mention] = []
    for mention in found:
        if not kept or mention.start >= kept[-1].end:
            kept.append(mention)
    return kept


def _may_be_in(lowered: str, entity: str) -> bool:
    """Whether a text in small letters has the words of a name, and a number soon after the last one: most have not, and
    looking for that takes a tenth of the time."""
    *words, last = entity.lower().split("_")
    if not all(word in lowered for word in words):
        return False
    start = lowered.find(last)
    while start != -1:
        start += len(last)
        if _NUMBER_FOLLOWS.match(lowered, start):
            return True
        start = lowered.find(last, start)
    return False


def _mentions_of(entity: str, text: str, backslash_is_text: bool) -> Iterator[Mention]:
    for match in _pattern(entity).finditer(text):
        start = match.start()
        escaped_once = text[start] == "\\" and text.find("\\", start + 1, match.end()) == -1
        number = match["bracketed"] or match["bare"]
        yield Mention(entity, int(number), start + (escaped_once and backslash_is_text), match.end())


@lru_cache(maxsize=512)
def _pattern(entity: str) -> re.Pattern[str]:
    capital_words = [re.escape(word) for word in entity.split("_")]
    # Not IGNORECASE, by which further letters (the long s, the dotless i) stand for Latin ones.
    words = ["".join(_any_case(letter) for letter in word) for word in entity.split("_")]
    loose, strict = _LOOSE.join(words), _UNDERSCORE.join(words)
    capitals = rf"(?:{_UNDERSCORE}|[ -])".join(capital_words)
    return re.compile(
        rf"(?:{_OPEN}|\\?\[)\s{{0,2}}{loose}{_LOOSE}(?P<bracketed>{_NUMBER})\s{{0,2}}(?:{_CLOSE}|\\?\](?!\())"
        rf"|(?:{_OPEN}|{_NOT_JOINED_BEFORE})"
        rf"(?:{strict}{_UNDERSCORE}|{capitals}(?:{_UNDERSCORE}|[ -]?))"
        rf"(?P<bare>{_NUMBER}){_NOT_JOINED_AFTER}(?:{_CLOSE})?"
    )


def _any_case(letter: str) -> str:
    return f"[{letter.upper()}{letter.lower()}]" if letter.isalpha() else re.escape(letter)
