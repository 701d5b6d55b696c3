"""What `vigil doctor` concludes: pure functions from what was seen to named faults and their cures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Final

from app.cli.render import ago, size, span
from app.topology import (
    BUCKETS,
    CONSUMERS,
    DETECTION_STREAM,
    DLQ_STREAM,
    LOGGING_WORKER,
    SERVICE,
    STREAMS,
    TOPOLOGY_VERSION,
    matches,
)

if TYPE_CHECKING:
    from app.messaging.dead_letter_queue import DeadLetterEntry
    from app.messaging.reports import ConsumerReport, ServerReport, ServiceInstance, StreamReport

NEARLY_FULL: Final = 0.8
FULL: Final = 0.95
"""The work queue and most buckets refuse what is new at their limit, and the dead-letter queue forgets its oldest."""
FILLING_COUNT: Final = 10
FILLING_WITHIN: Final = timedelta(minutes=5)
"""So many dead letters in so short a time are no single poison message any more."""
SLOW_AGE_S: Final = 1.0
"""A backlog younger than this is a burst, whatever its size."""
APPLY: Final = "vigil streams apply"
MAKE_ROOM: Final = "vigil audit ls says who writes so much; to make room: `a bucket fills` of the runbook"
START: Final = "start the service: vigil serve"
CAUSES: Final = {
    "InvalidRequest": "input that can never succeed: find who sends it (vigil dlq show SEQ)",
    "MalformedJson": "input that can never succeed: find who sends it (vigil dlq show SEQ)",
    "PayloadTooLarge": "input that can never succeed: find who sends it (vigil dlq show SEQ)",
    "Unrouted": "published under a subject that no consumer takes: correct the sender",
    "EventLogUnavailable": "ClickHouse was away: once it is back, replay them",
    "DeliveriesExhausted": "a worker died or hung on it each time: look for restarts in the service's log",
    "MessagingUnavailable": "NATS was away in the middle: replay them",
}
"""Where an error type comes from, for the commonest ones."""


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer to one question."""

    check: str
    level: Level
    seen: str
    cure: str | None = None
    """What to do; None where nothing is to be done."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The server's streams and consumers at one moment."""

    streams: dict[str, StreamReport]
    consumers: dict[str, ConsumerReport]
    subject_counts: dict[str, int]
    """Messages of the work queue by subject."""


@dataclass(frozen=True, slots=True)
class Observation:
    """Everything the doctor looked at."""

    server: ServerReport
    samples: Sequence[Sample]
    """At least two, in order."""
    instances: Sequence[ServiceInstance]
    event_log_fault: str | None
    """Why the event log cannot be used; None when it can, or when nobody is there to ask (no instances)."""
    clickhouse_configured: bool
    dead_letters: Sequence[DeadLetterEntry]
    """The recent ones, oldest first."""
    at: datetime
    max_lag_s: float = 30.0

    @property
    def first(self) -> Sample:
        return self.samples[0]

    @property
    def last(self) -> Sample:
        return self.samples[-1]


def unreachable(reason: str) -> list[Finding]:
    """Return what can be said without a server."""
    cure = "is the service (embedded server) or NATS_URL's server running, and are address, user and password right?"
    return [Finding("server", Level.FAILURE, reason, cure)]


def diagnose(seen: Observation) -> list[Finding]:
    """Answer each of the troubleshooting questions, in the order in which faults cause each other."""
    questions = (
        ("server", _server(seen), _said_of_server(seen.server)),
        ("streams", _streams(seen), f"{len(STREAMS)} streams and the decisions bucket equal the topology"),
        ("consumers", _consumers(seen), f"{len(CONSUMERS)} consumers exist, filters match"),
        ("service", _service(seen), _said_of_service(seen)),
        ("workers", _workers(seen), "every consumer has a worker"),
        ("unseen messages", _unseen(seen), "every message of the work queue has a consumer that will get it"),
        ("lag", _lag(seen), _said_of_lag(seen)),
        ("dead letters", _dead_letters(seen), "the dead-letter queue is empty"),
        ("event log", _event_log(seen), "ClickHouse answers"),
    )
    findings: list[Finding] = []
    for check, found, fine in questions:
        answers = list(found)
        findings += answers or [Finding(check, Level.OK, fine)]
    return findings


