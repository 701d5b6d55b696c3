"""Brings a text into the form that detection reads: look-alikes folded, hidden characters out, encodings undone.

Everything is linear in the text's length, and an ordinary text passes through calls that run at C speed: one RE2
pass (the gate) tells which of the decoders below could possibly apply, and the others are never tried.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import html
import re
import unicodedata
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import chain, repeat
from typing import Final, TypeAlias
from urllib.parse import unquote_to_bytes

import numpy as np
import numpy.typing as npt
import re2  # type: ignore[import-untyped]

Offsets: TypeAlias = "range | array[int]"
"""For each index of a text, and for its end, the index in the text it was made from; a range is the identity."""
MAX_DEPTH: Final = 3
"""How many encodings around each other are undone."""
BUDGET_FACTOR: Final = 4
"""Decoded characters kept for one text: this many times its length, at least MIN_BUDGET and at most MAX_BUDGET."""
MIN_BUDGET: Final = 2_000
MAX_BUDGET: Final = 200_000
MAX_LAYERS: Final = 40
"""Most layers kept for one text: each is matched and scored on its own."""
MAX_ATTEMPTS: Final = 400
"""Most tokens tried per level: past that a text is a data dump, and its first tokens have been read."""
MAX_TOKEN_REACH: Final = 64
"""How many characters before and after an escape still belong to the escaped word."""
MAX_EXPANSION: Final = 4
"""Characters that stand for longer sequences (one Arabic ligature stands for 18 letters) are left as they are."""
MARK_LIMIT: Final = 3
"""Combining marks on one letter that living orthographies need; more are a flood and all of them are dropped."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A text found inside the text by undoing an encoding."""

    kind: str
    """Name of the encoding undone last, such as `base64` or `leetspeak`."""
    text: str
    """The decoded text in canonical form."""
    folded: str
    """`text` without the diacritics of Latin letters; same length."""
    start: int
    """First code point of the original that it came from."""
    end: int
    """One past the last code point of the original that it came from."""


@dataclass(frozen=True, slots=True)
class PreparedText:
    """A text, its canonical form, and what was hidden in it."""

    original: str
    canonical: str
    """Compatibility forms and look-alikes resolved, hidden characters removed, casefolded, white space runs collapsed
    (to a line break when the run holds one, else to one blank). Always encodable as UTF-8."""
    folded: str
    """`canonical` without the diacritics of Latin letters and with typewriter quotes and dashes; same length."""
    offsets: Sequence[int]
    """For each index of `canonical`, and for its end, the index in `original`."""
    signals: tuple[str, ...]
    """What was unusual about the characters: zero_width, bidi_control, tag_characters, variation_selectors,
    homoglyphs, styled_letters, combining_flood, nul_bytes, control_characters, lone_surrogates."""
    layers: tuple[Layer, ...]

    def original_span(self, start: int, end: int) -> tuple[int, int]:
        """Return the code points of the original behind `canonical[start:end]`, end exclusive."""
        if start >= end:
            return self.offsets[start], self.offsets[start]
        return self.offsets[start], max(self.offsets[end], self.offsets[end - 1] + 1)


def prepare(text: str) -> PreparedText:
    """Return the text as detection reads it. Accepts any string, lone surrogates included."""
    visible, to_original, signals, gates = _reveal(text)
    canonical, to_visible = _canonical(visible, Gate.UNTIDY in gates)
    folded = _fold_diacritics(canonical)
    layers = _find_layers(text, visible, to_original, canonical, gates)
    return PreparedText(text, canonical, folded, _compose(to_visible, to_original), signals, layers)


# --- Characters -----------------------------------------------------------------------------------------------------

_MARKS: Final = "\u0300-\u034e\u0350-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
_ZERO_WIDTH: Final = (
    "\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2060-\u2065\u206a-\u206f\u3164\ufeff\uffa0"
)
_BIDI: Final = "\u061c\u202a-\u202e\u2066-\u2069"
_SELECTORS: Final = "\ufe00-\ufe0f\U000e0100-\U000e01ef"
_TAGS: Final = "\U000e0000-\U000e007f"
_CONTROLS: Final = "\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f"
_HIDDEN: Final = f"\u00ad\ufff9-\ufffb\U0001d173-\U0001d17a{_ZERO_WIDTH}{_BIDI}{_SELECTORS}{_TAGS}{_CONTROLS}"

