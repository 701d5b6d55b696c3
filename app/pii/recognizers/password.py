"""Recognizes passwords that are assigned to a name or told in a sentence, English and Polish."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import chain
from typing import Final

from app.pii.reading import Reading, anchored
from app.pii.recognizers.base import Candidate, TextRecognizer
from app.pii.recognizers.passphrases import FEWEST_WORDS, is_passphrase
from app.pii.recognizers.randomness import is_placeholder
from app.pii.tables import cells_under, is_beside
from app.pii.words import words

_NAME: Final = (
    r"(?:(?:pg)?password|passwd|passwort|passphrase|passcode|pass|pwd|has[lł][oa]|hasłem|haslem|haśle|hasle|wpa[_-]?key|psk|"
    r"wi-?fi[_-]?key)"
)
_ASSIGNED: Final = anchored(
    rf"(?<![A-Za-z]){_NAME}[\"'`]?[ ]{{0,3}}(?::=|=>|[:=])[ ]{{0,3}}"
    r"(?P<quote>[\"'`„“]?)(?P<value>[^\s\"'`”“,;<>]{4,128}"
    r"(?:(?:,[^\s\"'`”“,;<>=:]{1,64}){1,4}(?=[ \t]*(?:\r?\n|\Z)))?)",
    re.IGNORECASE,
    parts=("pass", "pgpass", "pwd", "hasł", "hasl", "haśl", "wpa", "psk", "wi-fi", "wifi"),
)
_TOLD: Final = anchored(
    r"(?<![^\W_])(?:password|passwort|passphrase|passcode|has[lł][oa]|hasłem|haslem)[ ]{1,2}"
    r"(?:(?:[^\W\d_]{1,16}[ ]){0,3}?(?P<verb>is|was|to|jest|było|bylo|chyba|brzmi)[: ][ ]?)?"
    r"[\"'`„“]?(?=[^\s]{0,60}[0-9!#$%^&*+=~_|])(?P<value>[^\s\"'`”“,;<>]{6,128})",
    re.IGNORECASE,
    parts=("pass", "hasł", "hasl"),
)
_TAGGED: Final = anchored(
    r"<(?:[\w.-]{0,20}[_.:-])?(?:password|passwd|passphrase|pwd|has[lł]o)>[ ]{0,2}(?P<value>[^<>\s]{4,128})[ ]{0,2}</",
    re.IGNORECASE,
    needs=("</",),
)
_COMMAND: Final = anchored(
    r"(?<![^\W_])(?:curl[ ](?:[^\s|;]{1,200}[ ]{1,2}){0,16}?(?:-u|--user|--proxy-user)[ =]{0,2}[\"']?[^\s:\"']{1,64}:|"
    r"(?:mysql|mysqldump|mysqladmin|mariadb)[ ](?:[^\s|;]{1,200}[ ]{1,2}){0,16}?-p[\"']?|"
    r"redis-cli[ ](?:[^\s|;]{1,200}[ ]{1,2}){0,16}?-a[ ][\"']?|sshpass[ ]-p[ ]?[\"']?|"
    r"identified[ ](?:with[ ][\w\"'`]{1,40}[ ])?by[ ](?:password[ ])?[\"'])(?P<value>[^\s\"']{4,128})",
    re.IGNORECASE,
    keys=words("cu my ma re ss id"),
)
"""What a command is told: of curl, of databases' clients, and of SQL."""
_ROW: Final = anchored(
    r"(?<![^\W_])(?:password|passwd|passphrase|has[lł]o)[*`]{0,2}[ ]{0,20}\|[ ]{0,20}"
    r"`?(?P<value>[^\s|`]{6,128})`?[ ]{0,20}\|[ ]{0,20}\r?(?=\n|\Z)",
    re.IGNORECASE,
    parts=("pass", "hasł", "hasl"),
    needs=("|",),
)
"""The last cell of a table's row, behind one that names it."""
_PHRASE_WORD: Final = r"[^\W_]{1,24}(?:['’-][^\W_]{1,24})?"
_PHRASE: Final = anchored(
    r"(?<![^\W\d_])(?:password|passwd|passwort|passphrase|passcode|(?P<short>pass|pwd)|has[lł]o)[\"'`]?"
    r"(?:[ ](?:for|to|do|dla|na)[ ](?:the[ ]|my[ ]|our[ ])?[\w-]{1,24})?(?:[ ](?:is|was|to|jest|brzmi))?"
    r"[ ]{0,3}(?::=|=>|[:=])(?P<gap>[*]{0,2}[ \t]{0,3}(?:\n[ \t]{0,3})?)"
    r"(?:(?P<quote>[\"'`])(?P<quoted>(?:(?!(?P=quote))[^\n\\]|\\[^\n]){4,128})(?P=quote)|"
    r"[„“”](?P<low>[^”“\"\n]{4,128})[”“\"]|"
    rf"(?P<line>{_PHRASE_WORD}(?:[ ]{{1,2}}{_PHRASE_WORD}){{{FEWEST_WORDS - 1},9}})"
    r"[ \t]{0,3}\.?[ \t]{0,3}\r?(?=\n|\Z))",
    re.IGNORECASE,
    parts=("pass", "pwd", "hasł", "hasl"),
    needs=(":", "="),
)
"""Quoted, or to the end of its line: there the whole value is one, whatever it holds."""
_COLUMN: Final = re.compile(
    r"(?:(?:user|initial|temp(?:orary)?|new|old|current|wifi|tymczasowe|stare|nowe) )?"
    r"(?:pass ?word|passwd|pwd|pass|passcode|has[lł]o)(?: tymczasowe)?"
)
_LOGIN_COLUMN: Final = re.compile(r"(?:user(?: ?name)?|login|e?-?mail|account|konto|nick|u[zż]ytkownik)(?: .*)?")
"""Beside a column of logins, words without a digit or sign are passwords, too."""
_CLEAR_VERBS: Final = words("is was jest było bylo brzmi")
"""Behind "to" may stand whom or what the password is for."""
_CALL_OR_PATH: Final = re.compile(r"[(\[{/\\]|[^\W\d]\w*\(|https?:|www\.")
_LETTER_AND_DIGIT: Final = re.compile(r"(?=.*[^\W\d_])(?=.*[0-9])")
_SIGN_INSIDE: Final = re.compile(r"[^\W\d_][!#$%^&*+=~_|][^\W_]")
_MIXED: Final = re.compile(r"[^\W\d_].*[!@#$%^&*+=~_0-9]|[0-9].*[^\W\d_]")
_HEXADECIMAL: Final = re.compile(r"(?=[a-f]*[0-9])(?=[0-9]*[a-f])[0-9a-f]{24,128}")
_UNITS: Final = re.compile(
    r"[0-9]+(?:-|–)?(?:znak\w*|char\w*|digit\w*|liter\w*|cyfr\w*|bit\w*|dni|days?|min\w*|godz\w*|h|s)", re.IGNORECASE
)
_SENTENCE_END: Final = ".,:;!?)]}…"
_SHORTEST: Final = 4
_SHORTEST_TOLD: Final = 6