def _server(seen: Observation) -> Iterator[Finding]:
    limit = seen.server.storage_limit
    if limit and seen.server.storage_bytes >= NEARLY_FULL * limit:
        level = Level.FAILURE if seen.server.storage_bytes >= FULL * limit else Level.WARNING
        used = f"JetStream holds {size(seen.server.storage_bytes)} of {size(limit)}"
        yield Finding(
            "server",
            level,
            used,
            "raise the account's or server's storage limit, or find what fills it: vigil streams report",
        )


def _said_of_server(server: ServerReport) -> str:
    held = size(server.storage_bytes)
    return f"nats-server {server.version} at {server.url}, {server.round_trip_ms:g} ms; JetStream holds {held}"


def _streams(seen: Observation) -> Iterator[Finding]:
    present = seen.last.streams
    for spec in STREAMS:
        stream = present.get(spec.name)
        if stream is None:
            yield Finding("streams", Level.FAILURE, f"the stream {spec.name} is missing", APPLY)
            continue
        fields = [each.field for each in stream.differences]
        if fields:
            level = Level.FAILURE if {"subjects", "retention"} & set(fields) else Level.WARNING
            yield Finding(
                "streams",
                level,
                f"{spec.name} differs from the topology in {', '.join(fields)}",
                f"vigil streams info {spec.name}; {APPLY}",
            )
        yield from _full(stream, "vigil consumers report" if spec is not DLQ_STREAM else "vigil dlq stats")
    for bucket in BUCKETS:
        if bucket.stream not in present:
            yield Finding("streams", Level.FAILURE, f"the bucket {bucket.name} is missing", APPLY)
        elif not bucket.short_lived:
            yield from _full(present[bucket.stream], MAKE_ROOM)
    yield from _newer("streams", present.values())


def _full(stream: StreamReport, cure: str) -> Iterator[Finding]:
    if stream.max_bytes and stream.bytes >= NEARLY_FULL * stream.max_bytes:
        level = Level.FAILURE if stream.bytes >= FULL * stream.max_bytes else Level.WARNING
        yield Finding("streams", level, f"{stream.name} holds {size(stream.bytes)} of {size(stream.max_bytes)}", cure)


def _newer(check: str, reports: Iterable[StreamReport | ConsumerReport]) -> Iterator[Finding]:
    """Tell what a later version of the topology has written; as long as it is there, nothing here is compared."""
    newer = [f"{each.name} ({each.newer})" for each in reports if each.newer is not None]
    if newer:
        yield Finding(
            check,
            Level.WARNING,
            f"written by a later version of the topology than this program's ({TOPOLOGY_VERSION}): {', '.join(newer)}",
            "finish the roll-out, and use the later program's vigil; after a way back for good: "
            f"{APPLY} --lower-version",
        )


def _consumers(seen: Observation) -> Iterator[Finding]:
    for spec in CONSUMERS:
        if spec.stream not in seen.last.streams:
            continue  # The missing stream is named already.
        consumer = seen.last.consumers.get(spec.durable)
        if consumer is None:
            yield Finding(
                "consumers",
                Level.FAILURE,
                f"the consumer {spec.durable} is missing: nobody gets {', '.join(spec.filter_subjects)}",
                f"{APPLY}, then restart the service if it does not pull",
            )
            continue
        fields = [each.field for each in consumer.differences]
        if fields:
            wrong_filter = any(name.startswith("filter_subject") for name in fields)
            yield Finding(
                "consumers",
                Level.FAILURE if wrong_filter else Level.WARNING,
                f"{spec.durable} differs from the topology in {', '.join(fields)}",
                f"vigil consumers info {spec.durable}; {APPLY}",
            )
    yield from _newer("consumers", seen.last.consumers.values())


