"""Rates, quotas and concurrency: exact in one process, within a tenth over replicas, and told to the caller."""

from __future__ import annotations

import contextvars
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from app.access.limits import UNLIMITED, Limits
from app.access.metering import Metering
from app.access.principal import ANONYMOUS, Principal
from app.access.quotas import QuotaBook
from app.access.rates import EVERYONE, FORGET_S, RateLedger, Spending, TokenBucket, UsageReport
from app.errors import QuotaExceeded, RateLimited, TooManyAtOnce

KEY = "0123456789ab"


@dataclass
class Clock:
    seconds: float = 0.0
    day: datetime = field(default_factory=lambda: datetime(2026, 11, 30, 23, 59, 30, tzinfo=UTC))

    def __call__(self) -> float:
        return self.seconds


def metering(
    limits: Limits, clock: Clock, *, shared: Limits = UNLIMITED, process: str = "0"
) -> tuple[Metering, Principal]:
    made = Metering(process * 32, shared, lambda _: limits, clock=clock, wall_clock=lambda: clock.day)
    return made, Principal(key_id=KEY, limits=limits)


def admitted(meter: Metering, caller: Principal, *, tries: int = 1) -> int:
    count = 0
    for _ in range(tries):
        try:
            meter.enter(caller, judges=True)
        except RateLimited:
            continue
        meter.count(caller)
        meter.leave(caller)
        count += 1
    return count


def test_a_burst_and_then_the_rate() -> None:
    clock = Clock()
    meter, caller = metering(Limits(rate_per_s=8, burst=5), clock)
    assert admitted(meter, caller, tries=20) == 5
    for _ in range(100):
        clock.seconds += 0.125
        assert admitted(meter, caller, tries=3) == 1


def test_a_bucket_never_holds_more_than_its_burst() -> None:
    bucket = TokenBucket(10, 5, at=0)
    assert bucket.level(1000) == 5


def test_who_is_refused_is_told_when_to_come_back() -> None:
    clock = Clock()
    meter, caller = metering(Limits(rate_per_s=0.1, burst=1), clock)
    meter.enter(caller, judges=True)
    with pytest.raises(RateLimited) as caught:
        meter.enter(caller, judges=True)
    assert caught.value.retry_after_s == 10
    clock.seconds += 10
    assert admitted(meter, caller) == 1


@pytest.mark.parametrize("spread", [(1, 1), (1, 0), (3, 1), (1, 1, 1, 1)])
def test_over_replicas_the_rate_holds_within_a_tenth_however_callers_are_spread(spread: tuple[int, ...]) -> None:
    """100 a second are allowed and 400 a second come, for 20 s, with a report each 100 ms."""
    clock = Clock()
    limits = Limits(rate_per_s=100, burst=100)
    meters = [metering(limits, clock, process=f"{number}")[0] for number in range(len(spread))]
    caller = Principal(key_id=KEY, limits=limits)
    total = 0
    for step in range(2000):
        clock.seconds += 0.01
        for meter, share in zip(meters, spread, strict=True):
            total += admitted(meter, caller, tries=4 * share)
        if step % 10 == 9:
            for meter in meters:
                report = meter.rates.report()
                for other in meters:
                    if report is not None:
                        other.rates.absorb(report)
    allowed = 100 + 100 * 20
    assert 0.9 * allowed <= total <= 1.1 * allowed


def test_a_lost_report_is_made_good_by_the_next() -> None:
    clock = Clock()
    limits = Limits(rate_per_s=1, burst=100)
    (one, caller), (other, _) = metering(limits, clock), metering(limits, clock, process="1")
    admitted(one, caller, tries=10)
    first = one.rates.report()
    assert first is not None
    other.rates.absorb(first)
    admitted(one, caller, tries=10)
    one.rates.report()  # Lost.
    admitted(one, caller, tries=10)
    last = one.rates.report()
    assert last is not None
    other.rates.absorb(last)
    bucket = other.rates.bucket(KEY, limits)
    assert bucket is not None
    assert bucket.level(clock()) == 70


