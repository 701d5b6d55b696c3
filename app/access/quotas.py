"""Quotas per day and month (UTC): what a key has used, kept in a bucket so that it outlasts every process."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from app.access.limits import Limits
from app.identity import now

NAME: Final = re.compile(r"[0-9a-f]+\.(?:day\.\d{4}-\d\d-\d\d|month\.\d{4}-\d\d)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Quota:
    """One quota of one key in the period that runs."""

    name: str
    """Name of its count in the bucket, as `4fd1a3b28c90.day.2026-11-26`."""
    period: str
    """`day` or `month`."""
    allowed: int
    window_s: int
    ends_at: datetime


def quotas_of(key_id: str, limits: Limits, at: datetime) -> Iterator[Quota]:
    """Return the quotas that hold for a key at a time (UTC)."""
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
    if limits.requests_per_day is not None:
        day = timedelta(days=1)
        yield Quota(f"{key_id}.day.{at:%Y-%m-%d}", "day", limits.requests_per_day, 86_400, midnight + day)
    if limits.requests_per_month is not None:
        first = midnight.replace(day=1)
        following = (first + timedelta(days=32)).replace(day=1)
        window_s = int((following - first).total_seconds())
        yield Quota(f"{key_id}.month.{at:%Y-%m}", "month", limits.requests_per_month, window_s, following)


class QuotaBook:
    """What is used, as this process knows it: the bucket's count, and what is not written there yet."""

    def __init__(self, wall_clock: Callable[[], datetime] = now) -> None:
        """Begin with nothing used.

        Args:
            wall_clock: the time of day (UTC), which ends days and months.
        """
        self._wall_clock = wall_clock
        self._today = ""
        self._stored: dict[str, int] = {}
        self._pending: dict[str, int] = {}
        self._held: dict[str, int] = {}
        self._doubted: set[str] = set()

    def used(self, name: str) -> int:
        return self._stored.get(name, 0) + self._pending.get(name, 0)

    def taken(self, name: str) -> int:
        """Return what is used, and what is held for requests under way that have not used it yet."""
        return self.used(name) + self._held.get(name, 0)

    def add(self, name: str, texts: int) -> None:
        """Count texts as used; fewer than none are given back."""
        _add(self._pending, name, texts)

    def hold(self, name: str, texts: int) -> None:
        """Keep room for texts of a request under way; fewer than none let it go."""
        _add(self._held, name, texts)

    def doubt(self, name: str) -> None:
        """Ask for a count to be read again: other processes may have given back what stands in a caller's way here."""
        self._doubted.add(name)

    def doubted(self) -> set[str]:
        """Return which counts are to be read again, until they are learned."""
        return set(self._doubted)

    def pending(self) -> dict[str, int]:
        """Return what is to be added to the bucket's counts."""
        return dict(self._pending)

    def settle(self, name: str, added: int, total: int) -> None:
        """Note that so many were added to the bucket's count, which is `total` now."""
        self.learn(name, total)
        _add(self._pending, name, -added)

    def learn(self, name: str, total: int) -> None:
        """Note the bucket's count; those of days and months that have ended are of no use to anyone and are let go."""
        self._doubted.discard(name)
        today = self._wall_clock().date().isoformat()
        if today != self._today:
            self._today = today
            self._stored = {each: count for each, count in self._stored.items() if not _has_ended(each, today)}
        if not _has_ended(name, today):
            self._stored[name] = total


def _add(counts: dict[str, int], name: str, texts: int) -> None:
    """Add to a count; what comes to nothing is not kept."""
    count = counts.get(name, 0) + texts
    if count:
        counts[name] = count
    else:
        counts.pop(name, None)


def _has_ended(name: str, today: str) -> bool:
    """Whether a count's day or month lies before a day; dates in ISO 8601 are in order as texts."""
    period = name.rpartition(".")[2]
    return period < today[: len(period)]
