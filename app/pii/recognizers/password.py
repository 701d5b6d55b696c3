"""Recognizes passwords that are assigned to a name or told in a sentence, English and Polish."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from app.pii.reading import Reading, anchored
from app.pii.recognizers.base import Candidate, TextRecognizer
from app.pii.recognizers.randomness import is_placeholder
from app.pii.words import words

_NAME: Final = (
    r"(?:password|passwd|passwort|passphrase|passcode|pass|pwd|has[lł][oa]|hasłem|haslem|haśle|hasle|wpa[_-]?key|psk|"
    r"wi-?fi[_-]?key)"
)
_ASSIGNED: Final = anchored(
    rf"(?<![A-Za-z]){_NAME}[\"'`]?[ ]{{0,3}}(?::=|=>|[:=])[ ]{{0,3}}"
    r"(?P<quote>[\"'`„“]?)(?P<value>[^\s\"'`”“,;<>]{4,128})",
    re.IGNORECASE,
    parts=("pass", "pwd", "hasł", "hasl", "haśl", "wpa", "psk", "wi-fi", "wifi"),
)
_TOLD: Final = anchored(
    r"(?<![^\W_])(?:password|passwort|passphrase|passcode|has[lł][oa]|hasłem|haslem)[ ]{1,2}"
    r"(?:(?:[^\W\d_]{1,16}[ ]){0,3}?(?P<verb>is|was|to|jest|było|bylo|chyba|brzmi)[: ][ ]?)?"
    r"[\"'`„“]?(?=[^\s]{0,60}[0-9!#$%^&*+=~_|])(?P<value>[^\s\"'`”“,;<>]{6,128})",
    re.IGNORECASE,
    parts=("pass", "hasł", "hasl"),
)
_CLEAR_VERBS: Final = words("is was jest było bylo brzmi")
"""Behind "to" may stand whom or what the password is for."""
_CALL_OR_PATH: Final = re.compile(r"[(\[{/\\]|[^\W\d]\w*\(|https?:|www\.")
_LETTER_AND_DIGIT: Final = re.compile(r"(?=.*[^\W\d_])(?=.*[0-9])")
_SIGN_INSIDE: Final = re.compile(r"[^\W\d_][!#$%^&*+=~_|][^\W_]")
_MIXED: Final = re.compile(r"[^\W\d_].*[!@#$%^&*+=~_0-9]|[0-9].*[^\W\d_]")
_UNITS: Final = re.compile(
    r"[0-9]+(?:-|–)?(?:znak\w*|char\w*|digit\w*|liter\w*|cyfr\w*|bit\w*|dni|days?|min\w*|godz\w*|h|s)", re.IGNORECASE
)
_SENTENCE_END: Final = ".,:;!?)]}…"
_SHORTEST: Final = 4
_SHORTEST_TOLD: Final = 6


class PasswordRecognizer(TextRecognizer):
    """A value after `password =` counts when it has letters and a digit or sign, or stands in quotation marks; one told
    in a sentence when it has letters and digits, or a sign inside. "Password: required" has neither."""

    entity = "PASSWORD"

    def candidates(self, reading: Reading) -> Iterable[Candidate]:
        text = reading.text
        for match in _ASSIGNED.finditer(reading):
            value = match["value"].rstrip(_SENTENCE_END if not match["quote"] else "")
            if _is_value(value) and (_is_mixed(value) or (match["quote"] and _is_one_word(text, match))):
                yield _candidate(match, value, score=0.9)
        for match in _TOLD.finditer(reading):
            value = match["value"].rstrip(_SENTENCE_END)
            clear = (match["verb"] or "").lower() in _CLEAR_VERBS
            if len(value) >= _SHORTEST_TOLD and _is_value(value) and _is_strong(value, clear=clear):
                yield _candidate(match, value, score=0.8)


def _candidate(match: re.Match[str], value: str, score: float) -> Candidate:
    start = match.start("value")
    return Candidate(start, start + len(value), score)


def _is_value(value: str) -> bool:
    return (
        not (is_placeholder(value) or _CALL_OR_PATH.match(value) or _UNITS.fullmatch(value)) and len(value) >= _SHORTEST
    )


def _is_mixed(value: str) -> bool:
    return _MIXED.search(value) is not None


def _is_one_word(text: str, match: re.Match[str]) -> bool:
    """Whether the quotation ends behind the value: a sentence in quotation marks is no password."""
    return text[match.end() : match.end() + 1] in set("\"'`”“")


def _is_strong(value: str, *, clear: bool) -> bool:
    """Whether a word of a sentence is no ordinary word: letters around a sign, or letters and digits, with a capital
    letter unless the sentence is clear about it."""
    if _SIGN_INSIDE.search(value):
        return True
    return _LETTER_AND_DIGIT.match(value) is not None and (clear or value != value.lower())
