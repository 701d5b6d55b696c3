"""Streams, consumers, subjects and headers of the JetStream backbone as data, and nothing else.

FastStream's declarations, the reconciliation at start, the tests and the operator's tools all read this file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final

TOPOLOGY_VERSION: Final = 1
"""Grows with each change of the streams, consumers and buckets below. It is written beside them on the server: a
program leaves as it is what a later version has written there."""
VERSION_KEY: Final = "vigil-topology"
"""Name of the version in the metadata of a stream or consumer."""
GIGABYTE: Final = 10**9
"""max_bytes of 10 GB and 1 GB are read as decimal gigabytes."""


class Retention(StrEnum):
    WORK_QUEUE = "workqueue"
    LIMITS = "limits"


@dataclass(frozen=True, slots=True)
class StreamSpec:
    name: str
    subjects: tuple[str, ...]
    retention: Retention
    max_age: timedelta
    max_bytes: int
    duplicate_window: timedelta = timedelta(minutes=2)
    """How long a Nats-Msg-Id is remembered."""
    max_message_bytes: int = -1
    """Largest message, headers included; -1 leaves it to the server's max_payload."""
    append_only: bool = False
    """Whether the server refuses to delete or purge messages; they end by age and size alone."""


UNLIMITED: Final = -1
"""max_deliver of a consumer that tries until it succeeds."""


@dataclass(frozen=True, slots=True)
class ConsumerSpec:
    durable: str
    stream: str
    filter_subjects: tuple[str, ...]
    ack_wait: timedelta
    max_deliver: int
    max_ack_pending: int = 10_000
    """Most messages delivered and not acknowledged, those that wait for a retry among them: at so many nothing more is
    delivered. What is in work is bounded by what each process asks for (`messaging/pulling.py`)."""

    @property
    def families(self) -> tuple[str, ...]:
        """The first two tokens of each filter, as `vigil.pii`: they tell the consumers apart."""
        return tuple(".".join(pattern.split(".")[:2]) for pattern in self.filter_subjects)


BUCKET_PREFIX: Final = "KV_"
"""What the name of the stream under a bucket begins with."""


@dataclass(frozen=True, slots=True)
class BucketSpec:
    """A JetStream key-value bucket."""

    name: str
    max_bytes: int
    history: int = 1
    """How many values of each key are kept, the present one included."""
    max_age: timedelta = timedelta(0)
    """When an entry ends; zero: never."""
    short_lived: bool = False
    """Whether entries end with the decisions' time to live, and the oldest give way when the bucket is full: other
    buckets keep what they have and refuse the new."""

    @property
    def stream(self) -> str:
        """The stream under it."""
        return f"{BUCKET_PREFIX}{self.name}"


SERVICE: Final = "vigil-guard"
"""Name of the NATS micro service."""


class Subject(StrEnum):
    """Where messages are published."""

    GUARD_INPUT = "vigil.guard.input"
    GUARD_OUTPUT = "vigil.guard.output"
    GUARD_TOOL = "vigil.guard.tool"
    DETECTION_BATCH = "vigil.detection.batch"
    PII_SCAN = "vigil.pii.scan"
    ARBITER_DECIDE = "vigil.arbiter.decide"
    LOGS_EVENT = "vigil.logs.event"
    LOGS_TEXT = "vigil.logs.text"
    LOGS_FEEDBACK = "vigil.logs.feedback"
    API_GUARD = "vigil.api.guard"
    API_DECISION = "vigil.api.decision"
    API_RESTORE = "vigil.api.restore"
    API_STREAM = "vigil.api.stream"
    API_EVENTS = "vigil.api.events"
    API_EVENT = "vigil.api.event"
    API_STATS = "vigil.api.stats"
    API_FEEDBACK = "vigil.api.feedback"
    """NATS micro services for plain requests; outside every stream."""
    USAGE = "vigil.usage"
    """Plain messages between replicas: what each has admitted; outside every stream."""


