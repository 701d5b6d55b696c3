"""Prometheus metrics of the process; every other room counts through these objects.

Names follow Prometheus conventions with the prefix `vigil_`; times are seconds.
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
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
REGISTRY: Final = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)

LATENCY_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.2, 2.5, 5.0)
"""Around the targets: 8 ms alone, 40 and 150 ms at load, 300 and 600 ms reference, 5 s timeout."""

REQUESTS: Final = Counter(
    "vigil_requests",
    "Decisions made by this process.",
    ("mode", "source", "decision"),
    registry=REGISTRY,
)
REQUEST_ERRORS: Final = Counter(
    "vigil_request_errors", "Guard requests answered with a problem.", ("code",), registry=REGISTRY
)
REQUEST_SECONDS: Final = Histogram(
    "vigil_request_seconds",
    "Time from a request's arrival to its answer.",
    ("mode",),
    buckets=LATENCY_BUCKETS,
    registry=REGISTRY,
)
IN_FLIGHT: Final = Gauge("vigil_requests_in_flight", "Requests waiting for a decision.", registry=REGISTRY)
STAGE_SECONDS: Final = Histogram(
    "vigil_stage_seconds",
    "Time a consumer worked on one delivery.",
    ("stage",),
    buckets=LATENCY_BUCKETS,
    registry=REGISTRY,
)
DELIVERIES: Final = Counter(
    "vigil_deliveries",
    "Deliveries by how they ended: ack, retry, dead_letter, cancelled.",
    ("consumer", "outcome"),
    registry=REGISTRY,
)
HEARTBEATS: Final = Counter(
    "vigil_heartbeats", "In-progress signals sent for deliveries that take long.", ("consumer",), registry=REGISTRY
)
DEAD_LETTERS: Final = Counter(
    "vigil_dead_letters", "Messages moved to the dead-letter queue.", ("consumer", "error"), registry=REGISTRY
)
EXPIRED: Final = Counter(
    "vigil_expired", "Requests not judged because nobody could be waiting any more.", ("consumer",), registry=REGISTRY
)
DUPLICATES: Final = Counter(
    "vigil_duplicate_publishes", "Publishes JetStream had seen before.", ("subject",), registry=REGISTRY
)
BRANCH_DEGRADED: Final = Counter(
    "vigil_branch_degraded", "Texts for which a branch failed.", ("branch",), registry=REGISTRY
)
NATS_CONNECTED: Final = Gauge("vigil_nats_connected", "1 while the message server is connected.", registry=REGISTRY)
NATS_EVENTS: Final = Counter(
    "vigil_nats_connection_events",
    "Connection events: connected, disconnected, reconnected, closed, error.",
    ("event",),
    registry=REGISTRY,
)
CONSUMER_PENDING: Final = Gauge(
    "vigil_consumer_pending", "Messages a consumer has yet to deliver.", ("consumer",), registry=REGISTRY
)
CONSUMER_ACK_PENDING: Final = Gauge(
    "vigil_consumer_ack_pending", "Messages delivered and not yet acknowledged.", ("consumer",), registry=REGISTRY
)
CONSUMER_REDELIVERED: Final = Gauge(
    "vigil_consumer_redelivered", "Messages that are being redelivered.", ("consumer",), registry=REGISTRY
)
STREAM_MESSAGES: Final = Gauge("vigil_stream_messages", "Messages in a stream.", ("stream",), registry=REGISTRY)
EVENT_ROWS: Final = Counter("vigil_event_rows", "Decision rows inserted into the event log.", registry=REGISTRY)
EVENT_BATCH_SECONDS: Final = Histogram(
    "vigil_event_batch_seconds", "Time of one insert into the event log.", buckets=LATENCY_BUCKETS, registry=REGISTRY
)
EVENT_LOG_UP: Final = Gauge("vigil_event_log_up", "1 while this process can write the event log.", registry=REGISTRY)


def exposition() -> bytes:
    """Return all metrics in Prometheus' text format."""
    return generate_latest(REGISTRY)
