"""How far behind the consumers are: asked from the server, shown as metrics; what is missing is brought back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from app.telemetry import metrics
from app.topology import BUCKETS, CONSUMERS, STREAMS

logger: Final = logging.getLogger("vigil.lag")

INTERVAL_S: Final = 2.0


async def watch(jetstream: JetStreamContext, on_missing: Callable[[], Awaitable[None]]) -> None:
    """Update the lag gauges until cancelled; have what is missing brought back."""
    while True:
        try:
            await observe(jetstream)
        except NotFoundError:
            logger.error("a stream, consumer or bucket is missing and is made anew")
            await on_missing()
        except (NatsError, TimeoutError) as error:
            logger.warning("lag not read: %s", type(error).__name__)
        await asyncio.sleep(INTERVAL_S)


async def observe(jetstream: JetStreamContext) -> None:
    """Read the state of every stream and consumer.

    Raises:
        nats.js.errors.NotFoundError: one of them, or a bucket, does not exist.
    """
    for stream in STREAMS:
        metrics.STREAM_MESSAGES.labels(stream.name).set((await jetstream.stream_info(stream.name)).state.messages)
    for consumer in CONSUMERS:
        info = await jetstream.consumer_info(consumer.stream, consumer.durable)
        metrics.CONSUMER_PENDING.labels(consumer.durable).set(info.num_pending or 0)
        metrics.CONSUMER_ACK_PENDING.labels(consumer.durable).set(info.num_ack_pending or 0)
        metrics.CONSUMER_REDELIVERED.labels(consumer.durable).set(info.num_redelivered or 0)
    for bucket in BUCKETS:
        await jetstream.stream_info(f"KV_{bucket.name}")
