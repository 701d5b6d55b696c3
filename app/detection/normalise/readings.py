"""Scrambled letters that people and models still read: spaced, mirrored, shifted, or written with digits.

A reading counts when its words are known and the words of the text as it stands are not.
"""

from __future__ import annotations

import codecs
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, compress, count, islice
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.detection.normalise.encodings import Found
from app.detection.normalise.gate import ATBASH, CAESAR, UPSIDE_DOWN, new_triggers
from app.detection.normalise.mirrored import holds_own_words, is_set_backwards
from app.detection.normalise.offsets import Offsets, packed
from app.detection.normalise.vocabulary import (
    LONGEST_WORD,
    MAX_SEGMENTED,
    RANKS,
    is_plausible,
    language_share,
    likeliest,
    segment,
)

LANGUAGE: Final = 0.5
"""What another reading must gain, as a share of the letters that are plausible in one reading only."""
ENOUGH_LETTERS: Final = 8
"""Letters of different known words of three letters and more that another reading must show."""
MOST: Final = 0.6
"""Share of a text from which it is reread as a whole."""
OWN_WORDS: Final = 0.25
"""Share of the letters beside it that are plausible only as they stand, from which they are left so."""

_MAX_JUDGED: Final = 300
"""Unknown words whose spelling is looked at, about 1 ms of work; past that only known words count."""

# --- Letters set apart ----------------------------------------------------------------------------------------------

_BLANK_RUN: Final = re.compile(r"(?<!\S)\S(?:\s{1,6}\S)+(?![^\s.,;:!?)\"'])")
_BLANKS: Final = re.compile(r"\s+")
_WIDE: Final = re.compile(r"\s{2,}|[^\S ]")
_SIGN_RUN: Final = re.compile(r"([._*|/~,;:\-])(?<=[^\W_].)[^\W_](?:\1[^\W_]){3,}")
"""Signs between letters, from the first sign."""
_SIGNS: Final = "._*|/~,;:-"
_APART_SHARE: Final = 0.4
_SIGN_SHARE: Final = 0.25
_WHITE_POINTS: Final = np.array([point for point in range(0x3001) if chr(point).isspace()], np.uint32)
_LONG_RUN: Final = 5
"""Letters set apart one after the other that cannot be a list or an abbreviation."""
_MAX_RUNS: Final = 2_000
_JOINED_LANGUAGE: Final = 0.35
"""Share of letters in plausible words from which letters that stand apart are text; prose has 0.8 and more."""
_TESTED: Final = 2_000
"""Characters of a reading that are looked at to tell whether it is language."""
_TOO_LONG: Final = 8
"""Letters from which an unknown word may be several, written together."""
_LETTERS: Final = re.compile(r"[^\W\d_]+")
_LONG_WORD: Final = re.compile(rf"[^\W\d_]{{{_TOO_LONG},}}")
_CONTRACTION: Final = re.compile("re|ve|ll|[stmd]")
_JOINED: Final = re.compile(
    "(ignore|disregard|forget|override|bypass|reveal|show|print|repeat|all|any|the|your|my|you|previous|prior|above|"
    "earlier|system|prompt|instructions?|rules|safety|password|secret|and|zignoruj|zapomnij|wszystkie|poprzednie|"
    "instrukcje|polecenia|zasady|pokaż|ujawnij|swoje|swój|hasło|systemowy)",
    re.IGNORECASE,
)
"""Words that letters past MAX_SEGMENTED are cut at, so many of them:"""
_MAX_JOINED: Final = 10_000


def spaced_text(visible: str) -> Iterator[Found]:
    """Join letters that stand apart, by blanks or by signs."""
    yield from _blank_spaced(visible)
    yield from _sign_spaced(visible)


def join_letters(visible: str) -> tuple[str, Offsets] | None:
    """Return a text of which MOST is letters set apart with them joined, and each index of that in `visible`.

    None for other text, in which letters set apart are a layer of their own.
    """
    if not is_set_apart(visible):
        return None
    for found in spaced_text(visible):
        if found.end - found.start >= MOST * len(visible):
            joined = visible[: found.start] + found.text + visible[found.end :]
            return joined, _aligned(joined, visible)
    return None


def is_set_apart(visible: str) -> bool:
    """Tell whether a text has about as many blanks, or half as many of one sign, as letters; prose has a sixth."""
    blanks = sum(map(visible.count, " \t\n\r"))
    return blanks >= _APART_SHARE * len(visible) or max(map(visible.count, _SIGNS)) >= _SIGN_SHARE * len(visible)


