"""Twelve ways of disguising a text: our obfuscation set. Each is a pure function of the text and a seed."""

from __future__ import annotations

import base64
import codecs
import random
import re
import unicodedata
from collections.abc import Callable
from typing import Final

ZERO_WIDTH: Final = "\u200b\u200c\u200d\u2060\ufeff"
LOOKALIKES: Final = {
    "a": "аα", "b": "Ьβ", "c": "сϲ", "d": "ԁ", "e": "еε", "g": "ɡ", "h": "һн", "i": "іι", "j": "ј", "k": "кκ", "l": "ӏ",
    "m": "м", "n": "пη", "o": "оο", "p": "рρ", "q": "ԛ", "r": "г", "s": "ѕ", "t": "тτ", "u": "υս", "v": "ν", "w": "ԝω",
    "x": "хχ", "y": "уγ", "A": "АΑ", "B": "ВΒ", "C": "С", "E": "ЕΕ", "H": "НΗ", "I": "ІΙ", "K": "КΚ", "M": "МΜ",
    "N": "Ν", "O": "ОΟ", "P": "РΡ", "S": "Ѕ", "T": "ТΤ", "X": "ХΧ", "Y": "ҮΥ", "Z": "Ζ",
}  # fmt: skip
"""Letters of Cyrillic, Greek and Armenian that are drawn like Latin ones."""
LEET: Final = {
    "a": "4@", "b": "8", "e": "3", "g": "9", "i": "1!", "l": "1", "o": "0", "s": "5$", "t": "7",
}  # fmt: skip
SHARE: Final = 0.6
"""How many of the letters that a disguise could change are changed."""
SEPARATORS: Final = ".-_*|"
_LETTER_PAIR: Final = re.compile(r"(?<=[^\W\d_])(?=[^\W\d_])")
_ALPHABETS: Final = (
    (0xFF21, 0xFF41),  # full width
    (0x1D400, 0x1D41A),  # bold
    (0x1D5D4, 0x1D5EE),  # sans-serif bold
    (0x1D63C, 0x1D656),  # sans-serif bold italic
    (0x1D670, 0x1D68A),  # monospace
    (0x24B6, 0x24D0),  # circled
)
"""First code points of the upper-case and the lower-case letters of styled alphabets."""


def transform(name: str, text: str, seed: int) -> str:
    """Return the text in one of the disguises of TRANSFORMATIONS; the same seed gives the same result.

    Raises:
        KeyError: there is no such disguise.
    """
    return TRANSFORMATIONS[name](text, random.Random(seed))  # noqa: S311 - a sample, not a secret


def _zero_width(text: str, source: random.Random) -> str:
    return _LETTER_PAIR.sub(lambda _: source.choice(ZERO_WIDTH) if source.random() < SHARE else "", text)


def _invisible(text: str, source: random.Random) -> str:
    """Spell the text in tag characters, or in variation selectors, which can also carry other letters than ASCII."""
    if text.isascii() and source.random() < 0.5:
        return "Hello" + "".join(chr(0xE0000 + ord(letter)) for letter in text)
    return "🙂" + "".join(chr(0xFE00 + byte if byte < 16 else 0xE0100 + byte - 16) for byte in text.encode())


def _homoglyphs(text: str, source: random.Random) -> str:
    return "".join(
        source.choice(LOOKALIKES[letter]) if letter in LOOKALIKES and source.random() < SHARE else letter
        for letter in text
    )


def _styled(text: str, source: random.Random) -> str:
    upper, lower = source.choice(_ALPHABETS)

    def styled(letter: str) -> str:
        if "A" <= letter <= "Z":
            return chr(upper + ord(letter) - ord("A"))
        return chr(lower + ord(letter) - ord("a")) if "a" <= letter <= "z" else letter

    return "".join(map(styled, text))


def _leetspeak(text: str, source: random.Random) -> str:
    return "".join(
        source.choice(LEET[letter.lower()]) if letter.lower() in LEET and source.random() < SHARE else letter
        for letter in text
    )


def _spaced(text: str, source: random.Random) -> str:
    """Set every character apart by a blank; in one text of four nothing else shows where words end."""
    gap = " " if source.random() < 0.25 else "   "
    return gap.join(" ".join(word) for word in text.split())


def _dotted(text: str, source: random.Random) -> str:
    separator = source.choice(SEPARATORS)
    return _LETTER_PAIR.sub(separator, unicodedata.normalize("NFC", text))


def _base64(text: str, source: random.Random) -> str:
    return base64.b64encode(text.encode()).decode()


def _hexadecimal(text: str, source: random.Random) -> str:
    encoded = text.encode()
    kind = source.randrange(3)
    if kind == 0:
        return "".join(f"%{byte:02X}" for byte in encoded)
    return encoded.hex() if kind == 1 else encoded.hex(" ")


def _rot13(text: str, source: random.Random) -> str:
    return codecs.encode(text, "rot13")


def _reversed(text: str, source: random.Random) -> str:
    return text[::-1]


def _escapes(text: str, source: random.Random) -> str:
    form = source.choice(("&#{};", "&#x{:x};", "\\u{{{:x}}}"))
    return "".join(form.format(ord(letter)) for letter in text)


TRANSFORMATIONS: Final[dict[str, Callable[[str, random.Random], str]]] = {
    "zero_width": _zero_width,
    "invisible": _invisible,
    "homoglyphs": _homoglyphs,
    "styled": _styled,
    "leetspeak": _leetspeak,
    "spaced": _spaced,
    "dotted": _dotted,
    "base64": _base64,
    "hex": _hexadecimal,
    "rot13": _rot13,
    "reversed": _reversed,
    "escapes": _escapes,
}
"""Every disguise by its name."""
