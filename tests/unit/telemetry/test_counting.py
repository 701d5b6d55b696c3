"""What a decision adds to the metrics."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from app.contracts import (
    BranchName,
    BranchResult,
    GuardAnswer,
    Mode,
    ShadowDecision,
    Source,
    ThreatLevel,
    Verdict,
)
from app.telemetry import counting, metrics
from tests.metric_values import growth_of
from tests.support import eventually, plain_answer


def answer(**changes: object) -> GuardAnswer:
    plain = plain_answer(
        decision=Verdict.BLOCKED,
        score=81,
        threat_level=ThreatLevel.HIGH,
        branches={
            BranchName.HEURISTICS: BranchResult(score=70, confidence=1),
            BranchName.SEMANTIC: BranchResult(score=0, confidence=0, degraded=True),
        },
        mode=Mode.FAST,
        source=Source.TOOL,
        policy="strict",
        latency_ms=20.5,
    )
    return plain.model_copy(update=changes)


@pytest.mark.parametrize(
    ("sample", "labels", "growth"),
    [
        ("vigil_requests_total", {"mode": "fast", "source": "tool", "decision": "BLOCKED", "policy": "strict"}, 1),
        ("vigil_decision_seconds_bucket", {"mode": "fast", "le": "0.02"}, 0),
        ("vigil_decision_seconds_bucket", {"mode": "fast", "le": "0.04"}, 1),
        ("vigil_branch_score_sum", {"branch": "heuristics"}, 70),
        ("vigil_branch_score_count", {"branch": "semantic"}, 0),
    ],
)
def test_a_decision_is_counted_by_mode_source_decision_and_policy(
    sample: str, labels: dict[str, str], growth: float
) -> None:
    with growth_of(sample, **labels) as grown:
        counting.count_decision(answer())
    assert grown.value == growth


def test_a_dry_run_is_no_request_and_is_counted_by_what_it_would_have_decided() -> None:
    dry = answer(decision=Verdict.ALLOWED, would_decide=Verdict.BLOCKED, dry_run=True)
    labels = {"mode": "fast", "source": "tool"}
    with (
        growth_of("vigil_dry_runs_total", decision="BLOCKED", **labels) as dry_runs,
        growth_of("vigil_requests_total", decision="ALLOWED", policy="strict", **labels) as requests,
    ):
        counting.count_decision(dry)
    assert (dry_runs.value, requests.value) == (1, 0)


@pytest.mark.parametrize("changes", [{}, {"decision": Verdict.ALLOWED, "would_decide": Verdict.BLOCKED}])
def test_what_a_shadow_would_have_decided_is_counted_beside_the_decision(changes: dict[str, object]) -> None:
    shadow = ShadowDecision(policy="next", policy_version=2, decision=Verdict.ALLOWED, score=20)
    labels = {"policy": "strict", "shadow": "next", "decision": "BLOCKED", "shadow_decision": "ALLOWED"}
    with growth_of("vigil_shadow_decisions_total", **labels) as grown:
        counting.count_decision(answer(**changes), shadow)
    assert grown.value == 1


def test_what_was_counted_is_what_prometheus_would_have_counted() -> None:
    values = [0.0, 0.001, 0.0011, 0.3, 4.999, 5.0, 5.001, 1e9]
    plain, registry = Histogram("plain", "", buckets=metrics.LATENCY_BUCKETS, registry=None), CollectorRegistry()
    handed = Histogram("handed", "", buckets=metrics.LATENCY_BUCKETS, registry=registry)
    distribution = counting.Distribution(handed)
    for value in values:
        plain.observe(value)
        distribution.observe(value)
    for _ in range(2):
        distribution.hand_over()
    samples = [
        [(sample.name.partition("_")[2], sample.labels, sample.value) for sample in next(iter(each.collect())).samples]
        for each in (plain, handed)
    ]
    assert samples[0] == samples[1]


def test_counts_and_levels_are_handed_over_once() -> None:
    counter, gauge = Counter("counts", "", registry=None), Gauge("level", "", registry=None)
    count, level = counting.Count(counter), counting.Level(gauge)
    count.inc(3)
    level.add(2)
    for _ in range(2):
        counting.hand_over()
    level.add(-1)
    counting.hand_over()
    assert (counter._value.get(), gauge._value.get()) == (3, 1)


async def test_counts_are_handed_over_as_time_goes_by(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "INTERVAL_S", 0.001)
    counter = Counter("counts", "", registry=None)
    counting.Count(counter).inc()
    watching = asyncio.create_task(counting.watch())

    async def handed_over() -> bool:
        return bool(counter._value.get() == 1)

    await eventually(handed_over)
    watching.cancel()


def test_the_metrics_of_a_consumer_are_bound_once() -> None:
    assert counting.of_consumer("pii-worker") is counting.of_consumer("pii-worker")
    assert counting.of_consumer("pii-worker").work_seconds is not counting.of_consumer("arbiter-worker").work_seconds
