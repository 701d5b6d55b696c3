"""One pass over a text that tells which decoders could possibly apply."""

from __future__ import annotations

import codecs
import re
import string
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Final

import re2  # type: ignore[import-untyped]

from app.detection.normalise.vocabulary import RANKS

TRIGGERS: Final = (
    "ignore", "ignoring", "disregard", "forget", "override", "bypass", "reveal", "system", "prompt", "instruction",
    "previous", "password", "secret", "jailbreak", "unrestricted", "developer mode", "guidelines", "restrictions",
    "rules", "safety", "pretend", "respond", "hidden", "confidential", "repeat", "print your", "zignoruj", "zapomnij",
    "instrukcj", "poleceni", "poprzedni", "ujawnij", "hasło", "haslo", "pokaż", "pokaz", "zasady", "ignoriere",
    "vergiss", "anweisung", "oublie", "olvida", "instruccion", "istruzion", "instrucoes", "игнорир", "забудь",
    "инструкц", "ігноруй", "інструкц",
)  # fmt: skip
"""Words that make a reading of scrambled letters worth keeping: what an override is made of, by language."""
FREQUENT: Final = (
    "the", "and", "you", "for", "that", "with", "this", "your", "what", "are", "not", "have", "from", "can", "was",
    "about", "please", "would", "should", "write", "tell", "they", "will", "just", "like", "when", "how", "need", "but",
    "all", "one", "which", "there", "make", "them", "give", "jest", "nie", "jak", "mnie", "tego", "przez", "dla", "ale",
    "czy", "oraz", "moje", "swoje", "jakie", "napisz", "tylko", "wszystkie", "jako", "kiedy", "teraz", "bez", "und",
    "nicht", "ich", "sie", "ist", "das", "der", "mir", "deine", "bitte", "wie", "eine", "les", "des", "vous", "est",
    "pas", "pour", "dans", "que", "votre", "sur", "para", "los", "las", "con", "una", "por", "che", "non", "per",
    "sono", "como", "się", "że", "mi", "na", "po", "do", "od", "za", "we", "ze", "mam", "masz", "jestem", "twoja",
    "twoje", "mój", "moja", "które", "który", "która", "przed", "potem", "gdy", "chcę", "proszę", "może", "można",
    "słowo", "zasady", "swoją", "swój", "także", "tekst", "taki", "lub", "ich", "być", "było", "ten", "te", "tym",
    "of", "to", "in", "is", "it", "be", "my", "me", "so", "or", "now", "new", "any", "out", "if", "by", "on", "without",
    "every", "only", "into", "first", "word", "than", "then", "some", "been", "were", "two", "key", "say", "said",
    "czyli", "albo", "przy", "tak", "tutaj", "tego", "mnie", "tobie", "więc", "będzie", "sobie", "trzy",
)  # fmt: skip
"""Words that nearly every text of their language holds."""
_ENDINGS: Final = ("ing", "tion", "ness", "ment", "ość", "ych", "ach", "ego", "ować", "łem", "esz", "anie")
"""Endings of many words of English and Polish."""
ATBASH: Final = str.maketrans(
    string.ascii_letters, string.ascii_lowercase[::-1] + string.ascii_uppercase[::-1]
)  # a for z, b for y
CAESAR: Final = str.maketrans(
    string.ascii_letters,
    "".join(letters[3:] + letters[:3] for letters in (string.ascii_lowercase, string.ascii_uppercase)),
)
"""Caesar's own shift: d for a, c for z."""
UPSIDE_DOWN: Final = str.maketrans("ɐqɔpǝɟƃɓɥᴉıɾʞʃןɯudbɹʇnʌʍʎ", "abcdefgghiijkllmnpqrtuvwy")
"""Letters that pass for Latin ones stood on their heads."""
LATIN_SOUNDS: Final[dict[str, tuple[str, ...]]] = {
    "а": ("a",), "б": ("b",), "в": ("v", "w"), "г": ("g", "h"), "ґ": ("g",), "д": ("d",), "е": ("e",), "є": ("e",),
    "ж": ("j", "z"), "з": ("z",), "и": ("i",), "і": ("i",), "ї": ("i",), "й": ("y", "j", "i"), "к": ("k", "c", "q"),
    "л": ("l",), "м": ("m",), "н": ("n",), "о": ("o",), "п": ("p",), "р": ("r",), "с": ("s", "c"), "т": ("t",),
    "у": ("u", "y", "w"), "ф": ("f",), "х": ("h", "x"), "ц": ("c",), "ч": ("ch", "c"), "ш": ("sh", "w"),
    "щ": ("w", "q"), "ы": ("y",), "э": ("e",), "ю": ("u", "yu"), "я": ("ya", "a"), "ј": ("j",), "ў": ("w",),
    "α": ("a",), "β": ("b", "v"), "γ": ("g", "y"), "δ": ("d",), "ε": ("e",), "ζ": ("z",), "η": ("h", "e", "i"),
    "θ": ("th", "u"), "ι": ("i", "j"), "κ": ("k", "c", "q"), "λ": ("l",), "μ": ("m",), "ν": ("n", "v"),
    "ξ": ("x", "j"), "ο": ("o",), "π": ("p",), "ρ": ("r",), "σ": ("s", "c"), "ς": ("s", "w"), "τ": ("t",),
    "υ": ("u", "y"), "φ": ("f", "ph"), "χ": ("h", "x", "ch"), "ψ": ("ps", "y"), "ω": ("o", "w"),
}  # fmt: skip
"""The Latin letters that one of Cyrillic or Greek is written for, the likelier first."""
_LEET_FORMS: Final = {
    "a": "[a4@]", "b": "[b8]", "e": "[e3]", "g": "[g96]", "i": "[i1!|]", "l": "[l1|]", "o": "[o0]", "s": "[s5$]",
    "t": "[t7+]",
}  # fmt: skip
_INSIDE: Final = r"[A-Za-z][0-9@$!|+]{1,3}[A-Za-z]"
_SCRAMBLED: Final = tuple(word for word in TRIGGERS if len(word) >= 6 and " " not in word)