def _service(seen: Observation) -> Iterator[Finding]:
    if not seen.instances:
        yield Finding("service", Level.FAILURE, f"no process answers $SRV.PING.{SERVICE}", START)
    versions = {each.version for each in seen.instances}
    if len(versions) > 1:
        yield Finding(
            "service", Level.WARNING, f"versions differ: {', '.join(sorted(versions))}", "finish the roll-out"
        )


def _said_of_service(seen: Observation) -> str:
    return f"{len(seen.instances)} process(es) answer, version {', '.join({each.version for each in seen.instances})}"


def _workers(seen: Observation) -> Iterator[Finding]:
    for name, last in _declared(seen):
        if not is_connected(seen, name):
            busy = last.ack_pending and last.last_delivered_at and seen.at - last.last_delivered_at < _ack_wait(last)
            waiting = f"{last.pending:,} pending, {last.ack_pending:,} in work"
            if busy:
                yield Finding(
                    "workers",
                    Level.WARNING,
                    f"{name}: no pull waits, {waiting}: its workers have their hands full, or have just gone",
                    "vigil consumers report; start another replica",
                )
            else:
                yield Finding(
                    "workers", Level.FAILURE, f"{name}: no worker is connected ({waiting})", _start_cure(seen, name)
                )
        if last.max_ack_pending > 0 and last.ack_pending >= last.max_ack_pending:
            yield Finding(
                "workers",
                Level.WARNING,
                f"{name}: {last.ack_pending:,} messages wait for their "
                "acknowledgement, the most allowed: nothing more is delivered",
                "look for errors in the service's log",
            )


def _start_cure(seen: Observation, name: str) -> str:
    if not seen.instances:
        return START
    if name == LOGGING_WORKER.durable:
        return "its worker starts once ClickHouse can be reached: see the check 'event log'"
    return "the service runs but does not pull: look at its log and GET /health/ready, then restart it"


def _unseen(seen: Observation) -> Iterator[Finding]:
    """Name messages that no consumer will deliver: of no filter, or with their deliveries used up."""
    # A running service moves them to the dead-letter queue by itself, within its sweep interval.
    level = Level.WARNING if seen.instances else Level.FAILURE
    cure = "the service moves them to the dead-letter queue within half a minute; " + (
        "look again, then at its log" if seen.instances else START
    )
    queue = [each for each in seen.last.consumers.values() if each.stream == DETECTION_STREAM.name]
    filters = [pattern for consumer in queue for pattern in consumer.filter_subjects]
    unmatched = _throughout(seen, lambda subject: not _routed(subject, filters))
    if unmatched:
        named = ", ".join(f"{subject} ({count:,})" for subject, count in unmatched.most_common(3))
        said = f"{unmatched.total():,} messages that no consumer matches: {named}"
        yield Finding("unseen messages", level, said, cure)
    firsts = {each.streams[DETECTION_STREAM.name].first_sequence for each in seen.samples if _has_queue(each)}
    if len(firsts) != 1:
        return  # The oldest message went its way while we looked.
    for consumer in queue:
        busy = any(
            each.consumers[consumer.name].unprocessed for each in seen.samples if consumer.name in each.consumers
        )
        left = _throughout(seen, partial(_routed, filters=consumer.filter_subjects)).total()
        if left and not busy:
            said = f"{consumer.name}: {left:,} messages with all deliveries used up"
            yield Finding("unseen messages", level, said, cure)


def _routed(subject: str, filters: Sequence[str]) -> bool:
    return any(matches(subject, pattern) for pattern in filters)


def _has_queue(sample: Sample) -> bool:
    return DETECTION_STREAM.name in sample.streams


def _throughout(seen: Observation, wanted: Callable[[str], bool]) -> Counter[str]:
    """Count messages under the wanted subjects that were there at each look."""
    counts = [each.subject_counts for each in seen.samples]
    names = set.intersection(*(set(each) for each in counts))
    return Counter({name: min(each[name] for each in counts) for name in names if wanted(name)})


