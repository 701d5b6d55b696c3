"""Where messages go that cannot be worked on: the dead-letter queue, acknowledged before the original is."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Self

from faststream.nats import NatsBroker
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import RawStreamMsg
from pydantic import ValidationError

from app.contracts import Envelope, Verdict
from app.errors import MessagingUnavailable, VigilError
from app.identity import now
from app.messaging.decisions import DecisionStore, FailedAttempt
from app.messaging.policy import DeadLetter
from app.messaging.replies import send_problem
from app.problems import to_problem
from app.telemetry import metrics
from app.topology import ARBITER_WORKER, DETECTION_WORKER, DLQ_STREAM, PII_WORKER, Header, dlq_subject

logger: Final = logging.getLogger("vigil.dead_letters")

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
UNDECIDED: Final = frozenset(spec.durable for spec in (DETECTION_WORKER, PII_WORKER, ARBITER_WORKER))
"""Whose dead letters may be requests without a decision."""
RETRY_S: Final = 1.0
"""Pause between tries to publish a dead letter; in-progress signals keep the original from being redelivered."""
NOT_COPIED: Final = ("nats-", Header.REPLY_TO.value)
"""Headers, in lower case, that would change what the server does with the copy (refuse it as out of place, drop others,
send traces of it somewhere), or make its reader answer a caller who was told."""
HEADER_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,256}", re.ASCII)
"""Names the client publishes; of a stranger's others it could store none, however often it tried."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A message of the work queue as it is buried."""

    payload: bytes
    headers: Mapping[str, str]
    subject: str
    stream: str
    sequence: int
    stored_us: int
    """When the stream stored it, in microseconds since 1970: a stream that was made anew counts from 1 again."""

    @classmethod
    def of_delivery(cls, message: Msg, stream: str) -> Self:
        sequence, stored_us = 0, 0
        if message.reply.startswith("$JS.ACK."):
            sequence = message.metadata.sequence.stream
            # Not metadata.timestamp: it went through a float and can be a microsecond off.
            tokens = message.reply.split(".")
            stored_us = int(tokens[7 if len(tokens) == 9 else Msg.Ack.Timestamp]) // 1000
        return cls(message.data, message.headers or {}, message.subject, stream, sequence, stored_us)

    @classmethod
    def of_stored(cls, message: RawStreamMsg, stream: str) -> Self:
        stored_us = (message.time - EPOCH) // timedelta(microseconds=1) if message.time else 0
        return cls(
            message.data or b"", message.headers or {}, message.subject or "", stream, message.seq or 0, stored_us
        )


class DeadLetters:
    def __init__(self, broker: NatsBroker, decisions: DecisionStore, publish_timeout_s: float) -> None:
        self._broker = broker
        self._decisions = decisions
        self._publish_timeout_s = publish_timeout_s

    async def bury(
        self,
        letter: Letter,
        envelope: Envelope,
        durable: str,
        dead: DeadLetter,
        *,
        deliveries: int,
        still_busy: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Publish the payload unchanged to `vigil.dlq.<durable>`; return only once JetStream has stored it.

        The message id is the original's stream, sequence and time, so that burying twice leaves one entry. While the
        server does not take it, `still_busy` is awaited between tries.
        """
        headers = {
            name: value
            for name, value in letter.headers.items()
            if HEADER_NAME.fullmatch(name) and not name.lower().startswith(NOT_COPIED)
        } | {
            str(Header.MESSAGE_ID): f"dead:{letter.stream}:{letter.sequence}:{letter.stored_us}",
            # In place of a stranger's that are none: a replay and an order to forget go by them, and the copy has
            # another place and a later time.
            str(Header.CORRELATION_ID): str(envelope.request_id),
            str(Header.RECEIVED_AT): envelope.received_at.isoformat(),
            str(Header.DEAD_ERROR_TYPE): dead.error_type,
            str(Header.DEAD_ERROR_MESSAGE): _one_line(dead.error_message),
            str(Header.DEAD_SUBJECT): letter.subject,
            str(Header.DEAD_STREAM): letter.stream,
            str(Header.DEAD_SEQUENCE): str(letter.sequence),
            str(Header.DEAD_DELIVERIES): str(deliveries),
            str(Header.DEAD_AT): now().isoformat(),
        }
        metrics.DEAD_LETTERS.labels(durable, dead.error_type).inc()
        logger.error(
            "moved to the dead-letter queue: %s",
            dead.error_message,
            extra={"consumer": durable, "deliveries": deliveries, "request_id": envelope.request_id},
        )
        while True:
            try:
                await self._broker.publish(
                    letter.payload,
                    dlq_subject(durable),
                    headers=headers,
                    stream=DLQ_STREAM.name,
                    timeout=self._publish_timeout_s,
                )
            except (NatsError, TimeoutError) as error:
                logger.error("dead letter not stored, again in %g s: %s", RETRY_S, type(error).__name__)
                await asyncio.sleep(RETRY_S)
                if still_busy is not None:
                    await still_busy()
            else:
                break
        if durable in UNDECIDED:
            await self._note(envelope)

    async def _note(self, envelope: Envelope) -> None:
        """Let a request without a decision be sent again under its id, whichever replica it comes to."""
        try:
            kept = await self._decisions.find(envelope.request_id)
            if kept is None or kept.answer.decision is Verdict.EXPIRED:
                await self._decisions.note_failure(FailedAttempt.of(envelope))
        except (NatsError, TimeoutError, MessagingUnavailable, ValidationError) as error:
            logger.warning(
                "a request that comes again under this id within two minutes is not judged: %s",
                type(error).__name__,
                extra={"request_id": envelope.request_id},
            )

    async def tell_caller(self, envelope: Envelope, failure: BaseException | None) -> None:
        """Answer the waiting caller with a problem, so that nobody waits for a decision that will not come."""
        if envelope.reply_to is None:
            return
        error = failure if isinstance(failure, VigilError) else VigilError()
        await send_problem(self._broker, envelope.reply_to, to_problem(error, request_id=envelope.request_id))


def _one_line(message: str) -> str:
    return " ".join(message.split())[:500]