_SMALL_CAPITALS: Final = dict(zip("ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘꞯʀꜱᴛᴜᴠᴡʏᴢɡıɑ", "abcdefghijklmnopqrstuvwyzgia", strict=True))
_NEGATIVE_LETTERS: Final = {
    chr(first + index): chr(ord("a") + index) for first in (0x1F150, 0x1F170) for index in range(26)
}
_LOOKALIKES: Final = dict(
    zip(
        "АВЕЅІЈКМНОРСТУХаеорсухіјѕѵһԁԛԝӏүґӀ" + "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧοανιυρκτχγεη" + "ԱՕօսոհցՏ",
        "ABESIJKMHOPCTYXaeopcyxijsvhdqwlyrI" + "ABEZHIKMNOPTYXoaviupktxyen" + "UOounhgS",
        strict=True,
    )
)
"""Letters of Cyrillic, Greek and Armenian that pass for Latin ones (after Unicode TR39 confusables, letters only)."""


def _members(bracket: str) -> Iterator[str]:
    """Return the characters of the inside of a regular expression's bracket: single ones and ranges."""
    for first, last, single in re.findall(r"(.)-(.)|(.)", bracket, re.DOTALL):
        yield from map(chr, range(ord(first or single), ord(last or single) + 1))


def _compatibility_forms() -> dict[str, str]:
    """Return every single character that normalisation changes, with what it becomes ("" when hidden).

    Han and Hangul blocks are skipped: they hold no compatibility forms, and scanning them would triple the start.
    """
    ranges = (range(0xA0, 0x3400), range(0xA640, 0xAC00), range(0xF900, 0xFB00), range(0xFB00, 0x10000))
    astral = (range(0x1D400, 0x1D800), range(0x1EE00, 0x1EF00), range(0x1F100, 0x1F200), range(0x1FBF0, 0x1FBFA))
    forms = {}
    for character in map(chr, chain(*ranges, *astral)):
        form = unicodedata.normalize("NFKC", character)
        if form != character and len(form) <= MAX_EXPANSION:
            forms[character] = form
    forms |= _SMALL_CAPITALS | _NEGATIVE_LETTERS
    forms |= dict.fromkeys(map(chr, range(0xD800, 0xE000)), "\ufffd")
    forms |= dict.fromkeys("\x85\u2028\u2029", "\n") | {"\u1680": " "}
    return forms | dict.fromkeys(_members(_HIDDEN), "")


_FORMS: Final = _compatibility_forms()


_CHANGED: Final = frozenset(_FORMS)
_FORM_LENGTHS: Final = {character: len(form) for character, form in _FORMS.items() if len(form) != 1}
_FORM_TABLE: Final = {ord(character): form for character, form in _FORMS.items()}
_CLUSTER: Final = re.compile(f"[^{_MARKS}]?[{_MARKS}]*", re.DOTALL)
_MARK_RUN: Final = re.compile(f"[{_MARKS}]+")
_MARK_SET: Final = frozenset(_members(_MARKS))
_BARE_TABLE: Final = _FORM_TABLE | dict.fromkeys(map(ord, _MARK_SET), "")
_BARE_LENGTHS: Final = _FORM_LENGTHS | dict.fromkeys(_MARK_SET, 0)
_CONTROL_RUN: Final = re.compile("[\x00-\x08\x0e-\x1b\x7f]+")
_FEW: Final = 40
"""Characters that change length, such as an ellipsis, up to which their places are looked up one by one."""
_DISTINCT_CLUSTERS: Final = 5_000
"""Different letter-and-mark clusters worth composing in one text; a text with more is noise and loses its marks."""

_LATIN: Final = "A-Za-z"
_LOOKALIKE_CLASS: Final = "".join(_LOOKALIKES)
_MIXED: Final = re.compile(f"[{_LATIN}][{_LOOKALIKE_CLASS}]|[{_LOOKALIKE_CLASS}][{_LATIN}]")
_WORD_PIECES: Final = re.compile(r"(\w+)")
_LOOKALIKE_SET: Final = frozenset(_LOOKALIKES)
_TO_LATIN: Final = str.maketrans(_LOOKALIKES)


def _plain_letters() -> dict[int, str]:
    """Return a one-to-one table from Latin letters with diacritics and typographic marks to plain ones."""
    table = {}
    for point in chain(range(0xC0, 0x250), range(0x1E00, 0x1F00)):
        base = unicodedata.normalize("NFD", chr(point))[0]
        if base.isascii() and base.isalpha():
            table[point] = base.lower()
    table |= {ord(letter): plain for letter, plain in zip("łđøħŧðþёєґ", "ldohtdpеег", strict=True)}
    return (
        table
        | dict.fromkeys(map(ord, "‘’‚‛´`ʼ"), "'")
        | dict.fromkeys(map(ord, "“”„‟«»"), '"')
        | dict.fromkeys(map(ord, "‐‑‒–—―−"), "-")
    )