def _aligned(joined: str, visible: str) -> Offsets:
    """Return where each character of a text stands in the longer one from which only signs and blanks were taken out.

    A blank that was put in stands where the next character does.
    """
    kept, all_kept = _letters_of(joined), _letters_of(visible)
    if len(kept) == len(all_kept):
        following = np.searchsorted(kept, np.arange(len(joined) + 1))
        # Blanks at the end of both have no character behind them.
        places = np.append(all_kept, all_kept[-1] + 1 if len(all_kept) else 0).astype(np.uint32)[following]
        places[-1] = len(visible)
        return packed(places)
    offsets: array[int] = array("I")
    place = 0
    for character in joined:
        if character.isspace():
            offsets.append(min(place, len(visible) - 1))
            continue
        while place < len(visible) and visible[place] != character and visible[place].lower() != character:
            place += 1
        offsets.append(min(place, len(visible) - 1))
        place += 1
    offsets.append(len(visible))
    return offsets


def _letters_of(text: str) -> NDArray[np.int64]:
    """Return the places of everything but white space."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    return np.flatnonzero(~np.isin(points, _WHITE_POINTS))


def _blank_spaced(visible: str) -> Iterator[Found]:
    """Join letters set apart by blanks: the commonest blank joins, wider ones part words.

    Where all blanks are alike nothing shows where words end, and the known words decide.
    """
    runs = [run for run, _ in zip(_BLANK_RUN.finditer(visible), range(_MAX_RUNS), strict=False)]
    runs = _belonging(runs, len(visible))
    blanks = Counter(chain.from_iterable(_BLANKS.findall(run[0]) for run in runs))
    if not blanks:
        return
    within = max(blanks, key=lambda blank: blanks[blank])
    joined = [_WIDE.sub("\0", run[0]).replace(" ", "").replace("\0", " ") for run in runs]
    if within != " ":
        joins = re.compile(rf"(?<=\S){re.escape(within)}(?=\S)")
        joined = [_BLANKS.sub(" ", joins.sub("", run[0])) for run in runs]
    if len(blanks) == 1 and not any(map(_SIGN_RUN.search, joined)):
        joined = _cut(joined)
    sample = " ".join(joined)[:_TESTED]
    # Signs may stand between the letters besides: then the next reading joins what this one brought together.
    if not (_is_language(sample) or _is_language(unleet(sample)) or _SIGN_RUN.search(sample)):
        return
    pieces: list[str] = []
    done = runs[0].start()
    for run, text in zip(runs, joined, strict=True):
        pieces += (visible[done : run.start()], text)
        done = run.end()
    yield Found("spaced_letters", "".join(pieces), runs[0].start(), done)


def _belonging(runs: list[re.Match[str]], length: int) -> list[re.Match[str]]:
    """Leave out short runs, which ordinary text has too, unless the text is full of runs or long ones stand around."""
    long = [run for run in runs if len(run[0]) >= 2 * _LONG_RUN - 1]
    if not long or sum(len(run[0]) for run in runs) >= MOST * length:
        return runs if long else []
    return [run for run in runs if long[0].start() <= run.start() <= long[-1].start()]


def _sign_spaced(visible: str) -> Iterator[Found]:
    """Take a sign out from between letters, in all words that hold it as often as letters set apart do."""
    signs = Counter(islice(_signs_between(visible), _MAX_RUNS))
    if not signs:
        return
    sign = re.escape(max(signs, key=lambda sign: signs[sign]))
    letter = r"[^\W\d_]"
    words = re.compile(rf"(?<!{letter}){letter}(?:{sign}{letter})+")
    text = words.sub(lambda word: word[0].replace(word[0][1], ""), visible)
    room = MAX_SEGMENTED

    def parted(word: re.Match[str]) -> str:
        nonlocal room
        if room <= 0:
            return word[0]
        lowered = word[0].lower()
        if len(lowered) < _TOO_LONG or (len(lowered) < 2 * _TOO_LONG and is_plausible(lowered)):
            return word[0]
        room -= len(lowered)
        cut = segment(lowered[:MAX_SEGMENTED])
        return " ".join(cut) if all(piece in RANKS for piece in cut) else word[0]

    # İ is the only letter that is two in lower case.
    text = (_LETTERS if "İ" in text else _LONG_WORD).sub(parted, text)
    if _is_language(text[:_TESTED]) or _is_language(unleet(text[:_TESTED])):
        yield Found("spaced_letters", text, 0, len(visible))


def _signs_between(visible: str) -> Iterator[str]:
    """Yield the sign of each run of letters that one sign sets apart; no letter belongs to two runs."""
    run = _SIGN_RUN.search(visible)
    while run is not None:
        yield run[1]
        run = _SIGN_RUN.search(visible, run.end() + 1)


def _cut(joined: list[str]) -> list[str]:
    """Cut what is written without blanks into words."""
    room = MAX_SEGMENTED
    cut = []
    for text in joined:
        known, rest = text[: max(room, 0)], text[max(room, 0) :]
        room -= len(text)
        words = _LETTERS.sub(lambda word: f" {' '.join(_words_of(word))} ", known)
        cut.append(" ".join((words + " ".join(_JOINED.split(rest[:_MAX_JOINED])) + rest[_MAX_JOINED:]).split()))
    return cut


def _words_of(run: re.Match[str]) -> list[str]:
    """Cut a run of letters into words; after an apostrophe it begins with the end of a word."""
    letters = run[0].lower()
    ending = _CONTRACTION.match(letters) if run.string[run.start() - 1 : run.start()] in {"'", "’"} else None
    if ending is None:
        return segment(letters)
    return [ending[0], *segment(letters[ending.end() :])]


def _is_language(text: str) -> bool:
    """Tell whether joined letters make words: enough letters of known words and enough in plausible ones."""
    known = sum(len(word) for word in _WORD.findall(text.casefold()) if len(word) > 2 and word in RANKS)
    if known >= _SHORTEST_TRIGGER and language_share(text, shortest=3) >= _JOINED_LANGUAGE:
        return True
    return new_triggers(text, "") > 0


# --- Letters exchanged or mirrored ----------------------------------------------------------------------------------

_WORD: Final = re.compile(r"[^\W\d_]{2,}")
_SHORTEST_TRIGGER: Final = 5


@dataclass(frozen=True, slots=True)
class Words:
    """The words of two letters and more of a text, with what all exchanges ask of them."""

    lowered: str
    """The distinct ones casefolded, one a line."""
    known: NDArray[np.int64]
    """Which distinct ones are known as they stand, 1 or 0."""
    sizes: NDArray[np.int64]
    """Letters of each distinct one."""
    places: NDArray[np.int64]
    """For each word, in the order of the text, its place among the distinct ones."""


def words_of(text: str) -> Words:
    words = _WORD.findall(text)
    place_of = dict(zip(dict.fromkeys(words), count(), strict=False))
    lowered = "\n".join(place_of).casefold()
    return Words(
        lowered,
        np.fromiter(map(RANKS.__contains__, lowered.split("\n")), np.int64, len(place_of)),
        np.fromiter(map(len, place_of), np.int64, len(place_of)),
        np.fromiter(map(place_of.__getitem__, words), np.int64, len(words)),
    )


def _region(visible: str, words: Words, reread: Callable[[str], str]) -> tuple[int, int] | None:
    """Return where in the text the other reading makes sense: the stretch of words with most letters gained.

    A word that is plausible only in the other reading gains its letters, a word that is plausible only as it stands
    loses them, and the rest is taken along. None when too little is gained, or among too much that means nothing.
    """
    others = reread(words.lowered).split("\n")
    if reread is _mirrored:
        others.reverse()
    known_others = np.fromiter(map(RANKS.__contains__, others), np.int64, len(words.sizes))
    gains = _gains(words, others, known_others)[words.places]
    totals = np.concatenate(([0], gains.cumsum()))
    lowest = np.minimum.accumulate(totals)
    last = int((totals - lowest).argmax())
    best = int(totals[last] - lowest[last])
    if best < _SHORTEST_TRIGGER:
        return None
    first = int(totals[: last + 1].argmin())
    # What is unknown in both readings belongs to the stretch beside it.
    gaining = gains.nonzero()[0]
    first = int(max(gaining[gaining < first], default=-1)) + 1
    last = int(min(gaining[gaining >= last], default=len(gains)))
    if best < LANGUAGE * int(np.abs(gains[first:last]).sum()):
        return None
    shown = np.zeros(len(others), np.bool_)
    shown[words.places[first:last]] = True
    other = {others[place] for place in (shown & (known_others > 0)).nonzero()[0].tolist()}
    known = sum(len(word) for word in other if len(word) > 2)
    if known < _SHORTEST_TRIGGER:
        return None
    begin, end = _place(visible, first, last, words, gains)
    return (begin, end) if known >= ENOUGH_LETTERS or new_triggers(reread(visible[begin:end]), visible) else None


def _place(visible: str, first: int, last: int, words: Words, gains: NDArray[np.int64]) -> tuple[int, int]:
    """Return where the words from `first` to before `last` stand; all of the text when they are MOST of it and the
    others are not words as they stand, which the other reading would take away."""
    begin, end = 0, len(visible)
    if first > 0 or last < len(gains):
        matches = _WORD.finditer(visible)
        opening = next(islice(matches, first, None))
        begin = opening.start() if first > 0 else 0
        if last < len(gains):
            end = (next(islice(matches, last - first - 2, None)) if last - first > 1 else opening).end()
    lost = -int(np.minimum(gains[:first], 0).sum() + np.minimum(gains[last:], 0).sum())
    letters = int(words.sizes[words.places[:first]].sum() + words.sizes[words.places[last:]].sum())
    if end - begin < MOST * len(visible) or lost >= max(ENOUGH_LETTERS, OWN_WORDS * letters):
        return begin, end
    return 0, len(visible)


def _gains(words: Words, others: list[str], known_others: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many letters each distinct word gains in its other reading; only of the first MAX_JUDGED unknown ones
    the spelling is looked at."""
    gains = known_others - words.known
    judged = ((known_others == 0) & (words.known == 0)).nonzero()[0][:_MAX_JUDGED].tolist()
    lowered = words.lowered.split("\n", judged[-1] + 1) if judged else []
    for place in judged:
        gains[place] = is_plausible(others[place]) - is_plausible(lowered[place])
    return gains * words.sizes


