"""Shows a text as its reader sees it: compatibility forms and look-alikes resolved, hidden characters out."""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from typing import Final

import numpy as np

from app.detection.normalise.canonical import fold_diacritics
from app.detection.normalise.gate import GATE, LATIN_SOUNDS, Gate, holds_transliterated_words
from app.detection.normalise.offsets import Offsets, lengths_table, positions, rewrite, spread_forms
from app.detection.normalise.vocabulary import RANKS

MAX_EXPANSION: Final = 4
"""Characters that stand for longer sequences (one Arabic ligature stands for 18 letters) are left as they are."""
MARK_LIMIT: Final = 3
"""Combining marks on one letter that living orthographies need; more are a flood and all of them are dropped."""

MARKS: Final = "\u0300-\u034e\u0350-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
ZERO_WIDTH: Final = (
    "\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2060-\u2065\u206a-\u206f\u3164\ufeff\uffa0"
)
BIDI: Final = "\u061c\u202a-\u202e\u2066-\u2069"
SELECTORS: Final = "\ufe00-\ufe0f\U000e0100-\U000e01ef"
TAGS: Final = "\U000e0000-\U000e007f"
_CONTROLS: Final = "\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f"
_HIDDEN: Final = f"\u00ad\ufff9-\ufffb\U0001d173-\U0001d17a{ZERO_WIDTH}{BIDI}{SELECTORS}{TAGS}{_CONTROLS}"

SMALL_CAPITALS: Final = dict(zip("ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘꞯʀꜱᴛᴜᴠᴡʏᴢɡıɑ", "abcdefghijklmnopqrstuvwyzgia", strict=True))
_NEGATIVE_LETTERS: Final = {
    chr(first + index): chr(ord("a") + index) for first in (0x1F150, 0x1F170) for index in range(26)
}
LOOKALIKES: Final = dict(
    zip(
        "АВЕЅІЈКМНОРСТУҮХЬаеорсухіјѕѵһԁԛԝӏүґӀ" + "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧοανιυρκτχγεης" + "ԱՕօսոհցՏ" + "ᎪᏴᏟᎠᎬᏀᎻᎫᏦᏞᎷᏢᎡᏚᎢᏙᎳᏃ",
        "ABESIJKMHOPCTYYXbaeopcyxijsvhdqwlyrI" + "ABEZHIKMNOPTYXoaviupktxyenc" + "UOounhgS" + "ABCDEGHJKLMPRSTVWZ",
        strict=True,
    )
)
"""Letters of Cyrillic, Greek, Armenian and Cherokee that pass for Latin ones (after Unicode TR39 confusables)."""
FAR_LOOKALIKES: Final = dict(
    zip("вгзийкмнптьяГДЗИЛПЦШЧЯ" + "βδθκλμπσφωΓΔΘΛΠΣΩ", "brenukmhntbrrAENAnUWYR" + "bdoklunoowrAOANEO", strict=True)
)
"""Letters that remind of a Latin one; they count where that makes a known word, or once others gave the text away."""


def members(bracket: str) -> Iterator[str]:
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
    forms |= SMALL_CAPITALS | _NEGATIVE_LETTERS
    forms |= dict.fromkeys(map(chr, range(0xD800, 0xE000)), "\ufffd")
    forms |= dict.fromkeys("\x85\u2028\u2029", "\n") | {"\u1680": " "}
    return forms | dict.fromkeys(members(_HIDDEN), "")


FORMS: Final = _compatibility_forms()


_CHANGED: Final = frozenset(FORMS)
_FORM_LENGTHS: Final = {character: len(form) for character, form in FORMS.items() if len(form) != 1}
_FORM_TABLE: Final = [FORMS.get(chr(point), chr(point)) for point in range(0x20000)]
"""By code point: a list, since in a dictionary every character that stays is a slow miss."""
_MARK_RUN: Final = re.compile(f"[{MARKS}]+")
_MARK_SET: Final = frozenset(members(MARKS))
_FAR_HIDDEN: Final = re.compile("[\U000e0000-\U000e0fff]+")
"""Hidden characters beyond the table's end."""
_FAR_FORMS: Final = re.compile(f"[{TAGS}{SELECTORS}]+")
"""Those of them that are forms."""
_SEAM: Final = min(_MARK_SET - _CHANGED - set("".join(FORMS.values())))
"""Between stretches without a mark while they are resolved together: a mark that no form holds."""
_BARE_TABLE: Final = ["" if chr(point) in _MARK_SET else form for point, form in enumerate(_FORM_TABLE)]
_FORM_LENGTH_TABLE: Final = lengths_table(_FORM_LENGTHS)
_BARE_LENGTH_TABLE: Final = lengths_table(_FORM_LENGTHS | dict.fromkeys(_MARK_SET, 0))
_CONTROL_RUN: Final = re.compile("[\x00-\x08\x0e-\x1b\x7f]+")
_FEW: Final = 40
"""Characters that change length, such as an ellipsis, up to which their places are looked up one by one."""
_NOISE: Final = 4_000
"""Different characters of one text from which it is noise: a book in Chinese has 3,000 to 4,000."""
_DISTINCT_CLUSTERS: Final = 5_000
"""Different letters, with and without marks, from which a text is noise and loses its marks."""