_PLAIN: Final = _plain_letters()

_STYLED: Final = (
    "".join(_SMALL_CAPITALS) + "\U0001d400-\U0001d7ff\u2460-\u24ff\uff21-\uff3a\uff41-\uff5a\U0001f130-\U0001f189"
)
_SUSPICIOUS: Final = tuple(
    (name, frozenset(_members(members)), re.compile(pattern))
    for name, members, pattern in (
        ("nul_bytes", "\x00", "\x00"),
        ("control_characters", "\x01-\x08\x0e-\x1b\x7f", "[\x01-\x08\x0e-\x1b\x7f]"),
        ("zero_width", _ZERO_WIDTH, f"[A-Za-z][{_ZERO_WIDTH}]+[A-Za-z]|[{_ZERO_WIDTH}]{{4}}"),
        ("bidi_control", _BIDI, "[\u202d\u202e]|[A-Za-z ][\u202a\u202b\u2066-\u2068]+[A-Za-z]"),
        # A flag emoji spells its region with tags after the black flag; only tags elsewhere are smuggling.
        ("tag_characters", _TAGS, f"(?:[^\U0001f3f4{_TAGS}]|^)[{_TAGS}]|[{_TAGS}]{{8}}"),
        ("variation_selectors", _SELECTORS, f"[{_SELECTORS}]{{3}}"),
        ("styled_letters", _STYLED, f"[{_STYLED}]{{4}}"),
        ("combining_flood", _MARKS, f"[{_MARKS}]{{{MARK_LIMIT + 1}}}|(?:[A-Za-z][\u0334-\u0338]){{3}}"),
        ("lone_surrogates", "\ud800-\udfff", "[\ud800-\udfff]"),
    )
)


def _reveal(text: str) -> tuple[str, Offsets, tuple[str, ...], Sequence[int]]:
    """Return the text as a reader sees it (case and white space kept), its offsets, its signals and its gates."""
    if text.isascii():
        gates = _GATE.matching(text)
        if Gate.CONTROL not in gates:
            return text, range(len(text) + 1), (), gates
        visible, offsets = _rewrite(text, _CONTROL_RUN, lambda run: "")
        return visible, offsets, _signals(text, set(text)), _GATE.matching(visible)
    characters = set(text)
    signals: tuple[str, ...] = ()
    marked = not _MARK_SET.isdisjoint(characters)
    if not marked and _CHANGED.isdisjoint(characters):
        visible, offsets = text, range(len(text) + 1)
    else:
        visible, offsets = _resolve_clusters(text) if marked else _resolve_characters(text, characters)
        signals = _signals(text, characters)
    if not _LOOKALIKE_SET.isdisjoint(characters) and _MIXED.search(visible):
        latin = _fold_lookalikes(visible)
        if latin != visible:
            visible, signals = latin, (*signals, "homoglyphs")
    return visible, offsets, signals, _GATE.matching(visible)


def _signals(text: str, characters: set[str]) -> tuple[str, ...]:
    return tuple(
        name for name, members, sign in _SUSPICIOUS if not members.isdisjoint(characters) and sign.search(text)
    )


def _rewrite(text: str, pattern: re.Pattern[str], replace: Callable[[str], str]) -> tuple[str, Offsets]:
    """Replace each match by at most one character; return the new text and its offsets in the old one."""
    spans = [match.span() for match in pattern.finditer(text)]
    replacements = [replace(text[start:end]) for start, end in spans]
    kept_from = [0, *(end for _, end in spans)]
    kept_to = [*(start for start, _ in spans), len(text)]
    pieces = [text[start:end] for start, end in zip(kept_from, kept_to, strict=True)]
    # A replacement stands where its match began, so it continues the range before it.
    ends = [start + len(piece) for (start, _), piece in zip(spans, replacements, strict=True)] + [len(text) + 1]
    offsets = array("I", chain.from_iterable(map(range, kept_from, ends)))
    return "".join(chain.from_iterable(zip(pieces, [*replacements, ""], strict=True))), offsets


def _spread(lengths: Iterable[int], positions: npt.NDArray[np.uint32]) -> Offsets:
    """Return each position as often as its form is long; the last position is the end of the text."""
    repeats = np.fromiter(chain(lengths, (1,)), np.int64, len(positions))
    return _packed(np.repeat(positions, repeats))


def _packed(offsets: npt.NDArray[np.uint32]) -> Offsets:
    packed: array[int] = array("I")
    packed.frombytes(offsets.tobytes())
    return packed


