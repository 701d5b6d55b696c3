"""Where messages go that cannot be worked on: the dead-letter queue, acknowledged before the original is."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from faststream.nats import NatsBroker
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from app.contracts import Envelope
from app.errors import VigilError
from app.identity import now
from app.messaging.policy import DeadLetter
from app.messaging.replies import send_problem
from app.problems import to_problem
from app.topology import DLQ_STREAM, ConsumerSpec, Header, dlq_subject

logger: Final = logging.getLogger("vigil.dead_letters")

RETRY_S: Final = 1.0
"""Pause between tries to publish a dead letter; in-progress signals keep the original from being redelivered."""
NOT_COPIED: Final = ("Nats-Expected-", "Nats-Msg-Id", "Nats-TTL", "Nats-Rollup", "Nats-Schedule", Header.REPLY_TO.value)
"""Headers that would change what JetStream does with the copy, or make its reader answer a caller who was told."""


class DeadLetters:
    def __init__(self, broker: NatsBroker, publish_timeout_s: float) -> None:
        self._broker = broker
        self._publish_timeout_s = publish_timeout_s

    async def bury(
        self, message: Msg, envelope: Envelope, consumer: ConsumerSpec, dead: DeadLetter, deliveries: int
    ) -> None:
        """Publish the payload unchanged to `vigil.dlq.<durable>`; return only once JetStream has stored it.

        The message id is the original's stream and sequence, so that burying twice leaves one entry.
        """
        original = message.headers or {}
        sequence = message.metadata.sequence.stream if message.reply.startswith("$JS.ACK.") else 0
        headers = {name: value for name, value in original.items() if not name.startswith(NOT_COPIED)} | {
            str(Header.MESSAGE_ID): f"dead:{consumer.stream}:{sequence}",
            str(Header.DEAD_ERROR_TYPE): dead.error_type,
            str(Header.DEAD_ERROR_MESSAGE): _one_line(dead.error_message),
            str(Header.DEAD_SUBJECT): message.subject,
            str(Header.DEAD_STREAM): consumer.stream,
            str(Header.DEAD_SEQUENCE): str(sequence),
            str(Header.DEAD_DELIVERIES): str(deliveries),
            str(Header.DEAD_AT): now().isoformat(),
        }
        while True:
            try:
                await self._broker.publish(
                    message.data,
                    dlq_subject(consumer.durable),
                    headers=headers,
                    correlation_id=str(envelope.request_id),
                    stream=DLQ_STREAM.name,
                    timeout=self._publish_timeout_s,
                )
            except (NatsError, TimeoutError) as error:
                logger.error("dead letter not stored, again in %g s: %s", RETRY_S, type(error).__name__)
                await asyncio.sleep(RETRY_S)
                await message.in_progress()
            else:
                return

    async def tell_caller(self, envelope: Envelope, failure: BaseException | None) -> None:
        """Answer the waiting caller with a problem, so that nobody waits for a decision that will not come."""
        if envelope.reply_to is None:
            return
        error = failure if isinstance(failure, VigilError) else VigilError()
        await send_problem(self._broker, envelope.reply_to, to_problem(error, request_id=envelope.request_id))


def _one_line(message: str) -> str:
    return " ".join(message.split())[:500]