_LATIN: Final = "A-Za-z"
_LOOKALIKE_CLASS: Final = "".join(LOOKALIKES | FAR_LOOKALIKES)
_MIXED: Final = re.compile(f"[{_LATIN}][{_LOOKALIKE_CLASS}]|[{_LOOKALIKE_CLASS}][{_LATIN}]")
_WORD_PIECES: Final = re.compile(r"(\w+)")
_LOOKALIKE_SET: Final = frozenset(LOOKALIKES)
_SOUNDING: Final = frozenset("".join(LATIN_SOUNDS) + "".join(LATIN_SOUNDS).upper())
_TO_LATIN: Final = str.maketrans(LOOKALIKES)
_FAR_TO_LATIN: Final = str.maketrans(FAR_LOOKALIKES)
_GIVEAWAYS: Final = 3
"""Different words of nothing but look-alikes that turn into known words by accident in no text."""
_ALL_LOOKALIKES: Final = _LOOKALIKE_SET | frozenset(FAR_LOOKALIKES)
_HAS_LATIN: Final = re.compile(f"[{_LATIN}]")

_STYLED: Final = (
    "".join(SMALL_CAPITALS) + "\U0001d400-\U0001d7ff\u2460-\u24ff\uff21-\uff3a\uff41-\uff5a\U0001f130-\U0001f189"
)
_EMBEDDING: Final = "\u202a\u202b\u2066-\u2068"
_SUSPICIOUS: Final = tuple(
    (name, frozenset(members(bracket)), re.compile(pattern, re.DOTALL))
    for name, bracket, pattern in (
        ("nul_bytes", "\x00", "\x00"),
        ("control_characters", "\x01-\x08\x0e-\x1b\x7f", "[\x01-\x08\x0e-\x1b\x7f]"),
        ("zero_width", ZERO_WIDTH, f"[{ZERO_WIDTH}](?:(?<=[A-Za-z].)[{ZERO_WIDTH}]*[A-Za-z]|[{ZERO_WIDTH}]{{3}})"),
        (
            "bidi_control",
            BIDI,
            f"[{_EMBEDDING}\u202d\u202e](?:(?<=[\u202d\u202e])|(?<=[A-Za-z ].)[{_EMBEDDING}]*[A-Za-z])",
        ),
        # A flag emoji spells its region with tags after the black flag; only tags elsewhere are smuggling.
        ("tag_characters", TAGS, f"[{TAGS}](?:(?<![\U0001f3f4{TAGS}].)|[{TAGS}]{{7}})"),
        ("variation_selectors", SELECTORS, f"[{SELECTORS}][{SELECTORS}]{{2}}"),
        ("styled_letters", _STYLED, f"[{_STYLED}][{_STYLED}]{{3}}"),
        (
            "combining_flood",
            MARKS,
            f"[{MARKS}](?:[{MARKS}]{{{MARK_LIMIT}}}|(?<=[A-Za-z][\u0334-\u0338])(?:[A-Za-z][\u0334-\u0338]){{2}})",
        ),
        ("lone_surrogates", "\ud800-\udfff", "[\ud800-\udfff]"),
    )
)
"""A pattern begins with one of the characters, which are searched for at C speed."""


def reveal(text: str) -> tuple[str, Offsets, tuple[str, ...], Sequence[int]]:
    """Return the text as a reader sees it (case and white space kept), its offsets, its signals and its gates."""
    if text.isascii():
        gates = GATE.matching(text)
        if Gate.CONTROL not in gates:
            return text, range(len(text) + 1), (), gates
        visible, offsets = rewrite(text, _CONTROL_RUN, lambda run: "")
        return visible, offsets, _signals(text, set(text)), GATE.matching(visible)
    characters = set(text)
    signals: tuple[str, ...] = ()
    marked = not _MARK_SET.isdisjoint(characters)
    if not marked and _CHANGED.isdisjoint(characters):
        visible, offsets = text, range(len(text) + 1)
    else:
        visible, offsets = _resolve_clusters(text, len(characters)) if marked else _resolve_characters(text, characters)
        signals = _signals(text, characters)
    if not _LOOKALIKE_SET.isdisjoint(characters) and len(characters) < _NOISE:
        latin = _fold_lookalikes(visible)
        if latin != visible:
            visible, signals = latin, (*signals, "homoglyphs")
    gates = GATE.matching(visible)
    if not _SOUNDING.isdisjoint(characters) and holds_transliterated_words(visible):
        gates = [*gates, Gate.TRANSLITERATED]
    return visible, offsets, signals, gates


