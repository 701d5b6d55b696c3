"""What a decision and a delivery add to the metrics: counted in plain numbers, and handed over once a second.

prometheus_client takes a lock and a search through all buckets for each count, and with several workers writes to a
file: 50 µs of CPU a request on the machine of the README's figures, and 110 with `--workers`. These counts are made on
the event loop alone, so they need no lock; handing over costs the same however many there were.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from dataclasses import dataclass
from functools import cache
from typing import Final, Protocol

from prometheus_client import Counter, Gauge, Histogram

from app.contracts import BranchName, GuardAnswer, Mode, ShadowDecision, Source, Verdict
from app.telemetry import metrics

INTERVAL_S: Final = 1.0
"""A process that is killed loses the counts of this time."""


class _Tally(Protocol):
    def hand_over(self) -> None: ...


_tallies: list[_Tally] = []


class Count:
    """Stands before a counter."""

    __slots__ = ("_counter", "_waiting")

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._waiting = 0
        _tallies.append(self)

    def inc(self, amount: int = 1) -> None:
        self._waiting += amount

    def hand_over(self) -> None:
        waiting, self._waiting = self._waiting, 0
        if waiting:
            self._counter.inc(waiting)


class Level:
    """Stands before a gauge."""

    __slots__ = ("_gauge", "_told", "_value")

    def __init__(self, gauge: Gauge) -> None:
        self._gauge = gauge
        self._value = self._told = 0
        _tallies.append(self)

    def add(self, amount: int) -> None:
        self._value += amount

    def hand_over(self) -> None:
        if self._value != self._told:
            self._told = self._value
            self._gauge.set(self._value)


class Distribution:
    """Stands before a histogram.

    prometheus_client has no way to add several observations at once, hence its inner values: `_upper_bounds`, one
    count for each in `_buckets`, and `_sum` (0.26; a test compares with plain observations).
    """

    __slots__ = ("_bounds", "_counts", "_histogram", "_sum")

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram
        self._bounds = list(histogram._upper_bounds)
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0
        _tallies.append(self)

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def hand_over(self) -> None:
        for position, waiting in enumerate(self._counts):
            if waiting:
                self._counts[position] = 0
                self._histogram._buckets[position].inc(waiting)
        if self._sum:
            self._histogram._sum.inc(self._sum)
            self._sum = 0.0


def hand_over() -> None:
    """Let the metrics have all that was counted; call it on the event loop."""
    for tally in _tallies:
        tally.hand_over()


async def watch() -> None:
    """Hand over every INTERVAL_S until cancelled."""
    while True:
        await asyncio.sleep(INTERVAL_S)
        hand_over()


@dataclass(frozen=True, slots=True)
class ConsumerMetrics:
    """What is counted of one consumer's deliveries."""

    acknowledged: Count
    retried: Count
    dead_lettered: Count
    cancelled: Count
    work_seconds: Distribution
    queue_seconds: Distribution
    in_work: Level


@cache
def of_consumer(durable: str) -> ConsumerMetrics:
    """Return a consumer's metrics; the topology knows all consumers there are."""
    return ConsumerMetrics(
        acknowledged=Count(metrics.DELIVERIES.labels(durable, "ack")),
        retried=Count(metrics.DELIVERIES.labels(durable, "retry")),
        dead_lettered=Count(metrics.DELIVERIES.labels(durable, "dead_letter")),
        cancelled=Count(metrics.DELIVERIES.labels(durable, "cancelled")),
        work_seconds=Distribution(metrics.STAGE_SECONDS.labels(durable)),
        queue_seconds=Distribution(metrics.QUEUE_SECONDS.labels(durable)),
        in_work=Level(metrics.IN_WORK.labels(durable)),
    )


@cache
def _requests(mode: Mode, source: Source, decision: Verdict, policy: str) -> Count:
    return Count(metrics.REQUESTS.labels(mode, source, decision, policy))


@cache
def _dry_runs(mode: Mode, source: Source, would_decide: Verdict) -> Count:
    return Count(metrics.DRY_RUNS.labels(mode, source, would_decide))


@cache
def _shadow_decisions(policy: str, shadow: str, decision: Verdict, shadow_decision: Verdict) -> Count:
    return Count(metrics.SHADOW_DECISIONS.labels(policy, shadow, decision, shadow_decision))


_DECISION_SECONDS: Final = {mode: Distribution(metrics.DECISION_SECONDS.labels(mode)) for mode in Mode}
_BRANCH_SCORE: Final = {name: Distribution(metrics.BRANCH_SCORE.labels(name)) for name in BranchName}
_REQUEST_SECONDS: Final = {mode: Distribution(metrics.REQUEST_SECONDS.labels(mode)) for mode in Mode}
REQUESTS_IN_FLIGHT: Final = Level(metrics.IN_FLIGHT)


def count_decision(answer: GuardAnswer, shadow: ShadowDecision | None = None) -> None:
    """Count a decision that was made just now; its policy is one that exists, since it decided.

    A dry run is counted apart, by what it would have decided: no alert takes it for a block.
    """
    if answer.would_decide is None:
        _requests(answer.mode, answer.source, answer.decision, answer.policy).inc()
    else:
        _dry_runs(answer.mode, answer.source, answer.would_decide).inc()
    if shadow is not None:
        decision = answer.would_decide or answer.decision
        _shadow_decisions(answer.policy, shadow.policy, decision, shadow.decision).inc()
    _DECISION_SECONDS[answer.mode].observe(answer.latency_ms / 1000)
    for name, branch in answer.branches.items():
        if not branch.degraded:
            _BRANCH_SCORE[name].observe(branch.score)


def count_answer(mode: Mode, seconds: float) -> None:
    """Count a text that was answered with its decision, whichever way it came in."""
    _REQUEST_SECONDS[mode].observe(seconds)