def test_a_process_heard_of_for_the_first_time_owes_only_its_latest_spending() -> None:
    clock = Clock()
    limits = Limits(rate_per_s=1, burst=100)
    meter, _ = metering(limits, clock)
    meter.rates.absorb(UsageReport(process="f" * 32, spent={KEY: Spending(total=10_000, latest=3)}))
    bucket = meter.rates.bucket(KEY, limits)
    assert bucket is not None
    assert bucket.level(clock()) == 97


def test_what_replicas_admit_while_they_cannot_reach_each_other_is_no_debt() -> None:
    """Half of the rate comes to each, for ten minutes without a report that arrives; each key is told of in turn."""
    clock = Clock()
    limits = Limits(rate_per_s=10, burst=10)
    meters = [metering(limits, clock, process=f"{number}")[0] for number in range(2)]
    keys = (KEY, "a" * 12)

    def step(*, apart: bool) -> None:
        clock.seconds += 0.2
        for meter in meters:
            for key in keys:
                assert meter.rates.admits(key, limits)
                meter.rates.spend(key, limits, 1)
        for meter, other in zip(meters, reversed(meters), strict=True):
            report = meter.rates.report()
            if report is not None and not apart:
                other.rates.absorb(report)

    for apart, steps in ((False, 50), (True, 3000), (False, 50)):
        for _ in range(steps):
            step(apart=apart)


def test_a_key_that_is_told_of_later_than_others_after_a_silence_is_no_debt_either() -> None:
    clock = Clock()
    limits = Limits(rate_per_s=1, burst=100)
    meter, _ = metering(limits, clock)

    def heard(**spent: tuple[int, int]) -> None:
        told = {key: Spending(total=total, latest=latest) for key, (total, latest) in spent.items()}
        meter.rates.absorb(UsageReport(process="f" * 32, spent=told))

    heard(**{KEY: (10, 10)})
    clock.seconds += 600
    heard()
    heard(**{KEY: (510, 3)})
    bucket = meter.rates.bucket(KEY, limits)
    assert bucket is not None
    assert bucket.level(clock()) == 97


def test_a_large_spending_asks_for_a_report_at_once() -> None:
    asked: list[bool] = []
    ledger = RateLedger("0" * 32, lambda _: None, clock=Clock())
    ledger.on_urgent = lambda: asked.append(True)
    limits = Limits(rate_per_s=100, burst=100)
    for _ in range(4):
        ledger.spend(KEY, limits, 1)
    assert not asked
    ledger.spend(KEY, limits, 1)
    assert asked


def test_replicas_are_counted_by_what_is_heard_of_them() -> None:
    clock = Clock()
    meter, caller = metering(Limits(concurrency=4), clock)
    meter.rates.absorb(UsageReport(process="1" * 32, spent={}))
    assert meter.rates.replicas() == 2
    meter.enter(caller, judges=True)
    meter.enter(caller, judges=True)
    with pytest.raises(TooManyAtOnce):
        meter.enter(caller, judges=True)
    meter.leave(caller)
    meter.enter(caller, judges=True)
    clock.seconds += 10
    assert meter.rates.replicas() == 1
    meter.enter(caller, judges=True)


def test_the_limit_of_all_together_holds_for_callers_without_one() -> None:
    clock = Clock()
    meter, _ = metering(UNLIMITED, clock, shared=Limits(rate_per_s=1, burst=3))
    assert admitted(meter, ANONYMOUS, tries=10) == 3
    assert meter.rates.bucket(EVERYONE, Limits(rate_per_s=1, burst=3)) is not None


def test_a_key_given_other_limits_keeps_its_debt() -> None:
    clock = Clock()
    ledger = RateLedger("0" * 32, lambda _: None, clock=clock)
    ledger.spend(KEY, Limits(rate_per_s=1, burst=10), 10)
    bucket = ledger.bucket(KEY, Limits(rate_per_s=2, burst=20))
    assert bucket is not None
    assert bucket.level(clock()) == 10


def test_limits_that_are_read_anew_give_nothing_away() -> None:
    clock = Clock()
    ledger = RateLedger("0" * 32, lambda _: None, clock=clock)
    ledger.spend(KEY, Limits(rate_per_s=0.01, burst=1), 1)
    clock.seconds = 60
    assert not ledger.admits(KEY, Limits(rate_per_s=0.01, burst=1))
    clock.seconds = 101
    assert ledger.admits(KEY, Limits(rate_per_s=0.01, burst=1))


