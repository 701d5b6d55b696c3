"""How far behind the consumers are: asked from the server, shown as metrics; what is missing is brought back."""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Final

from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import ConsumerInfo
from nats.js.errors import NotFoundError

from app.identity import now
from app.telemetry import metrics
from app.topology import BUCKETS, CONSUMERS, DETECTION_STREAM, DLQ_STREAM, STREAMS, UNROUTED, ConsumerSpec, dlq_subject

logger: Final = logging.getLogger("vigil.lag")

INTERVAL_S: Final = 2.0
BURIED: Final = {dlq_subject(name): name for name in (*(spec.durable for spec in CONSUMERS), UNROUTED)}
"""Whose dead letters lie under which subject; others that a stranger wrote get no gauge."""


async def watch(
    jetstream: JetStreamContext,
    on_missing: Callable[[], Awaitable[None]],
    on_stored: Callable[[float], None],
    state_dir: Path,
) -> None:
    """Update the gauges of the server's state until cancelled; have what is missing brought back, and tell how full the
    work queue is."""
    while True:
        try:
            on_stored(await observe(jetstream))
        except NotFoundError:
            logger.error("a stream, consumer or bucket is missing and is made anew")
            await on_missing()
        except (NatsError, TimeoutError) as error:
            logger.warning("lag not read: %s", type(error).__name__)
        observe_disk(state_dir)
        await asyncio.sleep(INTERVAL_S)


async def observe(jetstream: JetStreamContext) -> float:
    """Read the state of every stream and consumer, and return how full the work queue is, 0 to 1.

    Raises:
        nats.js.errors.NotFoundError: one of them, or a bucket, does not exist.
    """
    shares = {
        stream: await _observe_stream(jetstream, stream.name, subjects=stream is DLQ_STREAM) for stream in STREAMS
    }
    for consumer in CONSUMERS:
        await _observe_consumer(jetstream, consumer)
    for bucket in BUCKETS:
        await _observe_stream(jetstream, bucket.stream, subjects=False)
    metrics.LAG_READ.set(time.time())
    return shares[DETECTION_STREAM]


def observe_disk(folder: Path) -> None:
    """Read how full the disk is that embedded parts write to."""
    try:
        usage = shutil.disk_usage(folder)
    except OSError as error:
        logger.debug("disk not read: %s", type(error).__name__)
        return
    metrics.DISK_FREE_BYTES.set(usage.free)
    metrics.DISK_SIZE_BYTES.set(usage.total)


async def _observe_stream(jetstream: JetStreamContext, name: str, *, subjects: bool) -> float:
    info = await jetstream.stream_info(name, subjects_filter=DLQ_STREAM.subjects[0] if subjects else None)
    metrics.STREAM_MESSAGES.labels(name).set(info.state.messages)
    metrics.STREAM_BYTES.labels(name).set(info.state.bytes)
    metrics.STREAM_MAX_BYTES.labels(name).set(info.config.max_bytes or -1)
    if subjects:
        buried = info.state.subjects or {}
        for subject, durable in BURIED.items():
            metrics.DEAD_LETTER_QUEUE.labels(durable).set(buried.get(subject, 0))
    most = info.config.max_bytes or -1
    return info.state.bytes / most if most > 0 else 0.0


async def _observe_consumer(jetstream: JetStreamContext, spec: ConsumerSpec) -> None:
    info = await jetstream.consumer_info(spec.stream, spec.durable)
    metrics.CONSUMER_PENDING.labels(spec.durable).set(info.num_pending or 0)
    metrics.CONSUMER_ACK_PENDING.labels(spec.durable).set(info.num_ack_pending or 0)
    metrics.CONSUMER_REDELIVERED.labels(spec.durable).set(info.num_redelivered or 0)
    metrics.CONSUMER_WAITING_PULLS.labels(spec.durable).set(info.num_waiting or 0)
    oldest = await _oldest(jetstream, spec, info)
    age_s = (now() - oldest).total_seconds() if oldest is not None else 0.0
    metrics.CONSUMER_OLDEST_SECONDS.labels(spec.durable).set(max(0.0, age_s))


async def _oldest(jetstream: JetStreamContext, spec: ConsumerSpec, info: ConsumerInfo) -> datetime | None:
    """Return when the oldest message was stored that the consumer has not worked off."""
    if not info.num_pending and not info.num_ack_pending:
        return None
    after = (info.ack_floor.stream_seq if info.ack_floor is not None else 0) + 1
    stored = []
    for pattern in spec.filter_subjects:
        try:
            message = await jetstream.get_msg(spec.stream, seq=after, subject=pattern, next=True)
        except NotFoundError:
            continue  # Worked off since the consumer was asked.
        if message.time is not None:
            stored.append(message.time)
    return min(stored, default=None)