def _leet_form(word: str) -> str:
    return "".join(_LEET_FORMS.get(letter, re.escape(letter)) for letter in word)


def _scrambled(scramble: Callable[[str], str]) -> str:
    """Return a pattern for triggers anywhere, and for frequent words and endings that are no words as they stand."""
    triggers = "|".join(scramble(word) for word in _SCRAMBLED if word.isascii())
    words = "|".join(scramble(word) for word in FREQUENT if scramble(word) not in RANKS)
    endings = "|".join(map(scramble, _ENDINGS))
    edge = rf"(?:^|[^\pL])(?:{endings})\pL{{2}}" if scramble("ab") == "ba" else rf"\pL{{2}}(?:{endings})(?:[^\pL]|$)"
    return rf"(?i){triggers}|(?:^|[^\pL])(?:{words})(?:[^\pL]|$)|{edge}"


def _in_other_letters(word: str) -> str:
    """Return a pattern for a Latin word in letters of Cyrillic or Greek that each stand for one of its own."""
    forms = {
        letter: "".join(other for other, sounds in LATIN_SOUNDS.items() if letter in sounds)
        for letter in string.ascii_lowercase
    }
    return "".join(f"[{forms[letter]}]" for letter in word)


class Gate(IntEnum):
    """What a text is searched for, in the order in which it is decoded."""

    TOKEN = 0
    PERCENT = 1
    ENTITY = 2
    ESCAPE = 3
    SPACED = 4
    HEX_PAIRS = 5
    BINARY = 6
    DECIMAL = 7
    ROT13 = 8
    ATBASH = 9
    REVERSED = 10
    LEET = 11
    UPSIDE_DOWN = 12
    PIECES = 13
    OCTAL = 14
    QUOTED_PRINTABLE = 15
    MORSE = 16
    LETTER_EMOJI = 17
    PARTED_WORDS = 18
    QUOTED_WORDS = 19
    UNSHOWN = 20
    CONTROL = 21
    UNTIDY = 22
    TRANSLITERATED = 23
    ASCII85 = 24
    NAMED_RADIX = 25
    JOINED_WORDS = 26
    CAESAR = 27