DETECTION_STREAM: Final = StreamSpec(
    name="VIGIL_DETECTION",
    subjects=("vigil.guard.>", "vigil.detection.>", "vigil.pii.>", "vigil.arbiter.>", "vigil.logs.>"),
    retention=Retention.WORK_QUEUE,
    max_age=timedelta(days=7),
    max_bytes=10 * GIGABYTE,
    # 48 KB under the usual max_payload of 1 MiB: what is accepted also fits the dead-letter queue with its headers.
    max_message_bytes=1_000_000,
)
DLQ_STREAM: Final = StreamSpec(
    name="VIGIL_DLQ",
    subjects=("vigil.dlq.>",),
    retention=Retention.LIMITS,
    max_age=timedelta(days=30),
    max_bytes=1 * GIGABYTE,
    # As long as the original can lie in the work queue: burying one again after an outage adds no second entry.
    duplicate_window=timedelta(days=7),
)
ADVISORIES_STREAM: Final = StreamSpec(
    name="VIGIL_ADVISORIES",
    subjects=(f"$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{DETECTION_STREAM.name}.>",),
    retention=Retention.WORK_QUEUE,
    max_age=DETECTION_STREAM.max_age,
    max_bytes=100 * 10**6,
)
"""The server tells of a message that used up its deliveries in a plain message, lost when nobody listens: kept here."""
AUDIT_STREAM: Final = StreamSpec(
    name="VIGIL_AUDIT",
    subjects=("vigil.audit.>",),
    retention=Retention.LIMITS,
    max_age=timedelta(days=365),
    max_bytes=200 * 10**6,
    append_only=True,
)
"""What administrators did: one message for each action, under `vigil.audit.<action>`."""
STREAMS: Final = (DETECTION_STREAM, DLQ_STREAM, ADVISORIES_STREAM, AUDIT_STREAM)

DETECTION_WORKER: Final = ConsumerSpec(
    durable="detection-worker",
    stream=DETECTION_STREAM.name,
    filter_subjects=("vigil.guard.*", "vigil.detection.>"),
    ack_wait=timedelta(seconds=30),
    max_deliver=3,
)
PII_WORKER: Final = ConsumerSpec(
    durable="pii-worker",
    stream=DETECTION_STREAM.name,
    filter_subjects=("vigil.pii.>",),
    ack_wait=timedelta(seconds=60),
    max_deliver=3,
)
ARBITER_WORKER: Final = ConsumerSpec(
    durable="arbiter-worker",
    stream=DETECTION_STREAM.name,
    filter_subjects=("vigil.arbiter.>",),
    ack_wait=timedelta(seconds=10),
    max_deliver=3,
)
LOGGING_WORKER: Final = ConsumerSpec(
    durable="logging-worker",
    stream=DETECTION_STREAM.name,
    filter_subjects=("vigil.logs.>",),
    ack_wait=timedelta(seconds=30),
    max_deliver=5,
)
PIPELINE_CONSUMERS: Final = (DETECTION_WORKER, PII_WORKER, ARBITER_WORKER, LOGGING_WORKER)
ADVISORY_WORKER: Final = ConsumerSpec(
    durable="advisory-worker",
    stream=ADVISORIES_STREAM.name,
    filter_subjects=ADVISORIES_STREAM.subjects,
    ack_wait=timedelta(seconds=30),
    max_deliver=UNLIMITED,
)
CONSUMERS: Final = (*PIPELINE_CONSUMERS, ADVISORY_WORKER)