def _exchanged(kind: str, exchange: Callable[[str], str], visible: str, words: Words) -> Iterator[Found]:
    region = _region(visible, words, exchange)
    if region is not None:
        yield Found(kind, exchange(visible[region[0] : region[1]]), *region)


_SHIFTED_BACK: Final = {shifted: letter for letter, shifted in CAESAR.items()}


def _rot13(text: str) -> str:
    return codecs.encode(text, "rot13")


def _atbash(text: str) -> str:
    return text.translate(ATBASH)


def _mirrored(text: str) -> str:
    return text[::-1]


rot13_text: Final = partial(_exchanged, "rot13", _rot13)
atbash_text: Final = partial(_exchanged, "atbash", _atbash)
caesar_text: Final = partial(_exchanged, "caesar", lambda text: text.translate(_SHIFTED_BACK))


def reversed_text(visible: str, words: Words) -> Iterator[Found]:
    """Read from the end, and once more with the words in their order."""
    region = _region(visible, words, _mirrored)
    if is_set_backwards(visible) and not holds_own_words(visible, region or (0, 0)):
        region = 0, len(visible)
    if region is None:
        return
    text = _mirrored(visible[region[0] : region[1]])
    yield Found("reversed", text, *region)
    yield Found("reversed_words", "".join(reversed(re.split(r"(\s+)", text))), *region)


