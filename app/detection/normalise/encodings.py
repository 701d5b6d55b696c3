"""Encodings that machines use: base64, hexadecimal, percent signs, entities, escapes, numbers, invisible characters."""

from __future__ import annotations

import base64
import binascii
import html
import quopri
import re
import string
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

import numpy as np
from numpy.typing import NDArray

from app.detection.normalise.characters import SELECTORS
from app.detection.normalise.gate import triggers_in
from app.detection.normalise.vocabulary import is_plausible, language_reaches

MAX_TOKEN_REACH: Final = 64
"""How many characters before and after an escape still belong to the escaped word."""
KNOWN_SHARE: Final = 0.5
"""Share of letters in known words from which numbers are taken for text."""
_FEW_LETTERS: Final = 8
_SURELY_WORDS: Final = 0.8
"""Share of letters in known words from which FEW letters between signs are text."""
_WORD_LENGTH: Final = 16
"""Mean number of letters to a blank up to which bytes that decode without a fault are text of some language."""
_TAG_RUN: Final = re.compile("[\U000e0009\U000e000a\U000e000d\U000e0020-\U000e007e]{3,}")
_SELECTOR_RUN: Final = re.compile(f"[{SELECTORS}]{{4,}}")
_UNSEEN: Final = re.compile(
    f"[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufeff\uffa0"
    f"\U000e0000-\U000e0fff{SELECTORS}]"
)
"""Characters that are drawn as nothing (Unicode's Default_Ignorable_Code_Point)."""
_TOKEN: Final = re.compile(r"[A-Za-z0-9+/_\-]{16,}={0,2}|[A-Za-z0-9+/_\-]{10,15}={1,2}")
_WRAPPED_LINE: Final = 40
"""A token this long followed by white space and another one is taken for one encoding wrapped into lines."""
_FEWEST_SHIFTED: Final = 24
_SAMPLED: Final = 16
"""Signs of base64, a multiple of 8, that are decoded to see whether more is worth it."""
MAX_INFLATED: Final = 4_000
"""Bytes that one compressed token is inflated to, as long as there are any left of:"""
_ROOM_INFLATED: Final = 40_000
_INFLATED_FACTOR: Final = 4
"""How much longer than itself each token may become in any case; language is a half to a third of its length."""
_CUT_BYTES: Final = 2
"""Bytes of them that may belong to characters which are cut."""
_PERCENT_RUN: Final = re.compile(r"%[0-9A-Fa-f]{2}(?:[^\s%]{0,40}%[0-9A-Fa-f]{2}){2,}[^\s%]{0,64}")
_ENTITY: Final = re.compile(r"&#(?:[0-9]{2,6}|[xX][0-9A-Fa-f]{2,5});?")
_ENTITY_PADDING: Final = re.compile(r"(?<=&#)0+(?=[0-9])")
_NO_CODE_POINT: Final = re.compile(r"&#[0-9]{8,};?")
"""Decimal entities beyond Unicode, of which `html.unescape` reads all digits: it fails at more than 4,300 of them."""
_ESCAPE: Final = re.compile(r"\\u([0-9A-Fa-f]{4})|\\u\{([0-9A-Fa-f]{1,6})\}|\\x([0-9A-Fa-f]{2})|\\([01][0-7]{2})")
_CSS_LETTER: Final = re.compile(r"\\(?:0000[4-7][0-9A-Fa-f]|(?:0{2,3})?[4-7][0-9A-Fa-f](?![0-9A-Fa-f]))[ \t\n]?")
"""An escape of CSS for an ASCII letter; one zero in front would make it octal."""
_CSS_ESCAPE: Final = re.compile(r"\\{1,2}([0-9A-Fa-f]{1,6})[ \t\n]?")
"""One ends after six digits or before what is none; the blank behind it belongs to it."""
_MIN_ESCAPES: Final = 3
_HEX_RUN: Final = re.compile(r"(?:(?:0x)?[0-9A-Fa-f]{2}(?:[\s,:;\-]+|\b)){7,}")
_BINARY_RUN: Final = re.compile(r"[01]{7,8}(?:\s+[01]{7,8}){2,}")
_OCTAL_RUN: Final = re.compile(r"\b[01][0-7]{2}(?:[\s,;]+[01][0-7]{2}){6,}\b")
_QUOTED_RUN: Final = re.compile(r"=[0-9A-Fa-f]{2}(?:(?:[^\s=]{0,40}|=\r?\n)=[0-9A-Fa-f]{2}){2,}[^\s=]{0,64}")
_SOFT_BREAK: Final = re.compile(r"=(?<=[^\W\d_]=)\r?\n(?=([^\W\d_]{1,30}))")
"""Where quoted-printable ends a line inside a word. It begins with a literal, which is searched for at C speed."""
_BEFORE_BREAK: Final = re.compile(r"[^\W\d_]{1,30}\Z")
_MOST_BEFORE: Final = 30
_FEWEST_SOFT: Final = 2
_IS_BASE64: Final = np.array([chr(point) in f"{string.ascii_letters}{string.digits}+/_-" for point in range(129)])
"""By code point; the last one stands for all that are no ASCII."""
_FEWEST_SIGNS: Final = 4
"""Signs of a piece; with padding behind them, two."""
_FEWEST_PIECES: Final = 4
"""Pieces of one length from which they are taken for base64 that was cut up; words in a row differ in length."""
_PIECES_APART: Final = 12
"""Most characters between two of them: quotation marks, signs and the number of a line."""
_DECIMAL_RUN: Final = re.compile(r"(?:3[2-9]|[4-9][0-9]|1[0-2][0-9])(?:[\s,;]+(?:3[2-9]|[4-9][0-9]|1[0-2][0-9])){6,}")


