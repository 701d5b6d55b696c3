"""The account of a drill: how every request ended for its caller, and where it is found afterwards."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Set
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """How a request ended for its caller."""

    DECIDED = "answered 200"
    LATE = "504: accepted, no decision in time"
    PROBLEM = "a stage answered with a problem"
    ACKNOWLEDGED = "JetStream acknowledged a message published past the service"
    REFUSED = "503: too busy, nothing was published"
    NOT_REACHED = "nobody listened"
    UNSURE = "503: the message server did not confirm"
    CUT = "the connection ended without an answer"
    HANGING = "no answer within the deadline and two seconds"


ACCEPTED = frozenset({Outcome.DECIDED, Outcome.LATE, Outcome.PROBLEM, Outcome.ACKNOWLEDGED})
CERTAINLY_REFUSED = frozenset({Outcome.REFUSED, Outcome.NOT_REACHED})
UNKNOWN = frozenset({Outcome.UNSURE, Outcome.CUT, Outcome.HANGING})
"""The caller cannot know whether JetStream has it: it counts as accepted when it is found afterwards."""


@dataclass(slots=True)
class Entry:
    request: dict[str, Any]
    sent_at: float
    outcome: Outcome | None = None
    ended_at: float | None = None
    answer: dict[str, Any] | None = None
    status: int | None = None
    retry_after_s: int | None = None

    @property
    def request_id(self) -> str:
        return str(self.request["request_id"])

    @property
    def took_s(self) -> float:
        return (self.ended_at or time.monotonic()) - self.sent_at

    def close(
        self,
        outcome: Outcome,
        answer: dict[str, Any] | None = None,
        *,
        status: int | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        self.outcome = outcome
        self.answer = answer
        self.status = status
        self.retry_after_s = retry_after_s
        self.ended_at = time.monotonic()


class Ledger:
    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def open(self, request: dict[str, Any]) -> Entry:
        entry = Entry(request, time.monotonic())
        self.entries.append(entry)
        return entry

    def with_outcome(self, *outcomes: Outcome) -> list[Entry]:
        return [entry for entry in self.entries if entry.outcome in outcomes]

    @property
    def answered(self) -> int:
        return sum(entry.outcome is Outcome.DECIDED for entry in self.entries)

    def answered_since(self, moment: float) -> Entry | None:
        """Return the first answered request that was sent after a moment."""
        later = (each for each in self.entries if each.sent_at > moment and each.outcome is Outcome.DECIDED)
        return min(later, key=lambda each: each.ended_at or 0.0, default=None)


@dataclass(frozen=True, slots=True)
class Row:
    """What the event log shows of a request id."""

    visible: int
    decision: str


@dataclass(frozen=True, slots=True)
class Grave:
    """One entry of the dead-letter queue."""

    request_id: str
    original: str
    """Stream and sequence of the original."""
    error_type: str
    payload: bytes


@dataclass
class Account:
    """What was counted in one drill; `faults` says what of it must not be."""

    name: str
    sent: int = 0
    answered: int = 0
    late: int = 0
    problems: int = 0
    refused: int = 0
    unknown: int = 0
    """Requests whose callers cannot know whether they were accepted."""
    accepted: int = 0
    decided: int = 0
    expired: int = 0
    """Decided requests that were recorded, not judged, since their callers had gone."""
    dead_lettered: int = 0
    decided_and_dead: int = 0
    lost: int = 0
    lost_by_definition: int = 0
    """Accepted requests in a stream that the drill deleted."""
    refused_but_kept: int = 0
    strangers: int = 0
    """Rows or dead letters that nobody sent."""
    duplicate_rows: int = 0
    duplicate_graves: int = 0
    hanging: int = 0
    restarts_needed: int = 0
    left_in_queue: int = 0
    left_behind: list[str] = field(default_factory=list)
    """Processes that still ran and locks that were still held after the stop."""
    bad_stops: int = 0
    repeated: int = 0
    repeats_unanswered: int = 0
    repeats_different: int = 0
    unexpected: list[str] = field(default_factory=list)
    """What a single drill promises beyond the account and did not hold."""
    broken: list[str] = field(default_factory=list)
    recovery_s: list[float] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    MUST_BE_ZERO = (
        *("lost", "refused_but_kept", "strangers", "duplicate_rows", "duplicate_graves", "hanging"),
        *("restarts_needed", "left_in_queue", "bad_stops", "repeats_unanswered", "repeats_different"),
    )

    def faults(self) -> list[str]:
        """Return what breaks a guarantee, one sentence each."""
        found = [f"{name}: {getattr(self, name)}" for name in self.MUST_BE_ZERO if getattr(self, name)]
        found += self.unexpected[:5]
        found += [f"left behind: {each}" for each in self.left_behind]
        if self.accepted != self.decided + self.dead_lettered + self.lost_by_definition:
            found.append(f"accepted {self.accepted} != decided {self.decided} + dead-lettered {self.dead_lettered}")
        return found

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"faults": self.faults()}

    def count(self, entries: Iterable[Entry]) -> None:
        """Count how the requests ended for their callers."""
        outcomes = Counter(entry.outcome for entry in entries)
        self.sent = outcomes.total()
        self.answered = outcomes[Outcome.DECIDED]
        self.late = outcomes[Outcome.LATE]
        self.problems = outcomes[Outcome.PROBLEM]
        self.refused = outcomes[Outcome.REFUSED] + outcomes[Outcome.NOT_REACHED]
        self.unknown = sum(outcomes[each] for each in UNKNOWN)
        self.hanging = outcomes[Outcome.HANGING]

    def compare(
        self,
        entries: Iterable[Entry],
        rows: Mapping[str, Row],
        graves: Iterable[Grave],
        lost_by_definition: Set[str] = frozenset(),
    ) -> None:
        """Count where the requests are found: each in the event log or the dead-letter queue."""
        graves = list(graves)
        outcomes: dict[str, set[Outcome | None]] = {}
        for entry in entries:
            outcomes.setdefault(entry.request_id, set()).add(entry.outcome)
        dead = {grave.request_id for grave in graves}
        kept = rows.keys() | dead
        certain = {each for each, ended in outcomes.items() if ended & ACCEPTED}
        possible = {each for each, ended in outcomes.items() if ended & UNKNOWN}
        self.accepted = len(certain | (possible & kept))
        self.decided = len(rows)
        self.expired = sum(row.decision == "EXPIRED" for row in rows.values())
        self.dead_lettered = len(dead - rows.keys())
        self.decided_and_dead = len(dead & rows.keys())
        self.lost = len(certain - kept - lost_by_definition)
        self.lost_by_definition = len(certain & lost_by_definition - kept)
        self.refused_but_kept = len((kept & outcomes.keys()) - certain - possible)
        self.strangers = len(kept - outcomes.keys())
        self.duplicate_graves = len(graves) - len({grave.original for grave in graves})
