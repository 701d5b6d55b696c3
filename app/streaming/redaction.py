"""Lets a text out piece by piece, redacted as in one: nothing leaves while it may be a part of a value.

What is let out ends at a break between words, LOOK_AHEAD before the newest character: as far ahead do recognizers look,
so that what they read there does not change any more. The tagger judges a word by all that is read with it: the finder
should be one for texts that go on (`PiiEngine.for_parts`). A value that reaches further is held as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from app.pii.language import guess_language
from app.pii.placeholders import Mention, mentions
from app.pii.redaction import Placeholder, Redactor, RunningNumbers, Span, uncovered
from app.redaction import RedactionTable

LOOK_AHEAD: Final = 64
"""Code points that are always held: a word that tells what a number is stands at most 30 behind it, and the tagger
judges a word mostly by what stands nearer (`python -m tests.benchmarks.stream` counts what streams leak)."""
CONTEXT: Final = 320
"""Code points before what is held that are read again: the longest reach backwards is 120."""
HEAD: Final = 2_000
"""Code points by which the language is told."""
SLICE: Final = 4_096
"""Most code points that are taken in at once, so that a long chunk is read like many short ones."""
FIRST_STEP: Final = 8
"""Fewest code points between two readings in which nothing could be let out."""
CANARY_BEGINNING: Final = 4
"""Code points of a canary from which what follows is waited for."""
WITHHELD: Final = "WITHHELD"
"""Kind of the placeholder for what could not be decided within the limit."""

_SPACE: Final = re.compile(r"\s")
_SENTENCE_END: Final = re.compile(r"(?:(?<![.!?…])[.!?…]+[\"'”’)\]]*\s+|\n)(?=\S|$)")
"""A row of marks is tried from its first one alone: from each, a long row would take quadratic time."""
_KEY_BEGINS: Final = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_KEY_ENDS: Final = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_KEY_END_LENGTH: Final = 80
_KEY_END_BEGINS: Final = "-----E"
_LINE_BREAK_SIGN: Final = re.compile(r"\\[nr]")
_KEY_PART: Final = re.compile(r"[A-Za-z0-9/=][A-Za-z0-9+/=]*")
"""Of a line of a key; a sign before it may belong to what the line is quoted in."""
_WITHOUT_SPACES: Final = (
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x2E80, 0x9FFF), (0xAC00, 0xD7AF), (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)  # fmt: skip
"""Scripts that part no words: a text in them may be cut at any character."""


class Finder(Protocol):
    """Finds personal data; app/pii/engine.py is one."""

    def find(
        self,
        text: str,
        language: str | None,
        allow_list: Sequence[str],
        table: RedactionTable = ...,
        *,
        patterns_only: bool = False,
    ) -> tuple[list[Span], str]: ...


@dataclass(frozen=True, slots=True)
class Rules:
    """How one stream is redacted."""

    redactor: Redactor | None
    """None where personal data is left as it is."""
    language: str | None = None
    default_language: str = "en"
    allow_list: tuple[str, ...] = ()
    patterns_only: bool = False
    canaries: tuple[str, ...] = field(default=(), repr=False)
    known: tuple[Placeholder, ...] = field(default=(), repr=False)
    """Placeholders of the prompt, in whose place the values are put."""
    backslash_is_text: bool = False
    """Whether a backslash right before a placeholder of the prompt belongs to the text."""
    entities: frozenset[str] = frozenset()
    """Kinds of personal data that placeholders are written for."""
    hold_limit: int = SLICE


@dataclass
class Tally:
    redacted: int = 0
    withheld: int = 0
    restored: int = 0


class StreamRedactor:
    """One stream's text between coming in and going out; its memory does not grow with the text."""

    def __init__(self, finder: Finder, rules: Rules) -> None:
        self._finder = finder
        self._rules = rules
        self._known = {(each.entity, each.number): each for each in rules.known}
        self._numbers = RunningNumbers(rules.redactor, taken=self._known) if rules.redactor is not None else None
        self._canaries = tuple(canary.casefold() for canary in rules.canaries)
        self._window = ""
        """What was let out last, as it was, and then what is held."""
        self._out = 0
        """Where in the window what is held begins."""
        self._next_reading = LOOK_AHEAD
        self._head = ""
        self._language = rules.language
        self._until: re.Pattern[str] | None = None
        """What ends the value that is being left out, where one is."""
        self.tally = Tally()

    @property
    def held(self) -> int:
        """Code points that came in and may still be let out."""
        return len(self._window) - self._out

    def reads(self, text: str) -> bool:
        """Whether a piece makes what is held be read; most are only kept."""
        return self._until is not None or self.held + len(text) >= self._next_reading

    def feed(self, text: str) -> str:
        """Take a piece in and return what can be let out.

        Raises:
            Exception: whatever a recognizer or the model raises: nothing may be let out then.
        """
        return "".join(self._fed(text[at : at + SLICE]) for at in range(0, len(text), SLICE))

    def pause(self) -> str:
        """Return what can be let out because nothing more came for a while: up to the end of a sentence that no value
        touches. A value still open stays."""
        if self._until is not None or not self.held:
            return ""
        ends = [match.end() for match in _SENTENCE_END.finditer(self._window, self._out)]
        held = self.held
        released = self._let_out(ends[-1], ends) if ends else ""
        if self.held < held:
            self._next_reading = LOOK_AHEAD
        return released

    def finish(self) -> str:
        """Return the rest: the text has ended."""
        if self._until is not None:
            return ""
        return self._let_out(len(self._window), None)

    def _fed(self, text: str) -> str:
        if len(self._head) < HEAD:
            self._head += text[: HEAD - len(self._head)]
        if self._until is not None:
            text = self._left_out(self._until, text)
        self._window += text
        if self._until is not None or self.held < self._next_reading:
            return ""
        held = self.held
        limit = len(self._window) - LOOK_AHEAD
        released = self._let_out(limit, None) if self._break_before(limit) > self._out else ""
        if self.held < held:
            self._next_reading = LOOK_AHEAD
        elif held >= self._rules.hold_limit:
            released += self._withhold()
        else:
            # What is held is read again when it has grown by an eighth: so all readings together stay linear.
            self._next_reading = min(held + max(FIRST_STEP, held // 8), self._rules.hold_limit)
        return released

    def _let_out(self, limit: int, breaks: list[int] | None) -> str:
        """Let out what ends at or before `limit`, at one of `breaks` where they are given; without them the text has
        ended where the limit is the window's end."""
        spans = self._spans()
        found = self._mentions()
        ended = breaks is None and limit == len(self._window)
        cut = limit if ended else self._cut(limit, spans, found, breaks)
        if cut <= self._out:
            return ""
        released = self._written(cut, spans, found)
        start = max(0, cut - CONTEXT)
        space = _SPACE.search(self._window, start, cut) if start else None
        start = space.end() if space is not None else start
        self._window, self._out = self._window[start:], cut - start
        return released

    def _spans(self) -> list[Span]:
        rules = self._rules
        if rules.redactor is None or not self._window:
            return []
        language = self._language or guess_language(self._head, rules.default_language)
        if len(self._head) >= HEAD:
            self._language = language
        spans, _ = self._finder.find(
            self._window, language, rules.allow_list, rules.redactor.table, patterns_only=rules.patterns_only
        )
        return spans

    def _mentions(self) -> list[Mention]:
        rules = self._rules
        if not rules.entities:
            return []
        return mentions(self._window, rules.entities, backslash_is_text=rules.backslash_is_text)

    def _cut(self, limit: int, spans: Sequence[Span], found: Sequence[Mention], breaks: Sequence[int] | None) -> int:
        """Return the last break at or before `limit` that no value, placeholder or canary reaches over."""
        cut = limit + 1
        while cut > self._out:
            cut = (
                self._break_before(cut - 1)
                if breaks is None
                else max((place for place in breaks if place < cut), default=self._out)
            )
            over = [span.start for span in spans if span.start < cut < span.end]
            over += [mention.start for mention in found if mention.start < cut < mention.end]
            if breaks is not None:
                over += [span.start for span in spans if span.start < cut and self._may_go_on(span)]
            over += [start for start in self._open_canaries() if start < cut]
            if not over:
                return cut
            cut = min(over) + 1
        return self._out

    def _may_go_on(self, span: Span) -> bool:
        """Whether what comes next may belong to a value."""
        window = self._window
        if span.end >= len(window.rstrip()):
            return True
        begin = _KEY_BEGINS.search(window, span.start, span.end)
        if begin is None or _KEY_ENDS.search(window, begin.end(), span.end) is not None:
            return False
        # The next line of the key has only begun, or is a short one; a number may stand before it.
        following = window[span.end :].partition(_KEY_END_BEGINS)[0]
        parts = _KEY_PART.findall(_LINE_BREAK_SIGN.sub(" ", following))
        return len(parts) <= 1 or (len(parts) == 2 and parts[0].isdigit())

    def _break_before(self, place: int) -> int:
        """Return the last place at or before this one where a word ends; where what is held begins at the least."""
        window = self._window
        while place > self._out:
            if window[place - 1].isspace() or _parts_no_words(window[place - 1]):
                return place
            place -= 1
        return self._out

    def _open_canaries(self) -> list[int]:
        """Return where a canary may have begun that the held text ends in."""
        if not self._canaries:
            return []
        held = self._window[self._out :]
        tail, places = held.casefold(), None
        if len(tail) != len(held):  # As of ß: several signs of the folded text stand for one place of the held one.
            places = [place for place, sign in enumerate(held) for _ in sign.casefold()]
        starts = []
        for canary in self._canaries:
            place = tail.find(canary[:CANARY_BEGINNING])
            while place >= 0:
                if canary.startswith(tail[place:]):
                    starts.append(self._out + (place if places is None else places[place]))
                    break
                place = tail.find(canary[:CANARY_BEGINNING], place + 1)
        return starts

    def _written(self, cut: int, spans: Sequence[Span], found: Sequence[Mention]) -> str:
        """Return the held text up to `cut` with values replaced and placeholders of the prompt filled."""
        window, position = self._window, self._out
        edits: list[tuple[int, int, str]] = []
        restored = [each for each in found if self._out <= each.start < cut and (each[:2] in self._known)]
        for mention in restored:
            self.tally.restored += 1
            edits.append((mention.start, mention.end, self._known[mention[:2]].spellings[0]))
        if self._numbers is not None:
            self._numbers.take(each[:2] for each in found)
            for span in self._beside(restored, spans, cut):
                kept = self._numbers.redactor.table.keeps(span.entity)
                self.tally.redacted += not kept
                value = window[span.start : span.end]
                edits.append((span.start, span.end, value if kept else self._numbers.substitute(span.entity, value)))
        pieces: list[str] = []
        for start, end, replacement in sorted(edits):
            pieces += window[position:start], replacement
            position = end
        pieces.append(window[position:cut])
        return "".join(pieces)

    def _beside(self, restored: Sequence[Mention], spans: Sequence[Span], cut: int) -> Iterator[Span]:
        """Yield what is held of the values up to `cut`; of one that reaches over a placeholder of the prompt, what
        stands outside it."""
        for span in spans:
            start, end = max(span.start, self._out), min(span.end, cut)
            if start < end:
                held = replace(span, start=start, end=end)
                filled = [each for each in restored if each.start < end and start < each.end]
                yield from uncovered(self._window, held, filled) if filled else (held,)

    def _withhold(self) -> str:
        """Leave out what is held, which is too long to wait for its end, and all that still belongs to it. What stands
        behind its last word is held on: a value may have begun there."""
        held = self._window[self._out :]
        begins = list(_KEY_BEGINS.finditer(held))
        if begins and _KEY_ENDS.search(held, begins[-1].end()) is None:
            self._until, rest = _KEY_ENDS, held[-_KEY_END_LENGTH:]
        elif (end := self._end_of_undecided()) is not None:
            rest = self._window[end:]
        else:
            self._until, rest = _SPACE, ""
        self._window, self._out, self._next_reading = rest, 0, LOOK_AHEAD
        self.tally.withheld += 1
        return f"<{WITHHELD}_{self.tally.withheld}>"

    def _end_of_undecided(self) -> int | None:
        """Return where the first word of what is held ends that no value, placeholder or canary reaches over; None
        where none has ended."""
        reach = [(span.start, span.end) for span in self._spans()]
        reach += [(mention.start, mention.end) for mention in self._mentions()]
        reach += [(start, len(self._window)) for start in self._open_canaries()]
        ends = (match.start() for match in _SPACE.finditer(self._window, self._out + 1))
        return next((place for place in ends if not any(start < place < end for start, end in reach)), None)

    def _left_out(self, until: re.Pattern[str], text: str) -> str:
        """Return what comes after the value that is being left out."""
        carried, self._window = self._window + text, ""
        end = until.search(carried)
        if end is None:
            self._window = carried[-_KEY_END_LENGTH:] if until is _KEY_ENDS else ""
            return ""
        self._until = None
        return carried[end.end() if until is _KEY_ENDS else end.start() :]


def _parts_no_words(character: str) -> bool:
    code = ord(character)
    return code >= _WITHOUT_SPACES[0][0] and any(first <= code <= last for first, last in _WITHOUT_SPACES)
