"""Admission control: refuse at once what could not be answered before its deadline, by the measured rate."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Final

WINDOW_S: Final = 2.0
"""Time constant of the measured rate: long enough for steady figures, short enough to follow a machine that slows."""
FREE_IN_FLIGHT: Final = 64
"""Up to this many waiting requests are never refused."""
BUSY_IN_FLIGHT: Final = 32
"""From this many the pipeline works without a pause, so that its answers per second are its capacity."""
MEASURED_S: Final = 0.1
"""Busy time between two measurements."""
SHARE_OF_DEADLINE: Final = 0.6
"""The predicted wait may take this share of a deadline; the prediction is rough, and the answer has to travel too."""

FULL_SHARE: Final = 0.9
"""From this share of the work queue's bytes on no request is let in: the rest is for what comes of those that were, and
for those that come between two looks at the queue."""
LONGEST_RETRY_AFTER_S: Final = 30
"""A stalled pipeline has no rate to predict from; nobody is sent away for longer."""


class Refusal(StrEnum):
    """Why a request is not let in."""

    FULL = "full"
    """As many as may wait are waiting."""
    DEADLINE = "deadline"
    """Its deadline would pass in the queue."""
    STORAGE = "storage"
    """The work queue has room only for what comes of the requests in it."""


class Admission:
    """Predicts the wait of a new request by Little's law: requests waiting divided by answers per second.

    The rate is measured only while requests queue: what a quiet process answers per second says what was asked of it,
    not what it could do.
    """

    def __init__(self, max_in_flight: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_in_flight = max_in_flight
        self._clock = clock
        self._rate = 0.0
        self._answered = 0
        self._busy_s = 0.0
        self._seen_at = clock()
        self.in_flight = 0
        self.stored_share = 0.0
        """How full the work queue is, 0 to 1; whoever looks at it sets this."""

    def enter(self) -> None:
        self._measure()
        self.in_flight += 1

    def leave(self) -> None:
        """Count one request that has been answered or has given up."""
        self._measure()
        if self.in_flight >= BUSY_IN_FLIGHT:
            self._answered += 1
        self.in_flight -= 1

    @property
    def predicted_wait_s(self) -> float:
        """Return how long a request that comes now would wait, in seconds; 0 while nothing has been measured."""
        self._measure()
        return self.in_flight / self._rate if self._rate > 0 else 0.0

    def refusal(self, deadline_s: float) -> Refusal | None:
        """Return why a request that can wait so many seconds would be accepted in vain, None when it would not."""
        if self.stored_share >= FULL_SHARE:
            return Refusal.STORAGE
        if self.in_flight >= self._max_in_flight:
            return Refusal.FULL
        if self.in_flight > FREE_IN_FLIGHT and self.predicted_wait_s > SHARE_OF_DEADLINE * deadline_s:
            return Refusal.DEADLINE
        return None

    @property
    def retry_after_s(self) -> int:
        """Return whole seconds after which the present queue will be gone; at least 1."""
        if self.stored_share >= FULL_SHARE:
            return LONGEST_RETRY_AFTER_S
        return min(max(1, math.ceil(self.predicted_wait_s)), LONGEST_RETRY_AFTER_S)

    def _measure(self) -> None:
        """Fold what was answered since the last measurement into the exponentially weighted rate."""
        now = self._clock()
        if self.in_flight >= BUSY_IN_FLIGHT:
            self._busy_s += now - self._seen_at
        self._seen_at = now
        if self._busy_s < MEASURED_S:
            return
        weight = 1 - math.exp(-self._busy_s / WINDOW_S) if self._rate else 1.0
        self._rate += weight * (self._answered / self._busy_s - self._rate)
        self._answered = 0
        self._busy_s = 0.0
