"""What one request may take: concurrency, rates and quotas in one place, and what the caller is told of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from app.access.limits import UNLIMITED, Limits
from app.access.principal import Principal
from app.access.quotas import Quota, QuotaBook, quotas_of
from app.access.rates import EVERYONE, RateLedger, TokenBucket
from app.errors import (
    InvalidRequest,
    MessagingUnavailable,
    Overloaded,
    ProblemReply,
    QuotaExceeded,
    RateLimited,
    RequestExpired,
    RequestIdConflict,
    TooManyAtOnce,
)
from app.identity import now

RATE: Final = "rate"
"""Name of the rate limit in the header fields; quotas are named by their period."""
NOT_ACCEPTED: Final = (
    InvalidRequest,
    MessagingUnavailable,
    Overloaded,
    ProblemReply,
    RequestExpired,
    RequestIdConflict,
)
"""With these a text is refused, on the way in or by a stage, and not judged: it is given back to the quotas. All else
was taken on, also what was not decided in time."""
Charge = tuple[str, ...]
"""Names of the counts that one text was added to."""


class _Prepaid:
    """What a request has paid for already: one text of the rate, and the room of its quotas that is held for it."""

    __slots__ = ("held", "used")

    def __init__(self) -> None:
        self.used = False
        self.held: dict[str, int] = {}


@dataclass(frozen=True, slots=True)
class _Terms:
    limits: Limits
    quotas: tuple[Quota, ...]
    policy: str
    """`RateLimit-Policy`."""


_prepaid: ContextVar[_Prepaid | None] = ContextVar("vigil_prepaid", default=None)
"""Of the request that the running task works on."""


class Metering:
    def __init__(
        self,
        process: str,
        shared: Limits,
        limits_of: Callable[[str], Limits | None],
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], datetime] = now,
    ) -> None:
        """Begin with nothing spent.

        Args:
            process: 32 hexadecimal digits that no other process has.
            shared: the rate limit of all callers together.
            limits_of: the limits of a key id; None when there is no such key.
            clock: monotonic seconds.
            wall_clock: the time of day (UTC), which ends days and months.
        """
        self._shared = shared
        self._clock = clock
        self._wall_clock = wall_clock
        self.rates = RateLedger(process, lambda key: shared if key == EVERYONE else limits_of(key), clock=clock)
        self.quotas = QuotaBook(wall_clock)
        self._under_way: dict[str, int] = {}
        self._known_terms: dict[str, _Terms] = {}
        self._terms_day: date | None = None

    @property
    def idle(self) -> bool:
        """Whether callers without limits of their own cost nothing here."""
        return self._shared.rate_per_s is None

    def enter(self, caller: Principal, *, judges: bool) -> None:
        """Let a request in and count it; each one that was let in is to `leave`.

        Args:
            caller: who makes it.
            judges: whether it is to have texts judged, which is what quotas count.

        Raises:
            TooManyAtOnce, RateLimited, QuotaExceeded: it is refused, and nothing is counted.
        """
        limits, key = caller.limits, caller.key_id
        if limits is UNLIMITED and self.idle:
            return
        at_once = self._under_way.get(key, 0)
        if limits.concurrency is not None and at_once >= math.ceil(limits.concurrency / self.rates.replicas()):
            raise TooManyAtOnce
        for name, limit in ((key, limits), (EVERYONE, self._shared)):
            if limit.rate_per_s is not None and not self.rates.admits(name, limit):
                raise self._rate_limited(self.rates.bucket(name, limit))
        if judges:
            self.check_room(caller, 1)
        self._spend(caller)
        _prepaid.set(_Prepaid())
        if limits.concurrency is not None:
            self._under_way[key] = at_once + 1

    def leave(self, caller: Principal) -> None:
        prepaid = _prepaid.get()
        if prepaid is not None:
            for name, texts in prepaid.held.items():
                self.quotas.hold(name, -texts)
            prepaid.held.clear()
        if caller.limits.concurrency is not None:
            rest = self._under_way[caller.key_id] - 1
            if rest:
                self._under_way[caller.key_id] = rest
            else:
                del self._under_way[caller.key_id]

    def count(self, caller: Principal) -> Charge:
        """Count one text that is to be judged; the first of each request was paid for when it was let in.

        The texts of a batch after its first are a debt of the rate, which is paid back before the next request.

        Returns:
            What to `give_back` when the text is not accepted after all.

        Raises:
            QuotaExceeded: the quota has no room for it.
        """
        if caller.limits is UNLIMITED and self.idle:
            return ()
        prepaid = _prepaid.get()
        held = prepaid.held if prepaid is not None else {}
        quotas = self._terms(caller).quotas
        for quota in quotas:
            if not held.get(quota.name):
                self._check(quota, 1)
        for quota in quotas:
            if held.get(quota.name):
                held[quota.name] -= 1
                self.quotas.hold(quota.name, -1)
            self.quotas.add(quota.name, 1)
        if prepaid is not None and not prepaid.used:
            prepaid.used = True
        else:
            self._spend(caller)
        return tuple(quota.name for quota in quotas)

    def give_back(self, charge: Charge) -> None:
        """Take a text that was not accepted out of the quotas; the rate counts requests, and those came."""
        for name in charge:
            self.quotas.add(name, -1)

    def hold_room(self, caller: Principal, texts: int) -> None:
        """Keep room in the caller's quotas for so many texts of the request under way, until they are counted or it
        leaves: no other request of the key takes it in between.

        Raises:
            QuotaExceeded: one has no room for all of them; none is held.
        """
        self.check_room(caller, texts)
        prepaid = _prepaid.get()
        if prepaid is None:
            return
        for quota in self._terms(caller).quotas:
            self.quotas.hold(quota.name, texts)
            prepaid.held[quota.name] = prepaid.held.get(quota.name, 0) + texts

    def check_room(self, caller: Principal, texts: int) -> None:
        """Return when the caller's quotas have room for so many texts.

        Raises:
            QuotaExceeded: one has not.
        """
        for quota in self._terms(caller).quotas:
            self._check(quota, texts)

    def fields(self, caller: Principal) -> tuple[str, str] | None:
        """Return `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10); None without limits.

        The bucket's policy is its burst (`q`) and the time in which that comes anew (`w`); `r` is what is left now and
        `t` after how many seconds all of it is there again.
        """
        limits = caller.limits
        if limits is UNLIMITED:
            return None
        terms = self._terms(caller)
        if not terms.policy:
            return None
        states = []
        bucket = self.rates.bucket(caller.key_id, limits)
        if bucket is not None:
            level = bucket.level(self._clock())
            full_s = math.ceil((bucket.burst - level) / bucket.rate_per_s)
            states.append(f'"{RATE}";r={max(0, math.floor(level))};t={full_s}')
        for quota in terms.quotas:
            left = max(0, quota.allowed - self.quotas.used(quota.name))
            states.append(f'"{quota.period}";r={left};t={self._until(quota)}')
        return terms.policy, ", ".join(states)

    def _terms(self, caller: Principal) -> _Terms:
        """Return what holds for a caller today, worked out once a day."""
        limits, at = caller.limits, self._wall_clock()
        if at.date() != self._terms_day:  # Keys that are no longer used, or no longer there, go with the day.
            self._terms_day = at.date()
            self._known_terms.clear()
        known = self._known_terms.get(caller.key_id)
        if known is not None and known.limits is limits:
            return known
        quotas = tuple(quotas_of(caller.key_id, limits, at))
        policies = [f'"{quota.period}";q={quota.allowed};w={quota.window_s}' for quota in quotas]
        if limits.rate_per_s is not None:
            window_s = max(1, math.ceil(limits.burst_size / limits.rate_per_s))
            policies.insert(0, f'"{RATE}";q={limits.burst_size};w={window_s}')
        terms = self._known_terms[caller.key_id] = _Terms(limits, quotas, ", ".join(policies))
        return terms

    def _check(self, quota: Quota, texts: int) -> None:
        if self.quotas.taken(quota.name) + texts > quota.allowed:
            self.quotas.doubt(quota.name)
            raise QuotaExceeded(
                f"This key's quota of {quota.allowed} texts a {quota.period} is used up, or has no room for "
                f"{texts} more.",
                retry_after_s=self._until(quota),
            )

    def _spend(self, caller: Principal) -> None:
        for name, limit in ((caller.key_id, caller.limits), (EVERYONE, self._shared)):
            if limit.rate_per_s is not None:
                self.rates.spend(name, limit, 1)

    def _rate_limited(self, bucket: TokenBucket | None) -> RateLimited:
        wait_s = bucket.wait_s(self._clock()) if bucket is not None else 1.0
        return RateLimited(retry_after_s=max(1, math.ceil(wait_s)))

    def _until(self, quota: Quota) -> int:
        return max(1, math.ceil((quota.ends_at - self._wall_clock()).total_seconds()))
