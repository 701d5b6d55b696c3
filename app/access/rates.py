"""Rate limits that hold over all replicas: token buckets whose spending every replica tells the others.

Each replica keeps the whole bucket of a key and takes out of it what it admits and what it hears that others have
admitted. What two replicas admit before they hear of each other is a debt of the bucket, which is paid back before
anyone is admitted again: for a moment more may pass, over time the rate is exact, and however unevenly callers are
spread, none is refused while the rate has room (as with fixed shares). What replicas admit while they cannot reach each
other is no debt: each has the whole rate then.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Final

from pydantic import Field, StringConstraints

from app.access.limits import Limits
from app.contracts import Message

EVERYONE: Final = "*"
"""Stands for the key of the limit that all callers share."""
REPORT_INTERVAL_S: Final = 0.1
EARLY_SHARE: Final = 0.05
"""Once this part of a burst was spent since the last report, the next one does not wait for the interval."""
PRESENT_S: Final = 3.0
"""A replica that was heard of within this time counts as running."""
BEAT_S: Final = 1.0
"""A replica with nothing to tell says so this often."""
FORGET_S: Final = 60.0
"""A replica that was not heard of for this time is forgotten; this often, so are keys that no longer exist."""

ProcessName = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
Count = Annotated[int, Field(ge=0, le=10**15)]


class Spending(Message):
    """What one process has admitted for one key."""

    total: Count
    """Since the process started: a report that was lost is made good by the next."""
    latest: Count
    """Since its last report: all that counts for who hears of the process for the first time."""


class UsageReport(Message):
    """`vigil.usage`: what one process has admitted."""

    process: ProcessName
    spent: Annotated[dict[Annotated[str, StringConstraints(max_length=32)], Spending], Field(max_length=100_000)]


class TokenBucket:
    """A bucket that may be in debt."""

    __slots__ = ("_at", "_level", "burst", "rate_per_s")

    def __init__(self, rate_per_s: float, burst: int, at: float) -> None:
        self.rate_per_s = rate_per_s
        self.burst = burst
        self._level = float(burst)
        self._at = at

    def level(self, at: float) -> float:
        """Return how many tokens there are at a time (seconds of a monotonic clock); below zero is a debt."""
        if at > self._at:
            self._level = min(self._level + (at - self._at) * self.rate_per_s, float(self.burst))
            self._at = at
        return self._level

    def spend(self, tokens: float, at: float) -> None:
        self.level(at)
        self._level -= tokens

    def wait_s(self, at: float) -> float:
        """Return after how many seconds there is a token."""
        return max(0.0, (1.0 - self.level(at)) / self.rate_per_s)


@dataclass(slots=True)
class _Account:
    limits: Limits
    bucket: TokenBucket
    total: int = 0
    told: int = 0


@dataclass(slots=True)
class _Peer:
    heard_at: float
    totals: dict[str, int] = field(default_factory=dict)


class RateLedger:
    """The buckets of all keys with a rate limit, in one process."""

    def __init__(
        self,
        process: str,
        limits_of: Callable[[str], Limits | None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with full buckets.

        Args:
            process: 32 hexadecimal digits that no other process has.
            limits_of: the limits of a key id, or of EVERYONE; None when there is no such key.
            clock: monotonic seconds.
        """
        self._process = process
        self._limits_of = limits_of
        self._clock = clock
        self._accounts: dict[str, _Account] = {}
        self._peers: dict[str, _Peer] = {}
        self._untold: set[str] = set()
        self._reported_at = -math.inf
        self._forgot_at = clock()
        self.on_urgent: Callable[[], None] | None = None
        """Called when a report should not wait for the interval."""

    def bucket(self, key: str, limits: Limits) -> TokenBucket | None:
        """Return a key's bucket; None for one without a rate limit."""
        account = self._account(key, limits)
        return account.bucket if account is not None else None

    def admits(self, key: str, limits: Limits) -> bool:
        account = self._account(key, limits)
        return account is None or account.bucket.level(self._clock()) >= 1.0

    def spend(self, key: str, limits: Limits, tokens: int) -> None:
        """Take tokens for what was admitted; a batch that is larger than the level leaves a debt."""
        account = self._account(key, limits)
        if account is None:
            return
        account.bucket.spend(tokens, self._clock())
        account.total += tokens
        self._untold.add(key)
        if self.on_urgent is not None and account.total - account.told >= EARLY_SHARE * account.bucket.burst:
            self.on_urgent()

    def report(self) -> UsageReport | None:
        """Return what is to be told now; None when there is nothing new and the last word is not long ago."""
        at = self._clock()
        if at - self._forgot_at > FORGET_S:
            self._forgot_at = at
            self._forget_keys()
        if not self._untold and at - self._reported_at < BEAT_S:
            return None
        spent = {}
        for key in self._untold:
            account = self._accounts[key]
            spent[key] = Spending(total=account.total, latest=account.total - account.told)
            account.told = account.total
        self._untold.clear()
        self._reported_at = at
        return UsageReport(process=self._process, spent=spent)

    def absorb(self, report: UsageReport) -> None:
        """Take what another process has admitted out of the buckets."""
        if report.process == self._process:
            return
        at = self._clock()
        peer = self._peers.get(report.process)
        if peer is None or at - peer.heard_at > PRESENT_S:
            # Apart from each other each had the whole rate: what was admitted then is no debt.
            peer = self._peers[report.process] = _Peer(at)
        peer.heard_at = at
        for key, spending in report.spent.items():
            known = peer.totals.get(key)
            peer.totals[key] = spending.total
            limits = self._limits_of(key)
            account = self._account(key, limits) if limits is not None else None
            if account is not None:
                fresh = spending.latest if known is None else spending.total - known
                account.bucket.spend(max(0, fresh), at)
        for process in [name for name, each in self._peers.items() if at - each.heard_at > FORGET_S]:
            del self._peers[process]

    def replicas(self) -> int:
        """Return how many processes share the work, this one included."""
        at = self._clock()
        return 1 + sum(at - peer.heard_at <= PRESENT_S for peer in self._peers.values())

    def _forget_keys(self) -> None:
        """Drop what is known of keys that no longer exist, but what was spent and not told yet."""
        for key in [each for each in self._accounts if each not in self._untold and self._limits_of(each) is None]:
            del self._accounts[key]
        for peer in self._peers.values():
            peer.totals = {key: total for key, total in peer.totals.items() if self._limits_of(key) is not None}

    def _account(self, key: str, limits: Limits) -> _Account | None:
        account = self._accounts.get(key)
        if account is not None and account.limits is limits:
            return account
        if limits.rate_per_s is None:
            return None
        if account is None:
            bucket = TokenBucket(limits.rate_per_s, limits.burst_size, self._clock())
            account = self._accounts[key] = _Account(limits, bucket)
        else:  # The key was given other limits: what was spent stays spent.
            at = self._clock()
            spent = account.bucket.burst - account.bucket.level(at)
            account.limits, account.bucket = limits, TokenBucket(limits.rate_per_s, limits.burst_size, at)
            account.bucket.spend(spent, at)
        return account
