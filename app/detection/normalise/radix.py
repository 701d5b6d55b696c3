"""Bytes written in 85 or 58 signs, where the text marks or names the encoding: as such, any word might be one."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from typing import Final

from app.detection.normalise.encodings import Found, text_of

_FRAMED: Final = re.compile(r"<~((?:[!-u]|z|\s){10,}?)~>")
_WHITE: Final = b" \t\n\r\x0b"
_TOKEN: Final = re.compile(r"[!-~]{15,}")
_QUOTES: Final = re.compile("[\"'`]")
_PUNCTUATION: Final = "\"'`.,:;()"
"""What may stand around a token, and be a sign of it."""
_SIGNS_58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_VALUES_58: Final = {sign: value for value, sign in enumerate(_SIGNS_58)}
_SIGNS_OF_BASE85: Final = re.compile(r"[0-9A-Za-z!#$%&()*+\-;<=>?@^_`{|}~]*")
_SIGNS_OF_ASCII85: Final = re.compile(r"[!-uz\s]*")
"""All that the library's decoders accept: to learn by an error that they do not takes ten times as long."""
_LONGEST_58: Final = 400
"""Signs of base58 that are read as one number, which takes time in the square of their number."""


def ascii85_text(visible: str) -> Iterator[Found]:
    """Decode what stands between the marks of Ascii85."""
    for match in _FRAMED.finditer(visible):
        if (raw := _from_ascii85(match[1])) and (text := text_of(raw)):
            yield Found("ascii85", text, *match.span())


def named_radix_text(visible: str) -> Iterator[Found]:
    """Decode the tokens of a text that names base85, Ascii85 or base58."""
    for match in _TOKEN.finditer(visible):
        quoted = max(_QUOTES.split(match[0]), key=len)
        for token in dict.fromkeys((match[0], match[0].strip(_PUNCTUATION), quoted)):
            if found := _token_text(token, *match.span()):
                yield found
                break


def _token_text(token: str, start: int, end: int) -> Found | None:
    for kind, decoder in _DECODERS:
        if (raw := decoder(token)) and (text := text_of(raw)):
            return Found(kind, text, start, end)
    return None


def _from_ascii85(token: str) -> bytes | None:
    if not _SIGNS_OF_ASCII85.fullmatch(token):
        return None
    try:
        return base64.a85decode(token, ignorechars=_WHITE)
    except ValueError:
        return None


def _from_base85(token: str) -> bytes | None:
    if not _SIGNS_OF_BASE85.fullmatch(token):
        return None
    try:
        return base64.b85decode(token)
    except ValueError:
        return None


def _from_base58(token: str) -> bytes | None:
    if len(token) > _LONGEST_58:
        return None
    number = 0
    for sign in token:
        value = _VALUES_58.get(sign)
        if value is None:
            return None
        number = 58 * number + value
    return number.to_bytes((number.bit_length() + 7) // 8)


_DECODERS: Final[tuple[tuple[str, Callable[[str], bytes | None]], ...]] = (
    ("base58", _from_base58),
    ("base85", _from_base85),
    ("ascii85", _from_ascii85),
)