DECISIONS_BUCKET: Final = BucketSpec(name="VIGIL_DECISIONS", max_bytes=1 * GIGABYTE, short_lived=True)
"""First decision of each request id: what a repeated id is answered with, on any replica."""
POLICIES_BUCKET: Final = BucketSpec(name="VIGIL_POLICIES", max_bytes=50 * 10**6, history=64)
"""Policies that were applied to the running service, every version of each, and which one is the default."""
KEYS_BUCKET: Final = BucketSpec(name="VIGIL_KEYS", max_bytes=50 * 10**6)
"""API keys: of each secret only a digest under a pepper that is not kept here."""
QUOTAS_BUCKET: Final = BucketSpec(name="VIGIL_QUOTAS", max_bytes=50 * 10**6, max_age=timedelta(days=40))
"""How much of its quotas each key has used, per day and month."""
FORGETTING_BUCKET: Final = BucketSpec(name="VIGIL_FORGETTING", max_bytes=50 * 10**6, max_age=timedelta(days=30))
"""What is to be forgotten, by fingerprint: kept for as long as a message can lie in a stream and come back."""
BUCKETS: Final = (DECISIONS_BUCKET, POLICIES_BUCKET, KEYS_BUCKET, QUOTAS_BUCKET, FORGETTING_BUCKET)


UNROUTED: Final = "unrouted"
"""Stands for the consumer of messages whose subject no consumer matches."""


def dlq_subject(durable: str) -> str:
    return f"vigil.dlq.{durable}"


STREAM_CHUNKS: Final = f"{Subject.API_STREAM}.*"
"""Where the chunks of all streams go, each to a subject of its own."""


def chunks_subject(token: str) -> str:
    return f"{Subject.API_STREAM}.{token}"


def audit_subject(action: str) -> str:
    """Return where an action is recorded, as `vigil.audit.keys.create`."""
    return f"vigil.audit.{action}"


def matches(subject: str, pattern: str) -> bool:
    """Whether a subject falls under a filter, by NATS' rules: `*` is one token, `>` at the end one or more."""
    tokens, wanted = subject.split("."), pattern.split(".")
    if wanted[-1] == ">":
        wanted.pop()
        if len(tokens) <= len(wanted):
            return False
        tokens = tokens[: len(wanted)]
    return len(tokens) == len(wanted) and all(wish in ("*", token) for token, wish in zip(tokens, wanted, strict=True))


def version_of(metadata: Mapping[str, str] | None) -> int:
    """Return the version of the topology that wrote a stream, consumer or bucket; 0 where its metadata has none."""
    stated = (metadata or {}).get(VERSION_KEY, "")
    return int(stated) if stated.isascii() and stated.isdecimal() and len(stated) < 10 else 0


class Header(StrEnum):
    """Headers the guard writes and reads; `reply_to` and `correlation_id` are FastStream's names."""

    MESSAGE_ID = "Nats-Msg-Id"
    REPLY_TO = "reply_to"
    CORRELATION_ID = "correlation_id"
    CONTENT_TYPE = "content-type"
    TRACEPARENT = "traceparent"
    RECEIVED_AT = "Vigil-Received-At"
    DEADLINE = "Vigil-Deadline"
    ATTEMPT = "Vigil-Attempt"
    GIVEN_ID = "Vigil-Given-Id"
    TENANT = "Vigil-Tenant"
    KEY_ID = "Vigil-Key-Id"
    SEQUENCE = "Vigil-Sequence"
    DEAD_ERROR_TYPE = "Vigil-Error-Type"
    DEAD_ERROR_MESSAGE = "Vigil-Error-Message"
    DEAD_SUBJECT = "Vigil-Original-Subject"
    DEAD_STREAM = "Vigil-Original-Stream"
    DEAD_SEQUENCE = "Vigil-Original-Sequence"
    DEAD_DELIVERIES = "Vigil-Deliveries"
    DEAD_AT = "Vigil-Dead-At"


INBOX_PREFIX: Final = "_INBOX."
"""Replies go only to subjects under this prefix, whatever a message asks for."""
OWN_INBOX: Final = "_INBOX.vigil"
"""Where the service and the operator's command get replies: permissions keep everybody else from listening there."""
