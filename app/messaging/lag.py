"""How far behind the consumers are: asked from the server every few seconds and shown as metrics."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from app.telemetry import metrics
from app.topology import CONSUMERS, STREAMS

logger: Final = logging.getLogger("vigil.lag")

INTERVAL_S: Final = 5.0


async def watch(jetstream: JetStreamContext) -> None:
    """Update the lag gauges until cancelled."""
    while True:
        try:
            await observe(jetstream)
        except (NatsError, TimeoutError) as error:
            logger.warning("lag not read: %s", type(error).__name__)
        await asyncio.sleep(INTERVAL_S)


async def observe(jetstream: JetStreamContext) -> None:
    for consumer in CONSUMERS:
        info = await jetstream.consumer_info(consumer.stream, consumer.durable)
        metrics.CONSUMER_PENDING.labels(consumer.durable).set(info.num_pending or 0)
        metrics.CONSUMER_ACK_PENDING.labels(consumer.durable).set(info.num_ack_pending or 0)
        metrics.CONSUMER_REDELIVERED.labels(consumer.durable).set(info.num_redelivered or 0)
    for stream in STREAMS:
        metrics.STREAM_MESSAGES.labels(stream.name).set((await jetstream.stream_info(stream.name)).state.messages)