def upside_down_text(visible: str) -> Iterator[Found]:
    if _is_language(visible[-_TESTED:][::-1].translate(UPSIDE_DOWN)):
        yield Found("upside_down", visible[::-1].translate(UPSIDE_DOWN), 0, len(visible))


# --- Letters written in other signs -----------------------------------------------------------------------------------

_MORSE_RUN: Final = re.compile(r"[.\-·•−–]{1,6}(?:(?:[ \t]{1,9}|\s{0,3}[/|\n]\s{0,3})[.\-·•−–]{1,6}){7,}")
_MORSE_SIGNS: Final = str.maketrans("·•−–", "..--")
_MORSE_PARTS: Final = re.compile(r"\s{0,3}[/|\n]\s{0,3}|[ \t]{3,9}")
_MORSE_ALPHABET: Final = (
    ".- -... -.-. -.. . ..-. --. .... .. .--- -.- .-.. -- -. --- .--. --.- .-. ... - ..- ...- .-- -..- -.-- --.. ----- "
    ".---- ..--- ...-- ....- ..... -.... --... ---.. ----. .-.-.- --..-- ..--.."
)
_MORSE: Final[dict[str, str]] = {
    sign: letter
    for letter, sign in zip(
        "abcdefghijklmnopqrstuvwxyz0123456789.,?",
        _MORSE_ALPHABET.split(),
        strict=True,
    )
}
_LETTER_EMOJI_RUN: Final = re.compile(
    "[\U0001f1e6-\U0001f1ff](?:[^\\w\U0001f1e6-\U0001f1ff]{0,6}[\U0001f1e6-\U0001f1ff]){5,}"
)
_LETTER_EMOJI: Final = {point: ord("a") + place for place, point in enumerate(range(0x1F1E6, 0x1F200))}