def _signals(text: str, characters: set[str]) -> tuple[str, ...]:
    return tuple(
        name for name, members, sign in _SUSPICIOUS if not members.isdisjoint(characters) and sign.search(text)
    )


def _resolve_characters(text: str, characters: set[str]) -> tuple[str, Offsets]:
    visible = _FAR_HIDDEN.sub("", text).translate(_FORM_TABLE)
    resized = [character for character in characters if character in _FORM_LENGTHS]
    if not resized:
        return visible, range(len(text) + 1)
    if sum(map(text.count, resized)) > _FEW:
        return visible, spread_forms(text, _FORM_LENGTH_TABLE)
    offsets = array("I")
    done = 0
    for position in sorted(chain.from_iterable(positions(text, character) for character in resized)):
        offsets.extend(range(done, position))
        offsets.extend(repeat(position, _FORM_LENGTHS[text[position]]))
        done = position + 1
    offsets.extend(range(done, len(text) + 1))
    return visible, offsets


def _resolve_clusters(text: str, noise: int) -> tuple[str, Offsets]:
    """Resolve letter by letter, each with its combining marks; of `noise` different characters, drop the marks."""
    spans = [(max(run.start() - 1, 0), run.end()) for run in _MARK_RUN.finditer(text)] if noise < _NOISE else []
    marked = [text[begin:end] for begin, end in spans]
    plain = [
        text[end:begin]
        for end, begin in zip((0, *(end for _, end in spans)), (*(begin for begin, _ in spans), len(text)), strict=True)
    ]
    distinct = set(marked)
    if noise >= _NOISE or len(distinct) + len(set("".join(plain))) >= _DISTINCT_CLUSTERS:
        return _FAR_HIDDEN.sub("", text).translate(_BARE_TABLE), spread_forms(text, _BARE_LENGTH_TABLE)
    table = {cluster: _resolve_cluster(cluster) for cluster in distinct}
    resolved = list(map(table.__getitem__, marked))
    shown = _FAR_FORMS.sub("", _SEAM.join(plain)).translate(_FORM_TABLE).split(_SEAM)
    places = np.fromiter((begin for begin, _ in spans), np.int64, len(spans))
    lengths = np.fromiter(map(len, resolved), np.uint8, len(spans))
    visible = "".join(chain.from_iterable(zip(shown, (*resolved, ""), strict=True)))
    return visible, spread_forms(text, _BARE_LENGTH_TABLE, (places, lengths))


def _resolve_cluster(cluster: str) -> str:
    base = cluster[:1]
    form = FORMS.get(base, base)
    if base in _MARK_SET or len(cluster) == 1:
        return "" if base in _MARK_SET else form
    if not form or len(cluster) > MARK_LIMIT + 1:
        return form
    composed = unicodedata.normalize("NFC", form + cluster[1:])
    return _MARK_RUN.sub("", composed)


def _fold_lookalikes(visible: str) -> str:
    """Turn look-alikes of other scripts into Latin letters, in words that mix them with Latin ones.

    A word is folded only when it becomes wholly Latin ("ignоrе"), so "SQLзапрос" and units such as "μm" stay. Words of
    nothing but look-alikes count when several become known words, and everything is folded where most words gave the
    text away.
    """
    pieces = _WORD_PIECES.split(visible)
    words = [word for word in set(pieces) if not word.isascii() and not _ALL_LOOKALIKES.isdisjoint(word)]
    folded: dict[str, str] = {}
    unmixed: dict[str, str] = {}
    pure = 0
    in_latin = _in_latin(words)
    for word, (latin, certain) in zip(words, in_latin, strict=True):
        mixed = _HAS_LATIN.search(word) is not None
        pure += not mixed and len(word) > 1
        if len(word) > 3 and latin and certain:
            if mixed:
                folded[word] = latin
            elif word.casefold() not in RANKS and latin.casefold() in RANKS:
                unmixed[word] = latin
    if folded or len(unmixed) >= _GIVEAWAYS:
        if 2 * (len(folded) + len(unmixed)) >= pure:
            folded |= {word: latin for word, (latin, _) in zip(words, in_latin, strict=True) if latin}
        return "".join(map(folded.get, pieces, pieces))
    return visible


def _in_latin(words: list[str]) -> list[tuple[str | None, bool]]:
    """Return each word in Latin letters, or None where look-alikes do not make it one, and whether it surely is one.

    Letters that are only reminders make it so in known words alone.
    """
    near = "\n".join(words).translate(_TO_LATIN)
    far = near.translate(_FAR_TO_LATIN)
    found: list[tuple[str | None, bool]] = []
    for latin, bare, far_latin, far_bare in zip(
        *(text.split("\n") for text in (near, fold_diacritics(near), far, fold_diacritics(far))), strict=True
    ):
        if bare.isascii():
            found.append((latin, True))
        elif far_bare.isascii():
            found.append((far_latin, far_bare.casefold() in RANKS))
        else:
            found.append((None, False))
    return found if words else []