_GATE_PATTERNS: Final = (
    {
        Gate.ROT13: _scrambled(lambda word: codecs.encode(word, "rot13")),
        Gate.CAESAR: _scrambled(lambda word: word.translate(CAESAR)),
    },
    {
        Gate.ATBASH: _scrambled(lambda word: word.translate(ATBASH)),
        Gate.REVERSED: _scrambled(lambda word: word[::-1]) + r"|(?:^|\s)[.,!?;:]{1,3}\pL{3}",
    },
    {
        Gate.LEET: rf"(?is){_INSIDE}.*{_INSIDE}|" + "|".join(_leet_form(word) for word in TRIGGERS if word.isascii()),
    },
    {
        Gate.TOKEN: r"[A-Za-z0-9+/_\-]{16}|[A-Za-z0-9+/_\-]{10}=",
        Gate.PERCENT: r"%[0-9A-Fa-f]{2}",
        Gate.ENTITY: r"&#[xX]?[0-9A-Fa-f]{2,6}",
        Gate.ESCAPE: r"\\(?:u\{[0-9A-Fa-f]|u[0-9A-Fa-f]{2}|x[0-9A-Fa-f]{2}|[01][0-7]{2}|0{0,4}[4-7][0-9A-Fa-f])",
        Gate.SPACED: r"(?:^|\s)(?:\S\s{1,6}){4}\S(?:\s|$)|(?:[0-9A-Za-zÀ-ž][._*|/~,;:\-]){4}[0-9A-Za-zÀ-ž]",
        Gate.HEX_PAIRS: r"(?:[0-9A-Fa-f]{2}(?:[\s,:;\-]+(?:0x)?)){6}",
        Gate.BINARY: r"[01]{7,8}\s+[01]{7,8}\s+[01]{7,8}",
    },
    {
        Gate.DECIMAL: r"(?:(?:3[2-9]|[4-9][0-9]|1[0-2][0-9])[\s,;]+){7}",
        Gate.UPSIDE_DOWN: r"(?s)(?:[ɐɔǝɟƃɥᴉɾʞɯɹʇʌʍʎ].*){5}",
        Gate.OCTAL: r"(?:[01][0-7]{2}[\s,;]+){7}",
        Gate.QUOTED_PRINTABLE: r"=[0-9A-Fa-f]{2}[^\s=]{0,40}=[0-9A-Fa-f]{2}|\pL=\r?\n\pL[^\n]*\n",
        Gate.MORSE: r"(?:[.\-·•−–]{1,6}[\s/|]+){8}",
        Gate.LETTER_EMOJI: r"(?:[\x{1F1E6}-\x{1F1FF}]\s{0,3}){6}",
        Gate.PARTED_WORDS: r"\pL(?:</?[A-Za-z]|<!--|&(?:[A-Za-z]|#[0-9xX]))",
    },
    {
        Gate.QUOTED_WORDS: (
            r"[\"'`*_~\])}»”’“|>][.,;:!?]?[\s,;+|/&\-]{1,4}[\"'`*_~\[({«“‘„|<]{1,3}[^\s\"`]{1,30}[\"'`*_~\])}»”’“|>]"
        ),
        Gate.UNSHOWN: (
            r"(?m)<!--|<[A-Za-z]|\]\([^()\s]*[ \t]+[\"']|^ {0,3}\[[^\]\n]{1,40}\]:[ \t]|"
            r"\A---|=\s?[A-Z][A-Z0-9.]{1,20}\(|BEGIN:V"
        ),
        Gate.ASCII85: r"<~[!-uz]{5}",
        Gate.NAMED_RADIX: r"(?i)(?:base|ascii)[ _-]?(?:85|58)|\b[ab](?:85|58)",
        Gate.CONTROL: r"[\x00-\x08\x0e-\x1b\x7f]",
        Gate.UNTIDY: r"[\t\r\x0b\x0c\x1c-\x1f]|[ \n]{2}",
    },
)
"""Those of one row are tried in one pass. An automaton of them all has a state for every combination that is half
matched: it cost a new state at nearly every letter, 0.1 ms and not 0.02 for a text of 256 characters, and 0.7 s for
100,000 at random, which these six read in 0.02 s."""
_CAPITAL_INSIDE: Final = re.compile("[a-z][A-Z]")
"""What base64 has in every few signs. Among the other patterns it would make RE2's automaton outgrow its memory on
random text, which would then take four times as long."""
_LONG_RUN: Final = re2.compile(r"[A-Za-zÀ-ž]{20}")
"""Looked for where there are long tokens: counted letters would make the automaton of all patterns too large, too."""
_SHARED_WORDS: Final = frozenset({"ale", "bez", "dla", "les", "prompt", "secret", "tak", "tekst", "ten", "was"})
"""Words that Slavic languages and Greek have too, or have taken over, in their own letters."""
_TRANSLITERATED: Final = re2.compile(
    r"(?i)(?:^|[^\pL])(?:"
    + "|".join(
        _in_other_letters(word) for word in FREQUENT if word.isascii() and len(word) > 2 and word not in _SHARED_WORDS
    )
    + r")(?:[^\pL]|$)|"
    + "|".join(_in_other_letters(word) for word in _SCRAMBLED if word.isascii() and word not in _SHARED_WORDS)
)
"""Apart from the other patterns, so that texts without such letters need not pay."""