@dataclass(frozen=True, slots=True)
class Found:
    """What a decoder made of a stretch of text."""

    kind: str
    text: str
    start: int
    end: int
    """Span in the text that was searched."""


SMUGGLING: Final = frozenset({"tag_characters", "variation_selectors"})
"""Signals of invisible characters that may spell something."""


def readable(text: str, wordlike_share: float = 0.55) -> bool:
    """Tell text from bytes that happen to decode: nearly all printable, and mostly letters and blanks, or words.

    Invisible characters count for nothing, else a few of them would keep a text from being read.
    """
    # Most of what is no text shows that at once.
    if 10 * text.count("\ufffd") > len(text):
        return False
    text = text if text.isascii() else _UNSEEN.sub("", text)
    length = len(text)
    if length < 4:
        return False
    printable = sum(map(str.isprintable, text)) + text.count("\n") + text.count("\t") + text.count("\r")
    if printable - text.count("\ufffd") < 0.9 * length:
        return False
    letters = sum(map(str.isalpha, text))
    return letters + text.count(" ") >= wordlike_share * length or (
        letters >= _FEW_LETTERS and language_reaches(text, _SURELY_WORDS)
    )


def text_of(raw: bytes) -> str | None:
    wide = raw[1:16:2].count(0) >= 4
    text = raw.decode("utf-16-le" if wide else "utf-8", "replace")
    return text if readable(text) else None


def tag_text(original: str) -> Iterator[Found]:
    for run in _TAG_RUN.finditer(original):
        if original[run.start() - 1 : run.start()] == "\U0001f3f4" and len(run[0]) <= 6:
            continue
        yield Found("unicode_tags", "".join(chr(ord(tag) - 0xE0000) for tag in run[0]), *run.span())


def selector_text(original: str) -> Iterator[Found]:
    """Bytes hidden as variation selectors: 1 to 16 and 17 to 256 stand for the values 0 to 255."""
    for run in _SELECTOR_RUN.finditer(original):
        values = (point - 0xFE00 if point < 0xE0100 else point - 0xE0100 + 16 for point in map(ord, run[0]))
        if text := text_of(bytes(values)):
            yield Found("variation_selectors", text, *run.span())


def _tokens(visible: str) -> Iterator[list[re.Match[str]]]:
    """Yield long tokens, those wrapped over several lines together; padding ends one, another may follow it."""
    parts: list[re.Match[str]] = []
    for match in _TOKEN.finditer(visible):
        wrapped = parts and len(parts[-1][0]) >= _WRAPPED_LINE and not parts[-1][0].endswith("=")
        if wrapped and visible[parts[-1].end() : match.start()].isspace():
            parts.append(match)
        else:
            if parts:
                yield parts
            parts = [match]
    if parts:
        yield parts