class PasswordRecognizer(TextRecognizer):
    """A value after `password =` counts when it has letters and a digit or sign, or stands in quotation marks; one told
    in a sentence when it has letters and digits, or a sign inside. "Password: required" has neither. Several words
    count in quotation marks or to the end of the line, when they are no sentence."""

    entity = "PASSWORD"

    def candidates(self, reading: Reading) -> Iterable[Candidate]:
        text = reading.text
        for match in _ASSIGNED.finditer(reading):
            value = match["value"].rstrip(_SENTENCE_END if not match["quote"] else "")
            if _is_value(value) and (_is_mixed(value) or (match["quote"] and _is_one_word(text, match))):
                yield _candidate(match, value, score=0.9)
        for match in _ROW.finditer(reading):
            if _is_value(match["value"]) and _is_strong(match["value"], clear=True):
                yield _candidate(match, match["value"], score=0.8)
        for match in chain(_TAGGED.finditer(reading), _COMMAND.finditer(reading)):
            if _is_value(match["value"]) and _is_mixed(match["value"]):
                yield _candidate(match, match["value"], score=0.9)
        for match in _PHRASE.finditer(reading):
            group = next(name for name in ("quoted", "low", "line") if match[name] is not None)
            if _is_whole_value(match, match[group]):
                yield Candidate(*match.span(group), score=0.8)
        for match in _TOLD.finditer(reading):
            value = match["value"].rstrip(_SENTENCE_END)
            clear = (match["verb"] or "").lower() in _CLEAR_VERBS
            if len(value) >= _SHORTEST_TOLD and _is_value(value) and _is_strong(value, clear=clear):
                yield _candidate(match, value, score=0.8)
        known: dict[int, bool] = {}
        for cell in cells_under(reading, _COLUMN):
            value = text[cell.start : cell.end]
            one_word = _is_value(value) and not any(map(str.isspace, value))
            if one_word and (_is_mixed(value) or is_beside(cell, _LOGIN_COLUMN, known)):
                yield Candidate(cell.start, cell.end, score=0.9)


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


def _is_whole_value(match: re.Match[str], value: str) -> bool:
    """Whether all of what stands in quotation marks or to the end of a line is a password."""
    if match["line"] is not None:
        is_next_of_a_form = "\n" in match["gap"] and value != value.lower()
        is_told = match["short"] is None and not is_next_of_a_form  # A test may pass, and a shell has a pwd.
        return is_told and is_passphrase(value, FEWEST_WORDS)
    if any(map(str.isspace, value)):
        return is_passphrase(value, 2)
    return _is_value(value) and _is_mixed(value)


def _is_strong(value: str, *, clear: bool) -> bool:
    """Whether a word of a sentence is no ordinary word: letters around a sign, a long row of hexadecimal digits, or
    letters and digits, with a capital letter unless the sentence is clear about it."""
    if _SIGN_INSIDE.search(value) or _HEXADECIMAL.fullmatch(value):
        return True
    return _LETTER_AND_DIGIT.match(value) is not None and (clear or value != value.lower())
