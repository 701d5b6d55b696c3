"""Tells a secret from a word, a placeholder or a reference to a secret."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Final

from app.pii.words import words

LEAST_BITS: Final = 3.0
"""Shannon entropy for each character. Every key marked in data/pii/*.jsonl has 4.0 bits and more; short words with a
digit have less than three."""
_PLACEHOLDER: Final = re.compile(
    r"[<{$%\[(]|x{4,}|\*{3,}|\.{3,}|(?:your|my|the|some|twoj[ae]?|twój|moje?)[-_]|changeme|change[-_]me|"
    r"(?:example|sample|placeholder|dummy|redacted|replace|insert|tutaj|podaj|wpisz)",
    re.IGNORECASE,
)
_REFERENCE: Final = re.compile(
    r"(?:os\.(?:environ|getenv)|process\.env|env\.|settings\.|config\.|self\.|secrets?\.|vault\.|var\.|getenv|ref\+|"
    r"arn:aws:|\$|%\()",
    re.IGNORECASE,
)
_NOT_SECRET: Final = words(
    "true false none null undefined required optional string number boolean password secret token"
)
_PARTS: Final = re.compile("[-_]")
_HEXADECIMAL: Final = re.compile("[0-9a-f]{32,128}")
_LETTER: Final = re.compile(r"[^\W\d_]")
_OTHER: Final = re.compile(r"[\d!@#$%^&*+=?~]")


def is_placeholder(value: str) -> bool:
    """Whether a value stands for a secret and is none: a variable, an example, a row of x."""
    return bool(_PLACEHOLDER.match(value) or _REFERENCE.match(value)) or value.lower() in _NOT_SECRET


def bits_per_character(value: str) -> float:
    """Return the Shannon entropy of a value's characters, in bits for each (Shannon 1948)."""
    length = len(value)
    return -sum(count / length * math.log2(count / length) for count in Counter(value).values()) if value else 0.0


def looks_random(value: str, least_bits: float = LEAST_BITS) -> bool:
    """Whether a value holds letters and digits, or signs, and enough entropy for a secret."""
    return bool(_LETTER.search(value) and _OTHER.search(value)) and bits_per_character(value) >= least_bits


def is_word(value: str) -> bool:
    """Whether a value is written as a word is: letters alone, small ones but for the first."""
    return value.isalpha() and value[1:].islower()


def has_mixed_cases_or_is_hexadecimal(value: str) -> bool:
    """Whether the last part of a value is written as generators do: small and capital letters, or 32 hex digits."""
    last = _PARTS.split(value)[-1]
    return (last != last.lower() and last != last.upper()) or _HEXADECIMAL.fullmatch(last) is not None
