"""Recognizes e-mail addresses from every @ to both sides; domains are checked against the bundled suffixes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Final

import tldextract

from app.pii.reading import Reading
from app.pii.recognizers.base import Candidate, TextRecognizer

_LONGEST_LOCAL_PART: Final = 64
_LONGEST_DOMAIN: Final = 253
"""Both from RFC 5321, section 4.5.3.1, in octets."""
_LOCAL: Final = re.compile(r"[\w!#$%&'*+/=?^`{|}~.-]+\Z")
_DOMAIN: Final = re.compile(r"[^\W_](?:[\w-]{0,61}[^\W_])?(?:\.[^\W_](?:[\w-]{0,61}[^\W_])?)+")
_NEVER_AT_THE_EDGE: Final = ".'*/=|{}`~!#$%^&?+-"
_PRIVATE_SUFFIXES: Final = frozenset(
    {"local", "localdomain", "internal", "intranet", "corp", "lan", "home", "test", "example", "invalid"}
)
"""RFC 2606 and RFC 6762 names, and those that companies use inside."""


@cache
def suffix_list() -> tldextract.TLDExtract:
    """Return the public suffix list bundled with tldextract: it never fetches a newer one and writes no cache."""
    return tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)


class EmailRecognizer(TextRecognizer):
    entity = "EMAIL_ADDRESS"

    def candidates(self, reading: Reading) -> Iterable[Candidate]:
        text = reading.text
        known: dict[str, bool] = {}
        at = text.find("@")
        while at != -1:
            candidate = _around(text, at, known)
            if candidate is not None:
                yield candidate
            at = text.find("@", at + 1)


def _around(text: str, at: int, known: dict[str, bool]) -> Candidate | None:
    domain = _DOMAIN.match(text, at + 1, min(len(text), at + 1 + _LONGEST_DOMAIN))
    if domain is None:
        return None
    first = max(0, at - _LONGEST_LOCAL_PART)
    start = at
    while start > first and _is_local(text[start - 1]):
        start -= 1
    while start < at and text[start] in _NEVER_AT_THE_EDGE:
        start += 1
    if start == at or (text[start:at] == "git" and text.startswith(":", domain.end())):
        return None
    suffix = domain[0].lower().rsplit(".", 2)[-1]
    if suffix not in known:
        known[suffix] = suffix in _PRIVATE_SUFFIXES or bool(suffix_list()(f"a.{suffix}").suffix)
    return Candidate(start, domain.end(), score=0.95) if known[suffix] else None


def _is_local(character: str) -> bool:
    return _LOCAL.match(character) is not None