def _places(length: int) -> npt.NDArray[np.uint32]:
    return np.arange(length + 1, dtype=np.uint32)


def _resolve_characters(text: str, characters: set[str]) -> tuple[str, Offsets]:
    visible = text.translate(_FORM_TABLE)
    resized = [character for character in characters if character in _FORM_LENGTHS]
    if not resized:
        return visible, range(len(text) + 1)
    if sum(map(text.count, resized)) > _FEW:
        return visible, _spread(map(_FORM_LENGTHS.get, text, repeat(1)), _places(len(text)))
    offsets = array("I")
    done = 0
    for position in sorted(chain.from_iterable(_positions(text, character) for character in resized)):
        offsets.extend(range(done, position))
        offsets.extend(repeat(position, _FORM_LENGTHS[text[position]]))
        done = position + 1
    offsets.extend(range(done, len(text) + 1))
    return visible, offsets


def _positions(text: str, character: str) -> Iterator[int]:
    position = text.find(character)
    while position >= 0:
        yield position
        position = text.find(character, position + 1)


def _resolve_clusters(text: str) -> tuple[str, Offsets]:
    """Resolve letter by letter, each with its combining marks."""
    clusters = _CLUSTER.findall(text)
    distinct = set(clusters)
    if len(distinct) > _DISTINCT_CLUSTERS:
        lengths = map(_BARE_LENGTHS.get, text, repeat(1))
        return text.translate(_BARE_TABLE), _spread(lengths, _places(len(text)))
    table = {cluster: _resolve_cluster(cluster) for cluster in distinct}
    resolved = list(map(table.__getitem__, clusters))
    sizes = np.fromiter(chain((0,), map(len, clusters)), np.uint32, len(clusters) + 1)
    return "".join(resolved), _spread(map(len, resolved), sizes.cumsum(dtype=np.uint32))


def _resolve_cluster(cluster: str) -> str:
    base = cluster[:1]
    form = _FORMS.get(base, base)
    if base in _MARK_SET or len(cluster) == 1:
        return "" if base in _MARK_SET else form
    if not form or len(cluster) > MARK_LIMIT + 1:
        return form
    composed = unicodedata.normalize("NFC", form + cluster[1:])
    return _MARK_RUN.sub("", composed)


def _fold_lookalikes(visible: str) -> str:
    """Turn Cyrillic, Greek and Armenian look-alikes into Latin letters, in words that mix them with Latin ones.

    A word is folded only when it becomes wholly Latin ("ignоrе"), so "SQLзапрос" and units such as "μm" stay; once a
    text was caught mixing, words made of nothing but look-alikes are folded too.
    """
    pieces = _WORD_PIECES.split(visible)
    words = {word for word in set(pieces) if not word.isascii()}
    folded = {}
    for word in words:
        if len(word) > 3 and _MIXED.search(word):
            latin = word.translate(_TO_LATIN)
            if _fold_diacritics(latin).isascii():
                folded[word] = latin
    if not folded:
        return visible
    for word in words - folded.keys():
        latin = word.translate(_TO_LATIN)
        if latin.isascii():
            folded[word] = latin
    return "".join(map(folded.get, pieces, pieces))


def _fold_diacritics(text: str) -> str:
    return text if text.isascii() else text.translate(_PLAIN)


_WHITE: Final = str.maketrans(dict.fromkeys("\t\x1f", " ") | dict.fromkeys("\r\x0b\x0c\x1c\x1d\x1e", "\n"))
_SPACE_RUN: Final = re.compile("[ \n]{2,}")
_FOLD_LENGTHS: Final = {
    character: len(character.casefold()) for character in map(chr, range(0x10000)) if len(character.casefold()) > 1
}


def _canonical(visible: str, untidy: bool) -> tuple[str, Offsets]:
    """Casefold and, where it is untidy, collapse white space; return the result and its offsets in `visible`."""
    lowered = visible.casefold()
    offsets: Offsets
    if len(lowered) == len(visible):
        offsets = range(len(visible) + 1)
    else:
        lengths = map(_FOLD_LENGTHS.get, visible, repeat(1))
        offsets = _spread(lengths, _places(len(visible)))
    if not untidy:
        return lowered, offsets
    tidy, to_lowered = _rewrite(lowered.translate(_WHITE), _SPACE_RUN, lambda run: "\n" if "\n" in run else " ")
    return tidy, _compose(to_lowered, offsets)


def _compose(inner: Offsets, outer: Offsets) -> Offsets:
    """Return `outer[i] for i in inner`; a range is the identity."""
    if isinstance(inner, range):
        return outer
    if isinstance(outer, range):
        return inner
    return _packed(np.frombuffer(outer, np.uint32)[np.frombuffer(inner, np.uint32)])