def _lag(seen: Observation) -> Iterator[Finding]:
    for name, last in _declared(seen):
        first = seen.first.consumers.get(name, last)
        grown = last.pending - first.pending
        if grown > 0 and (last.oldest_pending_s >= SLOW_AGE_S or not is_connected(seen, name)):
            bad = last.oldest_pending_s >= seen.max_lag_s or not is_connected(seen, name)
            yield Finding(
                "lag",
                Level.FAILURE if bad else Level.WARNING,
                f"{name}: lag grows, {first.pending:,} -> {last.pending:,} pending, the oldest for "
                f"{span(last.oldest_pending_s)}",
                _start_cure(seen, name)
                if not is_connected(seen, name)
                else "more comes in than is worked off: start another replica, or send less",
            )
        elif last.lag_s >= seen.max_lag_s:
            yield Finding(
                "lag",
                Level.WARNING,
                f"{name}: {last.unprocessed:,} messages wait, the oldest for {span(last.lag_s)}",
                f"vigil consumers info {name}: not growing; it is retried or worked off",
            )
        elif last.redelivered:
            yield Finding(
                "lag",
                Level.WARNING,
                f"{name}: {last.redelivered:,} messages are in redelivery",
                "a handler fails on them: look for 'delivery failed' in the service's log",
            )


def _said_of_lag(seen: Observation) -> str:
    waiting = sum(consumer.unprocessed for _, consumer in _declared(seen))
    oldest_s = max((consumer.lag_s for _, consumer in _declared(seen)), default=0.0)
    return f"{waiting:,} messages under way, the oldest for {span(oldest_s)}"


def _dead_letters(seen: Observation) -> Iterator[Finding]:
    first, last = seen.first.streams.get(DLQ_STREAM.name), seen.last.streams.get(DLQ_STREAM.name)
    if first is None or last is None or not last.messages:
        return
    recent = [each for each in seen.dead_letters if seen.at - each.stored_at <= FILLING_WITHIN]
    new = last.last_sequence - first.last_sequence
    filling = new > 0 or len(recent) >= FILLING_COUNT
    patterns = Counter((each.consumer, each.error_type) for each in seen.dead_letters)
    said = f"{last.messages:,} dead letters, the newest {ago(last.last_at)}"
    if filling:
        said += f": filling, {max(new, len(recent)):,} in the last {span(FILLING_WITHIN)}"
    if patterns:
        said += "; mostly " + ", ".join(
            f"{name} {error} ({count:,})" for (name, error), count in patterns.most_common(3)
        )
    causes = {CAUSES[error]: None for (_, error), _ in patterns.most_common(3) if error in CAUSES}
    cure = "; ".join([*causes, "vigil dlq stats, vigil dlq ls; after the cure: vigil dlq replay --all"])
    yield Finding("dead letters", Level.FAILURE if filling else Level.WARNING, said, cure)


def _event_log(seen: Observation) -> Iterator[Finding]:
    if seen.event_log_fault is not None:
        waiting = seen.last.consumers.get(LOGGING_WORKER.durable)
        said = (
            f"{seen.event_log_fault.rstrip('.')}; {waiting.unprocessed if waiting else 0:,} events wait in the stream"
        )
        where = "CLICKHOUSE_URL" if seen.clickhouse_configured else "the service's log and the state folder"
        yield Finding(
            "event log", Level.FAILURE, said, f"is ClickHouse running? look at {where}; nothing is lost meanwhile"
        )
    elif not seen.instances and not seen.clickhouse_configured:
        yield Finding("event log", Level.WARNING, "not known: only a running service can say", START)


def is_connected(seen: Observation, name: str) -> bool:
    """Whether some worker took work from a consumer, or waited for it, while the doctor looked."""
    known = [each.consumers[name] for each in seen.samples if name in each.consumers]
    took = known[-1].delivered_sequence > known[0].delivered_sequence
    return took or any(each.waiting for each in known)


def _declared(seen: Observation) -> list[tuple[str, ConsumerReport]]:
    found = seen.last.consumers
    return [(spec.durable, found[spec.durable]) for spec in CONSUMERS if spec.durable in found]


def _ack_wait(consumer: ConsumerReport) -> timedelta:
    return timedelta(microseconds=consumer.config.get("ack_wait", 0) / 1000)