def morse_text(visible: str) -> Iterator[Found]:
    for run in _MORSE_RUN.finditer(visible):
        words = _MORSE_PARTS.split(run[0].translate(_MORSE_SIGNS))
        text = " ".join("".join(_MORSE.get(sign, "") for sign in word.split()) for word in words)
        if _is_language(text[:_TESTED]):
            yield Found("morse", text, *run.span())


def letter_emoji_text(visible: str) -> Iterator[Found]:
    """Read the letters of which flags are made, where they spell words; flags name regions."""
    for run in _LETTER_EMOJI_RUN.finditer(visible):
        text = run[0].translate(_LETTER_EMOJI)
        if is_set_apart(text):
            yield from (Found("letter_emoji", found.text, *run.span()) for found in spaced_text(text))
        elif _is_language(text[:_TESTED]):
            yield Found("letter_emoji", text, *run.span())


# --- Letters written as digits and signs ----------------------------------------------------------------------------

_LEET: Final = {
    "0": "o", "1": "il", "3": "e", "4": "a", "5": "s", "6": "gb", "7": "t", "8": "b", "9": "g", "@": "a", "$": "s",
    "!": "il", "|": "li", "+": "t",
}  # fmt: skip
"""The letters that a sign stands for, the likelier first."""
_ENDINGS: Final = {"5": "s", "$": "s", "7": "t", "+": "t", "11": "ll", "r3": "re", "v3": "ve"}
"""What stands for the end of a word after an apostrophe."""
_SIGN_WORDS: Final = {
    "0": "o", "4": "a", "@": "a", "1": "i", "!": "i", "15": "is", "17": "it", "70": "to", "50": "so",
    "45": "as", "47": "at", "83": "be", "90": "go",
}  # fmt: skip
"""Short words that are written without any letter."""
_SIGNS_ALONE: Final = _ENDINGS.keys() | _SIGN_WORDS.keys()
_AFTER_NUMBER: Final = frozenset(").%:€£")
"""What stands after a number rather than after a word of one or two letters."""
_IN_NUMBER: Final = re.compile(r"\d[.,:/-]\d")
_LEET_TABLE: Final = str.maketrans({sign: letters[0] for sign, letters in _LEET.items()})
_COMMON: Final = 1_000
"""Rank of the words that may be written in digits alone."""
_ADDRESS: Final = re.compile(r"[^\W@]{3,}@[^\W@]{3,}")
_CERTAIN_TABLE: Final = str.maketrans({sign: letters for sign, letters in _LEET.items() if len(letters) == 1})
_DOUBT: Final = re.compile(f"[{''.join(sign for sign, letters in _LEET.items() if len(letters) > 1)}]")
_LEET_SIGN: Final = re.compile(r"[0-9@$!|+]")
_SIGN_LINE: Final = re.compile(r"^[^\n0-9@$!|+]*+[0-9@$!|+].*", re.MULTILINE)
"""A word that holds such a sign, of words one a line."""
_LEET_EDGE: Final = re.compile(r"[^\W\d_][0-9@$|+]|[0-9@$!|+][^\W\d_]")
_MEASURE: Final = re.compile(r"[0-9]+[a-z]{1,3}|[a-z]{1,3}[0-9]+")
"""An ordinal, a measure or a name such as mp3."""
_LEET_SPLIT: Final = re.compile(r"([\w@$!|+]+)")
_SIGN_INSIDE: Final = re.compile(r"[^\W\d_][0-9@$!|+]+[^\W\d_]")
_EVIDENT: Final = 4
"""Points that make a text leetspeak: two for a word that becomes a known one, one for a plausible one."""
_MAX_DOUBTS: Final = 4
"""Signs of one word that stand for two letters each; past that the likelier ones are taken."""
_MAX_TOKENS: Final = 1_000
"""Different words with digits or signs of which every reading is tried; of more, the likeliest letters are taken."""
_ENCODED_RUN: Final = re.compile(r"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{40,}={0,2}")
"""What base64 is made of: its digits tell nothing about the words beside it."""


def leet_text(visible: str) -> Iterator[Found]:
    """Read digits and signs as letters where that makes known words of most words that hold them."""
    text = _leet_reading(visible, certain=False)
    if text is not None:
        yield Found("leetspeak", text, 0, len(visible))


