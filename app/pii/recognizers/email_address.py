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
_ASSIGNED_TO: Final = re.compile(
    r"(?:.*[?&])?(?:[A-Z][A-Z0-9_]*|(?:\w*[_-])?(?:e-?mail|user(?:name)?|login|to|from|cc|bcc|address|account))=",
    re.DOTALL,
)
"""The name of what holds an address: an = may be a part of one, too (bounces+anna=example.com@lists.example)."""
_WRITTEN_OUT: Final = re.compile(
    r"(?P<local>(?<![\w.+-])[\w][\w.+-]{0,63})[ ]?(?P<at>[(\[{](?:at|@|ma[lł]pa)[)\]}])[ ]?"
    r"(?P<domain>[^\W_][\w-]{0,62}(?:(?:\.|[ ]?[(\[{](?:dot|kropka)[)\]}][ ]?)[^\W_][\w-]{0,62}){1,4})",
    re.IGNORECASE,
)
_ENCODED_AT: Final = "%40"
_ENCODED: Final = re.compile(
    rf"(?<![\w.+-])\w(?:[\w.+-]|%2B){{0,63}}{_ENCODED_AT}"
    r"(?P<domain>[^\W_](?:[\w-]{0,61}[^\W_])?(?:\.[^\W_](?:[\w-]{0,61}[^\W_])?)+)",
    re.IGNORECASE,
)
"""As queries and forms hold them (RFC 3986, section 2.1)."""
_SIGN: Final = re.compile(r"[(\[{](?:at|@|ma[lł]pa)[)\]}]", re.IGNORECASE)
_DOT: Final = re.compile(r"[ ]?[(\[{](?:dot|kropka)[)\]}][ ]?", re.IGNORECASE)
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
        if _ENCODED_AT in text:
            for match in _ENCODED.finditer(text):
                if _is_known(match["domain"], known):
                    yield Candidate(*match.span(), score=0.9)
        for sign in _SIGN.finditer(text):
            candidate = _written_out(text, sign.start(), known)
            if candidate is not None:
                yield candidate


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
    assigned = _ASSIGNED_TO.match(text, start, at)
    if assigned is not None:
        start = assigned.end()
        while start < at and text[start] in _NEVER_AT_THE_EDGE:
            start += 1
    if start == at or (text[start:at] == "git" and text.startswith(":", domain.end())):
        return None
    return Candidate(start, domain.end(), score=0.95) if _is_known(domain[0], known) else None


def _written_out(text: str, sign: int, known: dict[str, bool]) -> Candidate | None:
    """Return the address around a sign that stands for an @: anna(at)example.com, anna [małpa] example [kropka] pl."""
    first = max(0, sign - _LONGEST_LOCAL_PART - 1)
    begins = _LOCAL.search(text[first:sign].removesuffix(" "))
    if begins is None:
        return None
    match = _WRITTEN_OUT.match(text, first + begins.start())
    if match is None or match.start("at") != sign:
        return None
    return Candidate(*match.span(), score=0.9) if _is_known(_DOT.sub(".", match["domain"]), known) else None


def _is_known(domain: str, known: dict[str, bool]) -> bool:
    suffix = domain.lower().rsplit(".", 2)[-1]
    if suffix not in known:
        known[suffix] = suffix in _PRIVATE_SUFFIXES or bool(suffix_list()(f"a.{suffix}").suffix)
    return known[suffix]


def _is_local(character: str) -> bool:
    return _LOCAL.match(character) is not None
