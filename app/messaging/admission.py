"""Admission control: refuse at once what could not be answered before its deadline, by the measured rate."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final

WINDOW_S: Final = 2.0
"""Time constant of the measured rate: long enough for steady figures, short enough to follow a machine that slows."""
FREE_IN_FLIGHT: Final = 64
"""Up to this many waiting requests are never refused: an idle process has no rate to predict from."""
SHARE_OF_DEADLINE: Final = 0.6
"""The predicted wait may take this share of a deadline; the prediction is rough, and the answer has to travel too."""

LONGEST_RETRY_AFTER_S: Final = 30
"""A stalled pipeline has no rate to predict from; nobody is sent away for longer."""


class Admission:
    """Predicts the wait of a new request by Little's law: requests waiting divided by answers per second."""

    def __init__(self, max_in_flight: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_in_flight = max_in_flight
        self._clock = clock
        self._rate = 0.0
        self._counted = 0
        self._counted_since = clock()
        self.in_flight = 0

    def enter(self) -> None:
        self.in_flight += 1

    def leave(self) -> None:
        """Count one request that has been answered or has given up."""
        self.in_flight -= 1
        self._counted += 1

    @property
    def predicted_wait_s(self) -> float:
        """Return how long a request that comes now would wait, in seconds; 0 while nothing has been measured."""
        self._measure()
        return self.in_flight / self._rate if self._rate > 0 else 0.0

    def refuses(self, deadline_s: float) -> bool:
        """Whether a request that can wait so many seconds would be accepted in vain."""
        if self.in_flight >= self._max_in_flight:
            return True
        return self.in_flight > FREE_IN_FLIGHT and self.predicted_wait_s > SHARE_OF_DEADLINE * deadline_s

    @property
    def retry_after_s(self) -> int:
        """Return whole seconds after which the present queue will be gone; at least 1."""
        return min(max(1, math.ceil(self.predicted_wait_s)), LONGEST_RETRY_AFTER_S)

    def _measure(self) -> None:
        """Fold what was counted since the last measurement into the exponentially weighted rate."""
        elapsed = self._clock() - self._counted_since
        if elapsed < WINDOW_S / 20:
            return
        weight = 1 - math.exp(-elapsed / WINDOW_S) if self._rate else 1.0
        if self._counted or self._rate:
            self._rate += weight * (self._counted / elapsed - self._rate)
        self._counted = 0
        self._counted_since += elapsed
