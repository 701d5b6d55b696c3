"""Prometheus metrics of the process; every other room counts through these objects.

Names follow Prometheus conventions with the prefix `vigil_`; times are seconds. Label values are few and known: no
request ids, no text of a caller. What each means and what to do about it stands in docs/observability.md, which a test
compares with this file.

Under `uvicorn --workers` the values of all workers are added up (`processes.py`). A gauge says how with its
`multiprocess_mode`: what the processes of one server all see is taken from whoever looked last, what each has for
itself is summed, and a state is the worst or best of all.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

# A series for each child that tells when it was made: nobody asks for it, and it is half of the answer.
disable_created_metrics()

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
REGISTRY: Final = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)

LATENCY_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.2, 2.5, 5.0)
"""Around the targets: 8 ms alone, 40 and 150 ms at load, 300 and 600 ms reference, 5 s timeout."""
QUEUE_BUCKETS: Final = (*LATENCY_BUCKETS, 15.0, 60.0, 300.0)
"""A queue may be longer than any caller's patience."""
SCORE_BUCKETS: Final = (5, 15, 30, 40, 50, 65, 75, 85, 95, 100)
"""With the shipped policies' limits among them: 30 ends LOW, 50 blocks, 65 ends MEDIUM, 70 and 85 are boosts."""
ROW_BUCKETS: Final = (1, 3, 10, 30, 100, 300, 1000, 3000)

# Requests and decisions
REQUESTS: Final = Counter(
    "vigil_requests",
    "Decisions made, by policy that decided.",
    ("mode", "source", "decision", "policy"),
    registry=REGISTRY,
)
DECISION_SECONDS: Final = Histogram(
    "vigil_decision_seconds",
    "Time from a request's arrival over HTTP or NATS to its decision.",
    ("mode",),
    buckets=LATENCY_BUCKETS,
    registry=REGISTRY,
)
BRANCH_SCORE: Final = Histogram(
    "vigil_branch_score",
    "Score of a detection branch that worked, 0 to 100.",
    ("branch",),
    buckets=SCORE_BUCKETS,
    registry=REGISTRY,
)
BRANCH_DEGRADED: Final = Counter(
    "vigil_branch_degraded", "Texts for which a branch failed.", ("branch",), registry=REGISTRY
)
EXPIRED: Final = Counter(
    "vigil_expired", "Requests not judged because nobody could be waiting any more.", ("consumer",), registry=REGISTRY
)
DRY_RUNS: Final = Counter(
    "vigil_dry_runs",
    "Dry runs by what would have been decided; they do not count as requests.",
    ("mode", "source", "decision"),
    registry=REGISTRY,
)
SHADOW_DECISIONS: Final = Counter(
    "vigil_shadow_decisions",
    "Decisions beside which another policy was tried, with what that would have decided.",
    ("policy", "shadow", "decision", "shadow_decision"),
    registry=REGISTRY,
)
SHADOW_FAILURES: Final = Counter(
    "vigil_shadow_failures", "Texts on which a policy on trial could not be tried.", registry=REGISTRY
)
POLICY_VERSION: Final = Gauge(
    "vigil_policy_version",
    "Version of each policy that is in force in this process; 0 once it is gone.",
    ("policy",),
    registry=REGISTRY,
    multiprocess_mode="livemin",
)
POLICY_REFUSALS: Final = Counter(
    "vigil_policy_refusals", "Applied policies that this process refused; what was in force stayed.", registry=REGISTRY
)

# The way in
REQUEST_SECONDS: Final = Histogram(
    "vigil_request_seconds",
    "Time from when a text came in, over HTTP or NATS, alone, in a batch or in a stream, to its decision.",
    ("mode",),
    buckets=LATENCY_BUCKETS,
    registry=REGISTRY,
)
REQUEST_ERRORS: Final = Counter(
    "vigil_request_errors", "HTTP requests answered with a problem.", ("code",), registry=REGISTRY
)
IN_FLIGHT: Final = Gauge(
    "vigil_requests_in_flight", "Requests waiting for a decision.", registry=REGISTRY, multiprocess_mode="livesum"
)
STREAMS_OPEN: Final = Gauge(
    "vigil_streams_open",
    "Answers that come in and are judged just now.",
    registry=REGISTRY,
    multiprocess_mode="livesum",
)
CHUNK_SECONDS: Final = Histogram(
    "vigil_stream_chunk_seconds",
    "What a chunk of a stream waits for: from its arrival until what follows from it is sent.",
    buckets=LATENCY_BUCKETS,
    registry=REGISTRY,
)
UNDECIDED: Final = Counter(
    "vigil_undecided",
    "Texts that a gateway answered without a decision, because their policy says so: ALLOWED (failed open) or BLOCKED.",
    ("decision",),
    registry=REGISTRY,
)
ADMISSION_REFUSALS: Final = Counter(
    "vigil_admission_refusals",
    "Requests refused early: full (too many waiting), deadline (it would pass in the queue) or storage (no room).",
    ("reason",),
    registry=REGISTRY,
)

