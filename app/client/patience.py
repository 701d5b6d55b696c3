"""How long a client tries and how long it pauses: exponential pauses with full jitter, under one budget of time.

Full jitter spreads callers that failed together (M. Brooker, "Exponential Backoff and Jitter", AWS, 2015).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

MOST_DOUBLINGS: Final = 60
"""Beyond, a pause is as long as it gets whatever it began with; a larger power of two fits no float in the end."""


@dataclass(frozen=True, slots=True)
class Patience:
    """What a caller is willing to wait."""

    budget_s: float = 15.0
    """For one call with all its tries and pauses."""
    deadline_s: float = 5.0
    """What the guard may take for one try; it is told so."""
    tries: int = 4
    """Most times that one request is sent."""
    first_pause_s: float = 0.2
    longest_pause_s: float = 5.0
    grace_s: float = 1.0
    """How much longer than the guard's deadline one try waits for the answer to arrive."""
    clock: Callable[[], float] = time.monotonic
    jitter: Callable[[float, float], float] = random.uniform

    def __post_init__(self) -> None:
        if self.budget_s <= 0 or self.tries < 1 or not 0.001 <= self.deadline_s <= 60:
            raise ValueError("a budget over 0 s, at least one try and a deadline of 0.001 to 60 s are needed")


@dataclass(slots=True)
class Attempts:
    """One call's tries so far and what is left of its budget."""

    patience: Patience
    sent: int = 0
    until: float = field(init=False)

    def __post_init__(self) -> None:
        self.until = self.patience.clock() + self.patience.budget_s

    @property
    def used_up(self) -> bool:
        """Whether the request may not be sent again."""
        return self.sent >= self.patience.tries

    @property
    def left_s(self) -> float:
        return self.until - self.patience.clock()

    def deadline_ms(self, wanted_ms: int | None = None) -> int:
        """Return what the guard is told for the next try: never longer than the budget lasts."""
        wanted_s = wanted_ms / 1000 if wanted_ms is not None else self.patience.deadline_s
        return max(1, int(1000 * min(wanted_s, max(self.left_s, 0.001))))

    def timeout_s(self, deadline_ms: int) -> float:
        """Return how long one try waits for an answer."""
        return max(0.001, min(deadline_ms / 1000 + self.patience.grace_s, self.left_s))

    def pause_s(self, asked_s: float | None = None) -> float | None:
        """Return how long to pause before the next try, None when there is to be none.

        Args:
            asked_s: what the guard's Retry-After asked for; jitter comes on top, so that callers do not return at once.
        """
        if self.used_up:
            return None
        ceiling_s = min(self.patience.longest_pause_s, self.patience.first_pause_s * _doubled(self.sent - 1))
        pause_s = (asked_s or 0.0) + self.patience.jitter(0.0, ceiling_s)
        return pause_s if pause_s < self.left_s else None

    def read_pause_s(self, reads: int) -> float | None:
        """Return how long to pause before a decision is read, None when the budget is over; reads are no tries."""
        pause_s = min(self.patience.longest_pause_s, self.patience.first_pause_s * _doubled(reads))
        pause_s = self.patience.jitter(pause_s / 2, pause_s)
        return pause_s if pause_s < self.left_s else None


def _doubled(times: int) -> float:
    return 2.0 ** min(max(times, 0), MOST_DOUBLINGS)


def retry_after_s(value: str | None, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> float | None:
    """Read a Retry-After header (RFC 9110: seconds, or a date); None for one that cannot be read."""
    if not value:
        return None
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now()).total_seconds())
