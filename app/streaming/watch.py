"""Reads the newest part of a stream at once: secrets that stop it, and words that make the next inspection due."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Protocol

from app.contracts import Source
from app.detection.leaks import LONGEST_FORM, LeakWatch, Secrets
from app.detection.normalise import PreparedText, prepare

OVERLAP: Final = 640
"""Code points that are read again at least; more where a canary takes more than 71 bytes of UTF-8."""
FEWEST_NEW: Final = 16
"""New code points from which the newest part is read, where no word has ended."""
SUSPICIOUS: Final = 30.0
"""Score of the heuristics from which the answer is inspected at once."""
INSPECTED: Final = 2_000
"""Code points before the newest one that an inspection reads: the whole answer, while it is no longer."""
SENTENCE_STEP: Final = 160
"""New code points from which the end of a sentence makes an inspection due."""
LONGEST_STEP: Final = 640
"""New code points that make one due anyhow."""

_WORD_END: Final = re.compile(r"\s")
_SENTENCE_END: Final = re.compile(r"[.!?…:;\n](?:\s|$)")


class RuleReader(Protocol):
    """Reads a text by the heuristics alone; app/detection/detector.py is one."""

    def suspicion(self, prepared: PreparedText, source: Source) -> float: ...


@dataclass(frozen=True, slots=True)
class Sight:
    leak: str | None = None
    """The rule of a secret that was given away."""
    suspicion: float = 0.0


class StreamWatch:
    def __init__(self, rules: RuleReader, secrets: Secrets) -> None:
        self._rules = rules
        self._leaks = LeakWatch(secrets) if secrets else None
        self._overlap = max([OVERLAP, *(LONGEST_FORM * len(canary.encode()) for canary in secrets.canaries)])
        self._unread = ""
        self._tail = ""

    def reads(self, text: str) -> bool:
        """Whether a new piece is read at once: a word of it has ended, or much has come."""
        return len(self._unread) + len(text) >= FEWEST_NEW or _WORD_END.search(text) is not None

    def feed(self, text: str) -> Sight:
        reads = self.reads(text)
        self._unread += text
        return self._read() if reads else Sight()

    def finish(self) -> Sight:
        return self._read()

    def _read(self) -> Sight:
        part, self._unread = self._tail + self._unread, ""
        self._tail = part[-self._overlap :]
        if not part:
            return Sight()
        prepared = prepare(part)
        leak = self._leaks.read(prepared) if self._leaks is not None else None
        return Sight(leak, self._rules.suspicion(prepared, Source.OUTPUT))


class Steps:
    """Says when the next inspection is due, so that their number grows with the text and not with its chunks."""

    def __init__(self) -> None:
        self._new = 0
        self._suspicion = 0.0

    def due(self, text: str, suspicion: float) -> bool:
        """Count a new piece and tell whether what came so far should be inspected now."""
        self._new += len(text)
        rising = suspicion >= SUSPICIOUS and suspicion > self._suspicion
        self._suspicion = max(self._suspicion, suspicion) if rising else self._suspicion
        ended = self._new >= SENTENCE_STEP and _SENTENCE_END.search(text) is not None
        if not (rising or ended or self._new >= LONGEST_STEP):
            return False
        self._new = 0
        return True
