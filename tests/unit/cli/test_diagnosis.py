"""What the doctor concludes, without a server: every fault by name, and no fault where there is none."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.cli.diagnosis import Finding, Level, Observation, Sample, diagnose, unreachable
from app.messaging.dead_letter_queue import DeadLetterEntry
from app.messaging.reports import ConsumerReport, Difference, ServerReport, ServiceInstance, StreamReport
from app.topology import BUCKETS, CONSUMERS, STREAMS

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SERVER = ServerReport("nats://127.0.0.1:4222", "n", "2.15.1", 0.4, 1_048_576, 1000, None)
INSTANCE = ServiceInstance("1", "vigil-guard", "0.1.0")


def stream(name: str, **changes: Any) -> StreamReport:
    fine = StreamReport(
        name=name,
        subjects=(),
        retention="workqueue",
        storage="file",
        replicas=1,
        messages=0,
        bytes=0,
        max_bytes=10**9,
        consumers=1,
        first_sequence=1,
        last_sequence=0,
        deleted=0,
        first_at=None,
        last_at=None,
        leader=None,
        declared=True,
        differences=(),
        config={},
    )
    return replace(fine, **changes)


def consumer(index: int, **changes: Any) -> ConsumerReport:
    spec = CONSUMERS[index]
    fine = ConsumerReport(
        stream=spec.stream,
        name=spec.durable,
        filter_subjects=spec.filter_subjects,
        pending=0,
        ack_pending=0,
        redelivered=0,
        waiting=1,
        lag_s=0.0,
        oldest_pending_s=0.0,
        max_ack_pending=1000,
        delivered_sequence=0,
        ack_floor_sequence=0,
        last_delivered_at=None,
        last_acked_at=None,
        declared=True,
        differences=(),
        config={"ack_wait": 30 * 10**9},
    )
    return replace(fine, **changes)


def sample(**changed: Any) -> Sample:
    """Return a healthy look at the server, but for what is named: `pii_worker={...}`, `VIGIL_DLQ={...}`, `subjects`."""
    names = [*(spec.name for spec in STREAMS), *(f"KV_{bucket.name}" for bucket in BUCKETS)]
    streams = {name: stream(name, **changed.get(name, {})) for name in names if changed.get(name, {}) is not None}
    durables = {spec.durable: changed.get(spec.durable.replace("-", "_"), {}) for spec in CONSUMERS}
    consumers = {
        name: consumer(index, **changes)
        for index, (name, changes) in enumerate(durables.items())
        if changes is not None
    }
    return Sample(streams, consumers, changed.get("subjects", {}))


def observation(*samples: Sample, **changes: Any) -> Observation:
    fine = Observation(
        server=SERVER,
        samples=samples or (sample(), sample()),
        instances=(INSTANCE,),
        event_log_fault=None,
        clickhouse_configured=False,
        dead_letters=(),
        at=NOW,
    )
    return replace(fine, **changes)


def faults(seen: Observation) -> list[Finding]:
    found = [each for each in diagnose(seen) if each.level is not Level.OK]
    assert all(each.cure for each in found)
    return found


def dead_letter(minutes_ago: float, error: str = "RuntimeError") -> DeadLetterEntry:
    at = NOW - timedelta(minutes=minutes_ago)
    return DeadLetterEntry(1, at, "pii-worker", error, "", "vigil.pii.scan", 3, None, 1)


def test_a_healthy_system_has_no_fault() -> None:
    assert faults(observation()) == []
    assert {each.check for each in diagnose(observation())} == {
        *("server", "streams", "consumers", "service", "workers"),
        *("unseen messages", "lag", "dead letters", "event log"),
    }


def test_kept_decisions_may_fill_their_bucket_since_the_oldest_give_way() -> None:
    full = sample(KV_VIGIL_DECISIONS={"bytes": 10**9})
    assert faults(observation(full, full)) == []


def test_a_server_that_cannot_be_reached() -> None:
    [finding] = unreachable("no answer from 127.0.0.1:4222")
    assert (finding.check, finding.level) == ("server", Level.FAILURE)


DIFFERS = (Difference("max_age", 1, 2),)
SERIOUS = (Difference("subjects", ["a"], ["b"]),)
FILTER = (Difference("filter_subject", "a", "b"),)


@pytest.mark.parametrize(
    ("both", "check", "level", "said"),
    [
        ({"VIGIL_DLQ": None}, "streams", Level.FAILURE, "VIGIL_DLQ is missing"),
        ({"KV_VIGIL_DECISIONS": None}, "streams", Level.FAILURE, "bucket VIGIL_DECISIONS is missing"),
        ({"KV_VIGIL_KEYS": {"bytes": 8 * 10**8}}, "streams", Level.WARNING, "KV_VIGIL_KEYS holds 800.0 MB of 1.0 GB"),
        ({"KV_VIGIL_QUOTAS": {"bytes": 10**9}}, "streams", Level.FAILURE, "KV_VIGIL_QUOTAS holds 1.0 GB of 1.0 GB"),
        ({"VIGIL_DLQ": {"differences": DIFFERS}}, "streams", Level.WARNING, "differs from the topology in max_age"),
        ({"VIGIL_DLQ": {"differences": SERIOUS}}, "streams", Level.FAILURE, "differs from the topology in subjects"),
        ({"VIGIL_DLQ": {"newer": 9}}, "streams", Level.WARNING, "later version of the topology than this program's"),
        ({"KV_VIGIL_KEYS": {"newer": 9}}, "streams", Level.WARNING, "KV_VIGIL_KEYS (9)"),
        ({"pii_worker": {"newer": 9}}, "consumers", Level.WARNING, "pii-worker (9)"),
        ({"VIGIL_DETECTION": {"bytes": 8 * 10**8}}, "streams", Level.WARNING, "holds 800.0 MB of 1.0 GB"),
        ({"VIGIL_DETECTION": {"bytes": 96 * 10**7}}, "streams", Level.FAILURE, "holds 960.0 MB of 1.0 GB"),
        ({"pii_worker": None}, "consumers", Level.FAILURE, "pii-worker is missing"),
        ({"pii_worker": {"differences": DIFFERS}}, "consumers", Level.WARNING, "pii-worker differs"),
        ({"pii_worker": {"differences": FILTER}}, "consumers", Level.FAILURE, "pii-worker differs"),
        ({"pii_worker": {"waiting": 0}}, "workers", Level.FAILURE, "pii-worker: no worker is connected"),
        (
            {"pii_worker": {"waiting": 0, "ack_pending": 5, "last_delivered_at": NOW - timedelta(seconds=5)}},
            *("workers", Level.WARNING, "hands full"),
        ),
        (
            {"pii_worker": {"waiting": 0, "ack_pending": 5, "last_delivered_at": NOW - timedelta(minutes=5)}},
            *("workers", Level.FAILURE, "no worker is connected"),
        ),
        ({"pii_worker": {"ack_pending": 1000}}, "workers", Level.WARNING, "nothing more is delivered"),
        ({"subjects": {"vigil.guard.a.b": 2}}, "unseen messages", Level.WARNING, "2 messages that no consumer matches"),
        (
            {"subjects": {"vigil.pii.scan": 2}},
            "unseen messages",
            Level.WARNING,
            "2 messages with all deliveries used up",
        ),
        (
            {"pii_worker": {"lag_s": 31.0, "ack_pending": 1}},
            "lag",
            Level.WARNING,
            "1 messages wait, the oldest for 31s",
        ),
        ({"pii_worker": {"redelivered": 4}}, "lag", Level.WARNING, "4 messages are in redelivery"),
    ],
)
def test_a_fault_that_stands_is_named(both: dict[str, Any], check: str, level: Level, said: str) -> None:
    [finding] = faults(observation(sample(**both), sample(**both)))
    assert (finding.check, finding.level) == (check, level)
    assert said in finding.seen


@pytest.mark.parametrize(
    ("first", "last"),
    [
        ({"pii_worker": {"waiting": 0}}, {"pii_worker": {"waiting": 2}}),
        ({"pii_worker": {"waiting": 0}}, {"pii_worker": {"waiting": 0, "delivered_sequence": 9}}),
        ({"subjects": {"vigil.guard.a.b": 2}}, {}),
        ({"subjects": {"vigil.pii.scan": 1}}, {"subjects": {"vigil.pii.scan": 1}, "pii_worker": {"ack_pending": 1}}),
        (
            {"subjects": {"vigil.pii.scan": 1}, "VIGIL_DETECTION": {"first_sequence": 1}},
            {"subjects": {"vigil.pii.scan": 1}, "VIGIL_DETECTION": {"first_sequence": 2}},
        ),
        ({"pii_worker": {"pending": 5}}, {"pii_worker": {"pending": 900, "oldest_pending_s": 0.4}}),
        ({"pii_worker": {"pending": 9, "oldest_pending_s": 9}}, {"pii_worker": {"pending": 8, "oldest_pending_s": 9}}),
    ],
    ids=["between pulls", "took work", "went", "in work", "moves on", "a burst", "shrinks"],
)
def test_what_only_looks_like_a_fault_for_a_moment_is_none(first: dict[str, Any], last: dict[str, Any]) -> None:
    assert faults(observation(sample(**first), sample(**last))) == []


@pytest.mark.parametrize(
    ("oldest_s", "waiting", "level"), [(2.0, 1, Level.WARNING), (31.0, 1, Level.FAILURE), (0.1, 0, Level.FAILURE)]
)
def test_growing_lag_is_a_failure_when_it_is_old_or_nobody_works(oldest_s: float, waiting: int, level: Level) -> None:
    first, last = ({"pending": count, "oldest_pending_s": oldest_s, "waiting": waiting} for count in (5, 9))
    found = faults(observation(sample(pii_worker=first), sample(pii_worker=last)))
    [lag] = [each for each in found if each.check == "lag"]
    assert lag.level is level
    assert "pii-worker: lag grows, 5 -> 9 pending" in lag.seen


def test_no_service() -> None:
    checks = {each.check: each for each in faults(observation(instances=()))}
    assert checks["service"].level is Level.FAILURE
    assert checks["event log"].level is Level.WARNING
    assert "event log" not in {each.check for each in faults(observation(instances=(), clickhouse_configured=True))}


def test_replicas_of_different_versions() -> None:
    other = replace(INSTANCE, version="0.2.0")
    [finding] = faults(observation(instances=(INSTANCE, other)))
    assert "versions differ: 0.1.0, 0.2.0" in finding.seen


def test_storage_that_is_nearly_full() -> None:
    [finding] = faults(observation(server=replace(SERVER, storage_bytes=96, storage_limit=100)))
    assert (finding.check, finding.level) == ("server", Level.FAILURE)


def test_an_event_log_that_is_away_says_how_many_events_wait() -> None:
    waiting = sample(logging_worker={"pending": 7, "ack_pending": 1})
    [finding] = faults(observation(waiting, waiting, event_log_fault="The event log cannot be reached."))
    assert (finding.check, finding.level) == ("event log", Level.FAILURE)
    assert "8 events wait in the stream" in finding.seen


@pytest.mark.parametrize(
    ("entries", "grown", "level"),
    [
        ([dead_letter(40)], 0, Level.WARNING),
        ([dead_letter(40)] * 50, 0, Level.WARNING),
        ([dead_letter(1)] * 9, 0, Level.WARNING),
        ([dead_letter(1)] * 10, 0, Level.FAILURE),
        ([dead_letter(40)], 1, Level.FAILURE),
    ],
)
def test_a_queue_that_fills_is_a_failure_and_one_that_holds_something_a_warning(
    entries: list[DeadLetterEntry], grown: int, level: Level
) -> None:
    first, last = (sample(VIGIL_DLQ={"messages": 50, "last_sequence": 50 + more}) for more in (0, grown))
    [finding] = faults(observation(first, last, dead_letters=entries))
    assert (finding.check, finding.level) == ("dead letters", level)
    assert f"pii-worker RuntimeError ({len(entries)})" in finding.seen
    assert ("filling" in finding.seen) is (level is Level.FAILURE)


def test_the_cure_names_the_causes_of_the_commonest_errors() -> None:
    full = sample(VIGIL_DLQ={"messages": 2})
    entries = [dead_letter(40, "EventLogUnavailable"), dead_letter(40, "Unrouted")]
    [finding] = faults(observation(full, full, dead_letters=entries))
    assert "ClickHouse was away" in (finding.cure or "")
    assert "correct the sender" in (finding.cure or "")