# --- Layers ---------------------------------------------------------------------------------------------------------

TRIGGERS: Final = (
    "ignore", "ignoring", "disregard", "forget", "override", "bypass", "reveal", "system", "prompt", "instruction",
    "previous", "password", "secret", "jailbreak", "unrestricted", "developer mode", "guidelines", "restrictions",
    "rules", "safety", "pretend", "respond", "hidden", "confidential", "repeat", "print your", "zignoruj", "zapomnij",
    "instrukcj", "poleceni", "poprzedni", "ujawnij", "hasło", "haslo", "pokaż", "pokaz", "zasady", "ignoriere",
    "vergiss", "anweisung", "oublie", "olvida", "instruccion", "istruzion", "instrucoes", "игнорир", "забудь",
    "инструкц", "ігноруй", "інструкц",
)  # fmt: skip
"""Words that make a reading of scrambled letters worth keeping: what an override is made of, by language."""

_SCRAMBLED: Final = tuple(word for word in TRIGGERS if len(word) >= 6 and " " not in word)
_JOINING: Final = (
    "ignore", "disregard", "forget", "override", "bypass", "reveal", "show", "print", "repeat", "all", "any", "the",
    "your", "my", "you", "previous", "prior", "above", "earlier", "system", "prompt", "instructions", "instruction",
    "rules", "safety", "password", "secret", "and", "zignoruj", "zapomnij", "wszystkie", "poprzednie", "instrukcje",
    "polecenia", "zasady", "pokaż", "ujawnij", "swoje", "swój", "hasło", "systemowy",
)  # fmt: skip
"""Words that joined-up spaced letters are cut at: letters spaced evenly do not show where words end."""

_LEET_FORMS: Final = {
    "a": "[a4@]", "b": "[b8]", "e": "[e3]", "g": "[g96]", "i": "[i1!|]", "l": "[l1|]", "o": "[o0]", "s": "[s5$]",
    "t": "[t7+]",
}  # fmt: skip
_LEET: Final = str.maketrans("430157@$!|8+9", "aeoistasiibtg")
_LEET_SIGN: Final = re.compile(r"[0-9@$!|+]")
_ONE_FOR_L: Final = {
    word.replace("l", "i"): word for word in (*_JOINING, *TRIGGERS, "tell", "limits", "policy", "full")
}
"""What a word with an l reads as when every 1 is taken for an i, and the word it is."""


def _unleet(text: str) -> str:
    """Read digits and signs as the letters they resemble; a 1 is an l where that makes a known word."""
    pieces = _WORD_PIECES.split(text.casefold().translate(_LEET))
    return "".join(map(_ONE_FOR_L.get, pieces, pieces))


def _leet_form(word: str) -> str:
    return "".join(_LEET_FORMS.get(letter, re.escape(letter)) for letter in word)


class Gate(IntEnum):
    """What the one pass over a text looks for."""

    TOKEN = 0
    PERCENT = 1
    ENTITY = 2
    ESCAPE = 3
    SPACED = 4
    HEX_PAIRS = 5
    BINARY = 6
    DECIMAL = 7
    ROT13 = 8
    REVERSED = 9
    LEET = 10
    CONTROL = 11
    UNTIDY = 12


_GATE_PATTERNS: Final = {
    Gate.TOKEN: r"[A-Za-z0-9+/_\-]{16}",
    Gate.PERCENT: r"%[0-9A-Fa-f]{2}",
    Gate.ENTITY: r"&#[xX]?[0-9A-Fa-f]{2,6};",
    Gate.ESCAPE: r"\\(?:u\{?[0-9A-Fa-f]{2}|x[0-9A-Fa-f]{2})",
    Gate.SPACED: r"(?:[0-9A-Za-zÀ-ž@$!][ ._*|/\-]{1,3}){4}[0-9A-Za-zÀ-ž@$!](?:[^0-9A-Za-zÀ-ž]|$)",
    Gate.HEX_PAIRS: r"(?:[2-7][0-9A-Fa-f](?:[\s,:;\-]+(?:0x)?)){6}",
    Gate.BINARY: r"[01]{7,8}\s+[01]{7,8}\s+[01]{7,8}",
    Gate.DECIMAL: r"(?:(?:3[2-9]|[4-9][0-9]|1[0-2][0-9])[\s,;]+){7}",
    Gate.ROT13: "(?i)" + "|".join(codecs.encode(word, "rot13") for word in _SCRAMBLED if word.isascii()),
    Gate.REVERSED: "(?i)" + "|".join(word[::-1] for word in _SCRAMBLED),
    Gate.LEET: "(?i)" + "|".join(_leet_form(word) for word in TRIGGERS if word.isascii()),
    Gate.CONTROL: r"[\x00-\x08\x0e-\x1b\x7f]",
    Gate.UNTIDY: r"[\t\r\x0b\x0c\x1c-\x1f]|[ \n]{2}",
}
_SET_MEMORY: Final = 32 * 1024**2
"""Bytes RE2 may use for the gate's automaton; its default of 8 MiB resets too often on random text."""