def test_a_quota_ends_with_its_day_and_its_month() -> None:
    clock = Clock()
    meter, caller = metering(Limits(requests_per_day=2, requests_per_month=3), clock)
    assert admitted(meter, caller, tries=5) == 2
    with pytest.raises(QuotaExceeded) as caught:
        meter.enter(caller, judges=True)
    assert caught.value.retry_after_s == 30
    clock.day = datetime(2026, 11, 1, tzinfo=UTC)
    assert admitted(meter, caller, tries=5) == 1
    clock.day = datetime(2026, 12, 1, tzinfo=UTC)
    assert admitted(meter, caller, tries=5) == 2


def test_a_quota_counts_judged_texts_alone() -> None:
    clock = Clock()
    meter, caller = metering(Limits(requests_per_day=1), clock)
    for _ in range(5):
        meter.enter(caller, judges=False)
    assert admitted(meter, caller, tries=2) == 1


def test_a_quota_goes_on_where_another_process_left_it() -> None:
    clock = Clock()
    meter, caller = metering(Limits(requests_per_day=5), clock)
    meter.quotas.learn(f"{KEY}.day.2026-11-30", 3)
    assert admitted(meter, caller, tries=5) == 2
    assert meter.quotas.pending() == {f"{KEY}.day.2026-11-30": 2}
    meter.quotas.add(f"{KEY}.day.2026-11-30", 1)
    meter.quotas.settle(f"{KEY}.day.2026-11-30", 2, 9)
    assert meter.quotas.pending() == {f"{KEY}.day.2026-11-30": 1}
    assert meter.quotas.used(f"{KEY}.day.2026-11-30") == 10


def test_counts_of_days_and_months_that_have_ended_are_let_go() -> None:
    clock = Clock()
    book = QuotaBook(lambda: clock.day)
    running, ended = f"{KEY}.month.2026-11", f"{KEY}.day.2026-11-29"
    book.learn(running, 3)
    book.learn(ended, 4)
    book.learn(f"{KEY}.day.2026-11-30", 5)
    assert (book.used(running), book.used(ended), book.used(f"{KEY}.day.2026-11-30")) == (3, 0, 5)
    book.add(f"{KEY}.day.2026-11-30", 1)
    clock.day = datetime(2026, 12, 1, tzinfo=UTC)
    assert book.pending() == {f"{KEY}.day.2026-11-30": 1}
    book.settle(f"{KEY}.day.2026-11-30", 1, 6)
    assert (book.pending(), book._stored) == ({}, {})


def test_what_is_known_of_a_key_goes_with_its_day_and_its_last_request() -> None:
    clock = Clock()
    meter, caller = metering(Limits(requests_per_day=5, concurrency=2), clock)
    admitted(meter, caller, tries=2)
    assert (meter._under_way, len(meter._known_terms)) == ({}, 1)
    clock.day = datetime(2026, 12, 1, tzinfo=UTC)
    admitted(meter, Principal(key_id="ba9876543210", limits=caller.limits))
    assert list(meter._known_terms) == ["ba9876543210"]


def test_the_spending_of_a_key_that_no_longer_exists_is_told_and_then_forgotten() -> None:
    clock = Clock()
    limits = Limits(rate_per_s=1, burst=10)
    keys = {KEY: limits, EVERYONE: limits}
    ledger = RateLedger("0" * 32, keys.get, clock=clock)
    for key in (KEY, EVERYONE):
        ledger.spend(key, limits, 1)
    ledger.absorb(UsageReport(process="f" * 32, spent={KEY: Spending(total=5, latest=5)}))
    del keys[KEY]
    clock.seconds += FORGET_S + 1
    told = ledger.report()
    assert told is not None
    assert told.spent[KEY] == Spending(total=1, latest=1)
    assert ledger._peers["f" * 32].totals == {}
    clock.seconds += FORGET_S + 1
    ledger.report()
    assert list(ledger._accounts) == [EVERYONE]


