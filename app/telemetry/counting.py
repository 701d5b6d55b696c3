"""What a decision and a delivery add to the metrics, with each label's child bound once.

A look-up by label takes longer than the count itself, and these run for every message.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from app.contracts import BranchName, GuardAnswer, Mode, ShadowDecision, Source, Verdict
from app.telemetry import metrics


@dataclass(frozen=True, slots=True)
class ConsumerMetrics:
    """The counters, histograms and gauge of one consumer's deliveries."""

    acknowledged: Counter
    retried: Counter
    dead_lettered: Counter
    cancelled: Counter
    work_seconds: Histogram
    queue_seconds: Histogram
    in_work: Gauge


@cache
def of_consumer(durable: str) -> ConsumerMetrics:
    """Return a consumer's metrics; the topology knows all consumers there are."""
    return ConsumerMetrics(
        acknowledged=metrics.DELIVERIES.labels(durable, "ack"),
        retried=metrics.DELIVERIES.labels(durable, "retry"),
        dead_lettered=metrics.DELIVERIES.labels(durable, "dead_letter"),
        cancelled=metrics.DELIVERIES.labels(durable, "cancelled"),
        work_seconds=metrics.STAGE_SECONDS.labels(durable),
        queue_seconds=metrics.QUEUE_SECONDS.labels(durable),
        in_work=metrics.IN_WORK.labels(durable),
    )


@cache
def _requests(mode: Mode, source: Source, decision: Verdict, policy: str) -> Counter:
    return metrics.REQUESTS.labels(mode, source, decision, policy)


_DECISION_SECONDS: Final = {mode: metrics.DECISION_SECONDS.labels(mode) for mode in Mode}
_BRANCH_SCORE: Final = {name: metrics.BRANCH_SCORE.labels(name) for name in BranchName}
_REQUEST_SECONDS: Final = {mode: metrics.REQUEST_SECONDS.labels(mode) for mode in Mode}


def count_decision(answer: GuardAnswer, shadow: ShadowDecision | None = None) -> None:
    """Count a decision that was made just now; its policy is one that exists, since it decided.

    A dry run is counted apart, by what it would have decided: no alert takes it for a block.
    """
    if answer.would_decide is None:
        _requests(answer.mode, answer.source, answer.decision, answer.policy).inc()
    else:
        metrics.DRY_RUNS.labels(answer.mode, answer.source, answer.would_decide).inc()
    if shadow is not None:
        decision = answer.would_decide or answer.decision
        metrics.SHADOW_DECISIONS.labels(answer.policy, shadow.policy, decision, shadow.decision).inc()
    _DECISION_SECONDS[answer.mode].observe(answer.latency_ms / 1000)
    for name, branch in answer.branches.items():
        if not branch.degraded:
            _BRANCH_SCORE[name].observe(branch.score)


def count_answer(mode: Mode, seconds: float) -> None:
    """Count a POST /guard that was answered with a decision."""
    _REQUEST_SECONDS[mode].observe(seconds)