class _PatternSet:
    """RE2 patterns tried together in one pass."""

    __slots__ = ("_set",)

    def __init__(self, patterns: Sequence[str]) -> None:
        options = re2.Options()
        options.max_mem = _SET_MEMORY
        options.never_capture = True
        self._set = re2.Set.SearchSet(options)
        for pattern in patterns:
            self._set.Add(pattern)
        self._set.Compile()

    def matching(self, text: str) -> Sequence[int]:
        found: Sequence[int] | None = self._set.Match(text.encode())
        return found or ()


_GATE: Final = _PatternSet(list(_GATE_PATTERNS.values()))
_TRIGGER_SET: Final = _PatternSet(TRIGGERS)

_TAG_RUN: Final = re.compile("[\U000e0020-\U000e007e]{3,}")
_SELECTOR_RUN: Final = re.compile(f"[{_SELECTORS}]{{4,}}")
_TOKEN: Final = re.compile(r"[A-Za-z0-9+/_\-]{16,}={0,2}")
_WRAPPED_LINE: Final = 40
"""A token this long followed by white space and another one is taken for one encoding wrapped into lines."""
_PERCENT_RUN: Final = re.compile(r"%[0-9A-Fa-f]{2}(?:[^\s%]{0,40}%[0-9A-Fa-f]{2}){2,}[^\s%]{0,64}")
_ENTITY: Final = re.compile(r"&#(?:[0-9]{2,6}|[xX][0-9A-Fa-f]{2,5});")
_ESCAPE: Final = re.compile(r"\\u([0-9A-Fa-f]{4})|\\u\{([0-9A-Fa-f]{2,5})\}|\\x([0-9A-Fa-f]{2})")
_MIN_ESCAPES: Final = 3
_SPACED_LETTER: Final = "0-9A-Za-zÀ-ž@$!"
_SPACED_RUN: Final = re.compile(
    rf"(?<![{_SPACED_LETTER}])[{_SPACED_LETTER}](?:[ ._*|/\-]{{1,3}}[{_SPACED_LETTER}]){{4,}}(?![{_SPACED_LETTER}])"
)
_SEPARATOR: Final = re.compile(r"[ ._*|/\-]+")
_HEX_RUN: Final = re.compile(r"(?:(?:0x)?[2-7][0-9A-Fa-f](?:[\s,:;\-]+|\b)){7,}")
_BINARY_RUN: Final = re.compile(r"[01]{7,8}(?:\s+[01]{7,8}){2,}")
_DECIMAL_RUN: Final = re.compile(r"(?:3[2-9]|[4-9][0-9]|1[0-2][0-9])(?:[\s,;]+(?:3[2-9]|[4-9][0-9]|1[0-2][0-9])){6,}")
_JOINED_WORD: Final = re.compile("|".join(sorted(map(re.escape, _JOINING), key=len, reverse=True)), re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Found:
    kind: str
    text: str
    start: int
    end: int
    """Span in the text that was searched."""
    final: bool = False
    """True when nothing can be wrapped inside: another reading of the same letters."""


@dataclass(slots=True)
class _Harvest:
    """Layers found so far and what may still be spent."""

    budget: int
    layers: list[Layer]
    seen: set[str]

    def add(self, found: _Found, start: int, end: int, depth: int) -> None:
        """Keep a decoded text that is new, with the span it came from, and whatever is wrapped inside it."""
        if self.budget <= 0 or len(self.layers) >= MAX_LAYERS:
            return
        visible, _, _, gates = _reveal(found.text[: self.budget])
        canonical, _ = _canonical(visible, Gate.UNTIDY in gates)
        if not canonical or canonical in self.seen:
            return
        self.budget -= len(canonical)
        self.seen.add(canonical)
        self.layers.append(Layer(found.kind, canonical, _fold_diacritics(canonical), start, end))
        if depth > 1 and not found.final:
            for inner in _decode(visible, gates):
                self.add(inner, start, end, depth - 1)


def _find_layers(
    original: str, visible: str, to_original: Sequence[int], canonical: str, gates: Sequence[int]
) -> tuple[Layer, ...]:
    smuggled = not original.isascii() and (_TAG_RUN.search(original) or _SELECTOR_RUN.search(original))
    if not smuggled and _DECODERS.keys().isdisjoint(gates):
        return ()
    budget = min(max(BUDGET_FACTOR * len(original), MIN_BUDGET), MAX_BUDGET)
    harvest = _Harvest(budget, [], {canonical})
    if smuggled:
        for found in chain(_tag_text(original), _selector_text(original)):
            harvest.add(found, found.start, found.end, MAX_DEPTH)
    for found in _decode(visible, gates):
        harvest.add(found, to_original[found.start], to_original[found.end], MAX_DEPTH)
    return tuple(harvest.layers)


def _decode(visible: str, gates: Sequence[int]) -> Iterator[_Found]:
    """Yield what each decoder that the gate lets through makes of the text."""
    for gate in gates:
        if decoder := _DECODERS.get(gate):
            yield from decoder(visible)


def _readable(text: str, wordlike_share: float = 0.55) -> bool:
    """Tell text from bytes that happen to decode: nearly all printable, and mostly letters and blanks."""
    length = len(text)
    if length < 4:
        return False
    printable = sum(map(str.isprintable, text)) + text.count("\n") + text.count("\t") + text.count("\r")
    wordlike = sum(map(str.isalpha, text)) + text.count(" ")
    return printable - text.count("\ufffd") >= 0.9 * length and wordlike >= wordlike_share * length


def _text_of(raw: bytes) -> str | None:
    wide = raw[1:16:2].count(0) >= 4
    text = raw.decode("utf-16-le" if wide else "utf-8", "replace")
    return text if _readable(text) else None


def _tag_text(original: str) -> Iterator[_Found]:
    for run in _TAG_RUN.finditer(original):
        if original[run.start() - 1 : run.start()] == "\U0001f3f4" and len(run[0]) <= 6:
            continue
        yield _Found("unicode_tags", "".join(chr(ord(tag) - 0xE0000) for tag in run[0]), *run.span())


def _selector_text(original: str) -> Iterator[_Found]:
    """Bytes hidden as variation selectors: 1 to 16 and 17 to 256 stand for the values 0 to 255."""
    for run in _SELECTOR_RUN.finditer(original):
        values = (point - 0xFE00 if point < 0xE0100 else point - 0xE0100 + 16 for point in map(ord, run[0]))
        if text := _text_of(bytes(values)):
            yield _Found("variation_selectors", text, *run.span())


def _tokens(visible: str) -> Iterator[tuple[str, int, int]]:
    """Yield long tokens, with those wrapped over several lines joined."""
    parts: list[str] = []
    start = end = attempts = 0
    for match in _TOKEN.finditer(visible):
        if parts and len(parts[-1]) >= _WRAPPED_LINE and visible[end : match.start()].isspace():
            parts.append(match[0])
        else:
            if parts:
                yield "".join(parts), start, end
            parts, start = [match[0]], match.start()
            attempts += 1
            if attempts > MAX_ATTEMPTS:
                return
        end = match.end()
    if parts:
        yield "".join(parts), start, end


def _token_text(visible: str) -> Iterator[_Found]:
    for token, start, end in _tokens(visible):
        for kind, decoder in _TOKEN_DECODERS:
            raw = decoder(token)
            if raw and (text := _text_of(raw)):
                yield _Found(kind, text, start, end)
                break


_HEX_TOKEN: Final = re.compile(r"(?:0x)?((?:[0-9A-Fa-f]{2})+)")
_BITS_TOKEN: Final = re.compile(r"(?:[01]{8})+")
_BASE32_TOKEN: Final = re.compile(r"[A-Z2-7]{16,}={0,6}")
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
    body = token.rstrip("=")
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


def _percent_text(visible: str) -> Iterator[_Found]:
    for run in _PERCENT_RUN.finditer(visible):
        start = _token_start(visible, run.start())
        text = unquote_to_bytes(visible[start : run.end()].replace("+", " ")).decode("utf-8", "replace")
        if _readable(text, wordlike_share=0.4):
            yield _Found("url", text, start, run.end())


def _token_start(visible: str, position: int) -> int:
    """Go back to the start of the token that `position` is in, at most MAX_TOKEN_REACH."""
    floor = max(0, position - MAX_TOKEN_REACH)
    while position > floor and not visible[position - 1].isspace():
        position -= 1
    return position


def _escaped(kind: str, visible: str, escape: re.Pattern[str], decoded: Callable[[str], str]) -> Iterator[_Found]:
    """Undo escapes where there are several, in the stretch from the first to the last one."""
    spans = [match.span() for match in escape.finditer(visible)]
    if len(spans) < _MIN_ESCAPES:
        return
    start, end = _token_start(visible, spans[0][0]), spans[-1][1]
    while end < len(visible) and not visible[end].isspace() and end - spans[-1][1] < MAX_TOKEN_REACH:
        end += 1
    text = decoded(visible[start:end])
    if _readable(text):
        yield _Found(kind, text, start, end)


def _entity_text(visible: str) -> Iterator[_Found]:
    return _escaped("html_entities", visible, _ENTITY, html.unescape)


def _unescape(text: str) -> str:
    def character(match: re.Match[str]) -> str:
        point = int(match[1] or match[2] or match[3], 16)
        return chr(point) if point < 0x110000 and not 0xD800 <= point < 0xE000 else "\ufffd"

    return _ESCAPE.sub(character, text)


def _escape_text(visible: str) -> Iterator[_Found]:
    return _escaped("unicode_escapes", visible, _ESCAPE, _unescape)


def _new_triggers(reading: str, visible: str) -> int:
    """Count the trigger words that a reading shows and the text itself does not."""
    return len(set(_TRIGGER_SET.matching(reading.casefold())) - set(_TRIGGER_SET.matching(visible.casefold())))


def _number_text(
    kind: str, visible: str, runs: re.Pattern[str], number: re.Pattern[str], base: int
) -> Iterator[_Found]:
    for attempt, run in enumerate(runs.finditer(visible)):
        if attempt >= MAX_ATTEMPTS:
            return
        text = "".join(chr(int(code, base)) for code in number.findall(run[0]))
        if _readable(text) and _new_triggers(text, visible):
            yield _Found(kind, text, *run.span())


_HEX_PAIR: Final = re.compile(r"(?:0x)?([0-9A-Fa-f]{2})")
_DIGITS: Final = re.compile(r"\d+")


def _hex_pairs_text(visible: str) -> Iterator[_Found]:
    return _number_text("hex", visible, _HEX_RUN, _HEX_PAIR, 16)


def _binary_text(visible: str) -> Iterator[_Found]:
    return _number_text("binary", visible, _BINARY_RUN, _DIGITS, 2)


def _decimal_text(visible: str) -> Iterator[_Found]:
    return _number_text("decimal", visible, _DECIMAL_RUN, _DIGITS, 10)


def _spaced_text(visible: str) -> Iterator[_Found]:
    """Join letters that stand apart; the commonest separator joins, wider or rarer ones part words."""
    for attempt, run in enumerate(_SPACED_RUN.finditer(visible)):
        if attempt >= MAX_ATTEMPTS:
            return
        separators = _SEPARATOR.findall(run[0])
        within = max(set(separators), key=separators.count)
        joins = f"(?<=[{_SPACED_LETTER}]){re.escape(within)}(?=[{_SPACED_LETTER}])"
        text = _SEPARATOR.sub(" ", re.sub(joins, "", run[0]))
        for reading in (text, _unleet(text)):
            if _new_triggers(reading, ""):
                spread = " ".join(_JOINED_WORD.sub(r" \g<0> ", reading).split())
                yield _Found("spaced_letters", spread, *run.span(), final=True)
                break


def _rot13_text(visible: str) -> Iterator[_Found]:
    text = codecs.encode(visible, "rot13")
    if _new_triggers(text, visible):
        yield _Found("rot13", text, 0, len(visible), final=True)


def _reversed_text(visible: str) -> Iterator[_Found]:
    text = visible[::-1]
    if _new_triggers(text, visible):
        yield _Found("reversed", text, 0, len(visible), final=True)


def _leet_text(visible: str) -> Iterator[_Found]:
    if not _LEET_SIGN.search(visible):
        return
    text = _unleet(visible)
    if _new_triggers(text, visible):
        yield _Found("leetspeak", text, 0, len(visible), final=True)


_DECODERS: Final[dict[int, Callable[[str], Iterator[_Found]]]] = {
    Gate.TOKEN: _token_text,
    Gate.PERCENT: _percent_text,
    Gate.ENTITY: _entity_text,
    Gate.ESCAPE: _escape_text,
    Gate.SPACED: _spaced_text,
    Gate.HEX_PAIRS: _hex_pairs_text,
    Gate.BINARY: _binary_text,
    Gate.DECIMAL: _decimal_text,
    Gate.ROT13: _rot13_text,
    Gate.REVERSED: _reversed_text,
    Gate.LEET: _leet_text,
}