# Deliveries
STAGE_SECONDS: Final = Histogram(
    "vigil_stage_seconds",
    "Time a consumer worked on one delivery.",
    ("stage",),
    buckets=LATENCY_BUCKETS,
    registry=REGISTRY,
)
QUEUE_SECONDS: Final = Histogram(
    "vigil_queue_seconds",
    "Time from a stage's message being stored to its first handling; of a batch, its oldest message.",
    ("consumer",),
    buckets=QUEUE_BUCKETS,
    registry=REGISTRY,
)
IN_WORK: Final = Gauge(
    "vigil_messages_in_work",
    "Messages a consumer is working on just now.",
    ("consumer",),
    registry=REGISTRY,
    multiprocess_mode="livesum",
)
DELIVERIES: Final = Counter(
    "vigil_deliveries",
    "Deliveries by how they ended: ack, retry (nak with a delay), dead_letter, cancelled.",
    ("consumer", "outcome"),
    registry=REGISTRY,
)
HEARTBEATS: Final = Counter(
    "vigil_heartbeats", "In-progress signals sent for deliveries that take long.", ("consumer",), registry=REGISTRY
)
DUPLICATES: Final = Counter(
    "vigil_duplicate_publishes", "Publishes JetStream had seen before.", ("subject",), registry=REGISTRY
)
DEAD_LETTERS: Final = Counter(
    "vigil_dead_letters", "Messages moved to the dead-letter queue.", ("consumer", "error"), registry=REGISTRY
)

# The message server as the process sees it
NATS_CONNECTED: Final = Gauge(
    "vigil_nats_connected",
    "1 while the message server is connected.",
    registry=REGISTRY,
    multiprocess_mode="livemin",
)
NATS_EVENTS: Final = Counter(
    "vigil_nats_connection_events",
    "Connection events: connected, disconnected, reconnected, closed, error; and reply_refused.",
    ("event",),
    registry=REGISTRY,
)


def _observed(name: str, documentation: str, *labels: str) -> Gauge:
    """Return a gauge of what all processes see alike and each reads for itself."""
    return Gauge(name, documentation, labels, registry=REGISTRY, multiprocess_mode="livemostrecent")


TOLD_BY_SERVER: Final[set[str]] = set()
"""Gauges that hold what the message server told when LAG_READ was set; later they say nothing (`exposition.py`)."""


def _told_by_server(name: str, documentation: str, label: str) -> Gauge:
    TOLD_BY_SERVER.add(name)
    return _observed(name, documentation, label)


CONSUMER_PENDING: Final = _told_by_server(
    "vigil_consumer_pending", "Messages the server has yet to deliver to a consumer.", "consumer"
)
CONSUMER_ACK_PENDING: Final = _told_by_server(
    "vigil_consumer_ack_pending", "Messages delivered and not yet acknowledged.", "consumer"
)
CONSUMER_REDELIVERED: Final = _told_by_server(
    "vigil_consumer_redelivered", "Messages delivered more than once and not yet acknowledged.", "consumer"
)
CONSUMER_OLDEST_SECONDS: Final = _told_by_server(
    "vigil_consumer_oldest_seconds",
    "Age of the oldest message that is not worked off.",
    "consumer",
)
CONSUMER_WAITING_PULLS: Final = _told_by_server(
    "vigil_consumer_waiting_pulls",
    "Pulls waiting at the server; 0: no worker, or all busy.",
    "consumer",
)
STREAM_MESSAGES: Final = _told_by_server("vigil_stream_messages", "Messages in a stream.", "stream")
STREAM_BYTES: Final = _told_by_server("vigil_stream_bytes", "Bytes that a stream takes.", "stream")
STREAM_MAX_BYTES: Final = _told_by_server("vigil_stream_max_bytes", "Bytes that a stream may take.", "stream")
DEAD_LETTER_QUEUE: Final = _told_by_server(
    "vigil_dead_letter_queue_messages", "Entries of the dead-letter queue by the consumer that failed.", "consumer"
)
LAG_READ_NAME: Final = "vigil_lag_read_timestamp_seconds"
LAG_READ: Final = _observed(LAG_READ_NAME, "When the state of streams and consumers was last read, since 1970.")

# The event log
EVENT_ROWS: Final = Counter("vigil_event_rows", "Rows inserted into the event log.", registry=REGISTRY)
EVENT_BATCH_ROWS: Final = Histogram(
    "vigil_event_batch_rows", "Rows of one insert into the event log.", buckets=ROW_BUCKETS, registry=REGISTRY
)
EVENT_BATCH_SECONDS: Final = Histogram(
    "vigil_event_batch_seconds", "Time of one insert into the event log.", buckets=LATENCY_BUCKETS, registry=REGISTRY
)
EVENT_FAILURES: Final = Counter(
    "vigil_event_batch_failures", "Inserts into the event log that failed and are repeated.", registry=REGISTRY
)
EVENT_ROWS_REFUSED: Final = Counter(
    "vigil_event_rows_refused", "Rows the event log refuses, dead-lettered.", registry=REGISTRY
)
EVENT_LOG_UP: Final = Gauge(
    "vigil_event_log_up",
    "1 while this process can write the event log.",
    registry=REGISTRY,
    multiprocess_mode="livemax",
)

# The process and its machine
BUILD_INFO: Final = Gauge(
    "vigil_build_info", "1 for the version that runs.", ("version",), registry=REGISTRY, multiprocess_mode="livemax"
)
MODEL_INFO: Final = Gauge(
    "vigil_model_info",
    "1 for each model that is loaded.",
    ("model", "version"),
    registry=REGISTRY,
    multiprocess_mode="livemax",
)
DISK_FREE_BYTES: Final = _observed("vigil_state_disk_free_bytes", "Free bytes of the disk with the state folder.")
DISK_SIZE_BYTES: Final = _observed("vigil_state_disk_size_bytes", "Size of the disk with the state folder, in bytes.")

# An alert on the increase of a counter misses its first count, unless the counter was there before.
for _branch in ("heuristics", "semantic", "classifier", "encoder", "pii", "stream"):
    BRANCH_DEGRADED.labels(_branch)
for _reason in ("full", "deadline", "storage"):
    ADMISSION_REFUSALS.labels(_reason)
for _event in ("connected", "disconnected", "reconnected", "closed", "error"):
    NATS_EVENTS.labels(_event)