def test_a_batch_counts_each_of_its_texts_and_the_first_but_once() -> None:
    clock = Clock()
    meter, caller = metering(Limits(rate_per_s=1, burst=10, requests_per_day=20), clock)
    meter.enter(caller, judges=True)
    for _ in range(15):
        meter.count(caller)
    bucket = meter.rates.bucket(KEY, caller.limits)
    assert bucket is not None
    assert bucket.level(clock()) == -5
    assert admitted(meter, caller, tries=3) == 0
    clock.seconds += 6
    assert admitted(meter, caller, tries=3) == 1
    meter.check_room(caller, 4)
    with pytest.raises(QuotaExceeded):
        meter.check_room(caller, 5)


def test_the_text_that_was_paid_for_is_the_requests_own() -> None:
    """As with the tasks of two requests: what one has paid for is not taken by another."""
    clock = Clock()
    meter, caller = metering(Limits(rate_per_s=1, burst=10), clock)
    for _ in range(2):
        context = contextvars.Context()
        context.run(meter.enter, caller, judges=True)
        context.copy().run(meter.count, caller)
    bucket = meter.rates.bucket(KEY, caller.limits)
    assert bucket is not None
    assert bucket.level(clock()) == 8


def test_the_caller_is_told_what_is_left() -> None:
    clock = Clock()
    meter, caller = metering(Limits(rate_per_s=10, burst=50, requests_per_day=100), clock)
    assert admitted(meter, caller, tries=5) == 5
    assert meter.fields(caller) == (
        '"rate";q=50;w=5, "day";q=100;w=86400',
        '"rate";r=45;t=1, "day";r=95;t=30',
    )
    assert meter.fields(ANONYMOUS) is None
    assert meter.fields(Principal(limits=Limits(text_length=5))) is None


def test_what_was_refused_is_not_counted() -> None:
    clock = Clock()
    meter, caller = metering(Limits(rate_per_s=1, burst=5, requests_per_day=1), clock)
    assert admitted(meter, caller, tries=5) == 1
    bucket = meter.rates.bucket(KEY, caller.limits)
    assert bucket is not None
    assert bucket.level(clock()) == 4


def test_what_was_not_accepted_is_given_back_to_the_quotas() -> None:
    clock = Clock()
    meter, caller = metering(Limits(requests_per_day=2, requests_per_month=2), clock)
    day = f"{KEY}.day.2026-11-30"
    charge = meter.count(caller)
    assert admitted(meter, caller, tries=3) == 1
    meter.give_back(charge)
    assert admitted(meter, caller, tries=3) == 1
    assert meter.quotas.used(day) == 2


def test_what_is_given_back_while_it_is_written_is_taken_from_the_count_that_is_kept() -> None:
    clock = Clock()
    meter, caller = metering(Limits(requests_per_day=2), clock)
    day = f"{KEY}.day.2026-11-30"
    charge = meter.count(caller)
    written = meter.quotas.pending()
    meter.give_back(charge)
    meter.quotas.settle(day, written[day], 1)
    assert meter.quotas.used(day) == 0
    assert meter.quotas.pending() == {day: -1}
    meter.quotas.settle(day, -1, 0)
    assert (meter.quotas.used(day), meter.quotas.pending()) == (0, {})


def test_room_that_is_held_for_one_request_is_not_taken_by_another() -> None:
    clock = Clock()
    meter, caller = metering(Limits(requests_per_day=3, requests_per_month=3), clock)
    first, second = contextvars.Context(), contextvars.Context()
    for context in (first, second):
        context.run(meter.enter, caller, judges=True)
    first.run(meter.hold_room, caller, 3)
    assert '"day";r=3;' in (meter.fields(caller) or ("", ""))[1], "held is not used"
    with pytest.raises(QuotaExceeded):
        second.run(meter.count, caller)
    for _ in range(2):
        first.copy().run(meter.count, caller)
    with pytest.raises(QuotaExceeded):
        second.run(meter.hold_room, caller, 1)
    first.run(meter.leave, caller)
    second.run(meter.count, caller)
    assert meter.quotas.used(f"{KEY}.day.2026-11-30") == 3
    assert meter.quotas._held == {}