class PatternSet:
    """RE2 patterns tried together in one pass."""

    __slots__ = ("_set",)

    def __init__(self, patterns: Sequence[str]) -> None:
        options = re2.Options()
        options.never_capture = True
        self._set = re2.Set.SearchSet(options)
        for pattern in patterns:
            self._set.Add(pattern)
        self._set.Compile()

    def matching(self, encoded: bytes) -> Sequence[int]:
        """Return the places of the patterns that match a text in UTF-8, in no particular order."""
        found: Sequence[int] | None = self._set.Match(encoded)
        return found or ()


class _GateSet:
    """All of the gate's patterns."""

    def __init__(self) -> None:
        self._sets = [(PatternSet(list(patterns.values())), list(patterns)) for patterns in _GATE_PATTERNS]

    def matching(self, text: str) -> Sequence[int]:
        """Return which gates let something of the text through, in no particular order."""
        encoded = text.encode()
        found: list[int] = [gates[place] for patterns, gates in self._sets for place in patterns.matching(encoded)]
        if _CAPITAL_INSIDE.search(text):
            found.append(Gate.PIECES)
        if Gate.TOKEN in found and _LONG_RUN.search(text) is not None:
            found.append(Gate.JOINED_WORDS)
        return found


GATE: Final = _GateSet()
_TRIGGER_SET: Final = PatternSet(TRIGGERS)


def holds_transliterated_words(text: str) -> bool:
    """Tell whether a text with letters of LATIN_SOUNDS may hold Latin words written in them."""
    return _TRANSLITERATED.search(text) is not None


def triggers_in(text: str) -> frozenset[int]:
    """Return the places among TRIGGERS of those that a text shows."""
    return frozenset(_TRIGGER_SET.matching(text.casefold().encode()))


def new_triggers(reading: str, visible: str) -> int:
    """Count the trigger words that a reading shows and the text itself does not."""
    shown = triggers_in(reading)
    return len(shown - triggers_in(visible)) if shown else 0