def unleet(text: str) -> str:
    """Read every digit and sign in a word as a letter."""
    return _leet_reading(text, certain=True) or text


def _leet_reading(visible: str, *, certain: bool) -> str | None:
    if not certain and not _LEET_EDGE.search(visible):
        return None
    pieces = _LEET_SPLIT.split(visible)
    distinct = dict.fromkeys(pieces[1::2])
    tokens = _SIGN_LINE.findall("\n".join(distinct))
    if not tokens:
        return None
    rest, encoded = _ENCODED_RUN.subn(" ", visible)
    outside = frozenset(_LEET_SPLIT.findall(rest)) if encoded else distinct.keys()
    all_lowered = "\n".join(tokens).casefold()
    readings: dict[str, str] = {}
    mixed = evident = judged = 0
    for token, lowered, letter_by_letter in zip(
        tokens, all_lowered.split("\n"), all_lowered.translate(_LEET_TABLE).split("\n"), strict=True
    ):
        if len(token) > LONGEST_WORD or token not in outside or judged == _MAX_TOKENS:
            readings[token] = letter_by_letter
            continue
        judged += 1
        if "|" in token and all(map(is_plausible, filter(None, lowered.split("|")))):
            continue
        reading, known = _unleet_word(lowered)
        letters = _LEET_SIGN.sub("", lowered)
        if not letters:
            if lowered in _SIGN_WORDS:
                readings[token] = _SIGN_WORDS[lowered]
            elif known and (not lowered.isdecimal() or (len(lowered) > 2 and RANKS[reading] <= _COMMON)):
                readings[token] = reading
            continue
        readings[token] = reading
        stem = lowered.rstrip("!+")
        if len(stem) >= 3 and stem != letters and not _MEASURE.fullmatch(stem):
            mixed += 1
            evident += 2 * known or (_SIGN_INSIDE.search(stem) is not None and is_plausible(reading))

    read = list(map(readings.get, pieces, pieces))
    alone = not _SIGNS_ALONE.isdisjoint(distinct)
    for place in compress(count(), map(_SIGNS_ALONE.__contains__, pieces)) if alone else ():
        piece = pieces[place]
        if piece in _ENDINGS and pieces[place - 1][-1:] in {"'", "’"}:
            read[place] = _ENDINGS[piece]
        elif piece in _SIGN_WORDS and _is_no_word(pieces, place):
            read[place] = piece
    text = "".join(read)
    if certain or (evident >= _EVIDENT and 2 * evident >= mixed) or new_triggers(text, visible):
        return text
    return None


def _is_no_word(pieces: list[str], place: int) -> bool:
    """Tell whether a number or a sign among the pieces of a text stands for itself: 4.1, 3/4, 1), 50 %, != and !."""
    after = pieces[place + 1][:1]
    if not pieces[place].isdecimal():
        return not after.isspace()
    return after in _AFTER_NUMBER or _IN_NUMBER.search("".join(pieces[max(place - 2, 0) : place + 3])) is not None


def _unleet_word(token: str) -> tuple[str, bool]:
    """Return the likeliest reading of a casefolded word, and whether it is a known word."""
    stem = token.rstrip("!")
    readings = _readings(token)
    known = _known(readings)
    if stem != token and (len(stem) > 1 or not known):
        known_stems = _known(_readings(stem))
        if known_stems or not _LEET_SIGN.search(stem):
            return min(known_stems, key=RANKS.__getitem__, default=stem) + token[len(stem) :], True
    if known:
        return min(known, key=RANKS.__getitem__), True
    if "@" in token and _ADDRESS.fullmatch(token):
        return "@".join(_unleet_word(part)[0] for part in token.split("@")), False
    return likeliest(readings), False


def _readings(word: str) -> list[str]:
    """Return every reading of a word, the likelier letters of its first signs first."""
    doubts = _DOUBT.findall(word) if len(word) <= LONGEST_WORD else []
    if not 0 < len(doubts) <= _MAX_DOUBTS:
        return [word.translate(_LEET_TABLE)]
    first, *rest = _DOUBT.split(word.translate(_CERTAIN_TABLE))
    readings = [first]
    for sign, letters in zip(doubts, rest, strict=True):
        readings = [f"{reading}{letter}{letters}" for reading in readings for letter in _LEET[sign]]
    return readings


def _known(readings: list[str]) -> list[str]:
    return [reading for reading in readings if reading in RANKS]