def token_text(visible: str) -> Iterator[Found]:
    """Decode every long token: what one takes is bounded by its length, and an attack may stand behind any number of
    others. Lines that make no text together are read one by one."""
    inflate = _Inflater()
    for parts in _tokens(visible):
        found = _token_text("".join(part[0] for part in parts), parts[0].start(), parts[-1].end(), inflate)
        if found is not None:
            yield found
        elif len(parts) > 1:
            for part in parts:
                if (found := _token_text(part[0], *part.span(), inflate)) is not None:
                    yield found


def pieces_text(visible: str) -> Iterator[Found]:
    """Decode base64 that was cut into pieces of one length, but for the last, whatever little stands between them."""
    starts, ends, closed = _pieces(visible)
    for first, last in _candidates(starts, ends, closed):
        yield from _runs_of_pieces(visible, starts[first:last].tolist(), ends[first:last].tolist())


def _pieces(visible: str) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Return where runs of base64 of four signs, or of two and padding, begin and end, and whether padding ends them;
    shape (pieces,) each."""
    points = np.frombuffer(visible.encode("utf-32-le", "surrogatepass"), np.uint32)
    is_sign = np.zeros(len(points) + 2, np.bool_)
    _IS_BASE64.take(points, mode="clip", out=is_sign[1:-1])
    edges = np.flatnonzero(is_sign[1:] != is_sign[:-1])
    starts, ends = edges[::2], edges[1::2]
    padding = np.zeros(len(points) + 2, np.int64)
    padding[: len(points)] = points == ord("=")
    padded = padding[ends]
    sizes = ends - starts
    kept = (sizes >= _FEWEST_SIGNS) | ((sizes >= 2) & (padded > 0))
    return starts[kept], (ends + padded + padded * padding[ends + 1])[kept], padded[kept] > 0


def _candidates(
    starts: NDArray[np.int64], ends: NDArray[np.int64], closed: NDArray[np.bool_]
) -> Iterator[tuple[int, int]]:
    """Yield the pieces, from the first to before the last, among which enough of one length may stand in a row.

    Where a piece is longer than the one before it, or stands apart from it, all runs begin anew.
    """
    sizes = ends - starts
    anew = (sizes[1:] > sizes[:-1]) | (starts[1:] - ends[:-1] > _PIECES_APART) | closed[:-1]
    alike = (sizes[:-1] == sizes[1:]) & ~anew
    if not (alike[:-2] & alike[1:-1] & ~anew[2:]).any():
        return
    edges = np.concatenate(([0], np.flatnonzero(anew) + 1, [len(sizes)]))
    long = edges[1:] - edges[:-1] >= _FEWEST_PIECES
    yield from zip(edges[:-1][long].tolist(), edges[1:][long].tolist(), strict=True)


def _runs_of_pieces(visible: str, starts: list[int], ends: list[int]) -> Iterator[Found]:
    """Decode the runs among pieces none of which is longer than the one before it."""
    first = 0
    for place in range(1, len(starts)):
        size, last = ends[first] - starts[first], ends[place - 1] - starts[place - 1]
        if last != size:
            yield from _joined_pieces(visible, starts[first:place], ends[first:place])
            # A word before the pieces may have been longer than they are.
            first = place - 1 if place - first == 2 else place
    yield from _joined_pieces(visible, starts[first:], ends[first:])


def _joined_pieces(visible: str, starts: list[int], ends: list[int]) -> Iterator[Found]:
    if len(starts) < _FEWEST_PIECES:
        return
    pieces = [visible[start:end] for start, end in zip(starts, ends, strict=True)]
    for count in (len(pieces), len(pieces) - 1):  # A word may stand where the last piece could.
        raw = _from_base64("".join(pieces[:count]))
        if raw and (text := text_of(raw)):
            yield Found("base64", text, starts[0], ends[count - 1])
            return


class _Inflater:
    """Undoes gzip and zlib in the tokens of one text, which together make a bounded number of bytes."""

    def __init__(self) -> None:
        self._room = _ROOM_INFLATED

    def __call__(self, raw: bytes) -> bytes | None:
        """Return the first bytes of what is compressed, or None."""
        # The second sign of zlib makes the first two divisible by 31 (RFC 1950).
        if not raw.startswith(b"\x1f\x8b\x08") and (raw[0] & 0x8F != 8 or int.from_bytes(raw[:2]) % 31):
            return None
        limit = max(min(MAX_INFLATED, self._room), _INFLATED_FACTOR * len(raw))
        try:
            inflated = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32).decompress(raw, limit)
        except zlib.error:
            return None
        self._room -= len(inflated)
        return inflated


def _token_text(token: str, start: int, end: int, inflate: _Inflater) -> Found | None:
    for kind, decoder in _TOKEN_DECODERS:
        raw = decoder(token)
        if raw and (inflated := inflate(raw)) and (text := text_of(inflated)) and _is_written(text):
            return Found("compressed", text, start, end)
        if raw and (text := text_of(raw)):
            return Found(kind, text, start, end)
    for shifted in _shifted(token):
        if (raw := _from_base64(shifted)) and (text := text_of(raw)):
            return Found("base64", text, start, end)
    return None


def _shifted(token: str) -> Iterator[str]:
    """Yield what base64 may be of a token that makes no text: without signs before it, as in an address, or from its
    end. Only where a few signs of the middle make text, so that noise takes little more time."""
    body = token.rstrip("=").replace("-", "+").replace("_", "/")
    if len(body) < _FEWEST_SHIFTED:
        return
    middle = len(body) // 8 * 4
    for variant in (body[1:], body[2:], body[3:], body[::-1]):
        raw = binascii.a2b_base64(variant[middle - _SAMPLED // 2 : middle + _SAMPLED // 2])
        text = raw.decode("utf-8", "ignore")
        if text.isprintable() and len(text.encode()) >= len(raw) - _CUT_BYTES:
            yield variant


_HEX_TOKEN: Final = re.compile(r"(?:0x)?((?:[0-9A-Fa-f]{2})+)")
_BITS_TOKEN: Final = re.compile(r"(?:[01]{8})+")
_BASE32_TOKEN: Final = re.compile(r"(?:[A-Z2-7]{16,}|(?=[a-z]*[2-7])[a-z2-7]{16,})={0,6}")
_UNIFORM: Final = re.compile(r"(.)\1{15}")


def _from_hex(token: str) -> bytes | None:
    match = _HEX_TOKEN.fullmatch(token)
    return bytes.fromhex(match[1]) if match else None


def _from_bits(token: str) -> bytes | None:
    if not _BITS_TOKEN.fullmatch(token):
        return None
    return bytes(int(token[at : at + 8], 2) for at in range(0, len(token), 8))


def _from_base32(token: str) -> bytes | None:
    if not _BASE32_TOKEN.fullmatch(token):
        return None
    body = token.rstrip("=").upper()
    try:
        return base64.b32decode(body + "=" * (-len(body) % 8))
    except binascii.Error:
        return None


def _from_base64(token: str) -> bytes | None:
    """Decode standard or URL-safe base64, padding optional; a line of one repeated sign is not tried."""
    if _UNIFORM.match(token):
        return None
    body = token.rstrip("=").replace("-", "+").replace("_", "/")
    if len(body) % 4 == 1:
        body = body[:-1]
    return binascii.a2b_base64(body + "=" * (-len(body) % 4))


_TOKEN_DECODERS: Final[tuple[tuple[str, Callable[[str], bytes | None]], ...]] = (
    ("binary", _from_bits),
    ("hex", _from_hex),
    ("base32", _from_base32),
    ("base64", _from_base64),
)


def quoted_printable_text(visible: str) -> Iterator[Found]:
    yield from _soft_broken_text(visible)
    for run in _QUOTED_RUN.finditer(visible):
        start = _token_start(visible, run.start())
        text = quopri.decodestring(visible[start : run.end()].encode()).decode("utf-8", "replace")
        if readable(text):
            yield Found("quoted_printable", text, start, run.end())


def _soft_broken_text(visible: str) -> Iterator[Found]:
    """Join lines that end inside words, from the first such line to the last; half of the words must be words then, as
    settings without a value are not."""
    breaks = list(_SOFT_BREAK.finditer(visible))
    if len(breaks) < _FEWEST_SOFT:
        return
    known = 0
    for match in breaks:
        before = _BEFORE_BREAK.search(visible[max(0, match.start() - _MOST_BEFORE) : match.start()])
        known += before is not None and is_plausible(f"{before[0]}{match[1]}".casefold())
    if known < max(_FEWEST_SOFT, len(breaks) / 2):
        return
    start = visible.rfind("\n", 0, breaks[0].start()) + 1
    end = visible.find("\n", breaks[-1].end())
    end = len(visible) if end < 0 else end
    text = quopri.decodestring(visible[start:end].encode()).decode("utf-8", "replace")
    if readable(text):
        yield Found("quoted_printable", text, start, end)


def percent_text(visible: str) -> Iterator[Found]:
    for run in _PERCENT_RUN.finditer(visible):
        start = _token_start(visible, run.start())
        text = unquote_to_bytes(visible[start : run.end()].replace("+", " ")).decode("utf-8", "replace")
        if readable(text, wordlike_share=0.4):
            yield Found("url", text, start, run.end())


def _token_start(visible: str, position: int) -> int:
    """Go back to the start of the token that `position` is in, at most MAX_TOKEN_REACH."""
    floor = max(0, position - MAX_TOKEN_REACH)
    while position > floor and not visible[position - 1].isspace():
        position -= 1
    return position


def _escaped(kind: str, visible: str, escape: re.Pattern[str], decoded: Callable[[str], str]) -> Iterator[Found]:
    """Undo escapes where there are several, in the stretch from the first to the last one."""
    spans = [match.span() for match in escape.finditer(visible)]
    if len(spans) < _MIN_ESCAPES:
        return
    start, end = _token_start(visible, spans[0][0]), spans[-1][1]
    while end < len(visible) and not visible[end].isspace() and end - spans[-1][1] < MAX_TOKEN_REACH:
        end += 1
    text = decoded(visible[start:end])
    if readable(text):
        yield Found(kind, text, start, end)


def entity_text(visible: str) -> Iterator[Found]:
    return _escaped("html_entities", visible, _ENTITY, without_entities)


def without_entities(text: str) -> str:
    return html.unescape(_NO_CODE_POINT.sub("\ufffd", _ENTITY_PADDING.sub("", text)))


def _unescape(text: str) -> str:
    def character(match: re.Match[str]) -> str:
        point = int(match[4], 8) if match[4] else int(match[1] or match[2] or match[3], 16)
        return _character(point)

    return _ESCAPE.sub(character, text)


def _unescape_css(text: str) -> str:
    return _CSS_ESCAPE.sub(lambda match: _character(int(match[1], 16)), text)


def _character(point: int) -> str:
    return chr(point) if point < 0x110000 and not 0xD800 <= point < 0xE000 else "\ufffd"


def escape_text(visible: str) -> Iterator[Found]:
    yield from _escaped("unicode_escapes", visible, _ESCAPE, _unescape)
    yield from _escaped("css_escapes", visible, _CSS_LETTER, _unescape_css)


def _number_text(kind: str, visible: str, runs: re.Pattern[str], bytes_of: Callable[[str], bytes]) -> Iterator[Found]:
    """Read runs of numbers below 256 as the bytes of a text in UTF-8."""
    shown: frozenset[int] | None = None
    for run in runs.finditer(visible):
        text = bytes_of(run[0]).decode("utf-8", "replace")
        if not readable(text):
            continue
        wanted = _is_written(text)
        if not wanted and (triggers := triggers_in(text)):
            shown = triggers_in(visible) if shown is None else shown
            wanted = not triggers <= shown
        if wanted:
            yield Found(kind, text, *run.span())


def _is_written(text: str) -> bool:
    return _is_sentence(text) or language_reaches(text, KNOWN_SHARE)


def _is_sentence(text: str) -> bool:
    return "\ufffd" not in text and len(text) > _WORD_LENGTH and text.count(" ") * _WORD_LENGTH >= len(text)


_HEX_PAIR: Final = re.compile(r"(?:0x)?([0-9A-Fa-f]{2})")
_DIGITS: Final = re.compile(r"\d+")


def hex_pairs_text(visible: str) -> Iterator[Found]:
    return _number_text("hex", visible, _HEX_RUN, lambda run: bytes.fromhex("".join(_HEX_PAIR.findall(run))))


def binary_text(visible: str) -> Iterator[Found]:
    return _number_text("binary", visible, _BINARY_RUN, lambda run: bytes(int(code, 2) for code in run.split()))


def octal_text(visible: str) -> Iterator[Found]:
    return _number_text("octal", visible, _OCTAL_RUN, lambda run: bytes(int(code, 8) for code in _DIGITS.findall(run)))


def decimal_text(visible: str) -> Iterator[Found]:
    return _number_text("decimal", visible, _DECIMAL_RUN, lambda run: bytes(map(int, _DIGITS.findall(run))))
