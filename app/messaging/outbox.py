"""How a stage hands its result on: one subject per message type, one message id per request and stage."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from faststream.nats import JStream, NatsBroker
from nats.js.api import PubAck
from nats.js.errors import APIError

from app.contracts import DecideJob, DecisionRecord, Envelope, GuardAnswer, Message, ScanJob
from app.log_contracts import FeedbackRecord, LogEntry, TextRecord
from app.messaging import envelope as envelopes
from app.messaging.jetstream import JetStream, is_full, refusing_too_large
from app.messaging.replies import ANSWER_HEADERS, send_answer
from app.telemetry import metrics
from app.topology import DETECTION_STREAM, Subject

logger: Final = logging.getLogger("vigil.outbox")

FULL_PAUSE_S: Final = 1.0
"""Pause between tries to publish to a full stream."""
SUBJECTS: Final[dict[type[Message], Subject]] = {
    ScanJob: Subject.PII_SCAN,
    DecideJob: Subject.ARBITER_DECIDE,
    DecisionRecord: Subject.LOGS_EVENT,
    TextRecord: Subject.LOGS_TEXT,
    FeedbackRecord: Subject.LOGS_FEEDBACK,
}


class Outbox:
    """Publishes stage results: to JetStream itself on a server, and in memory through the FastStream publishers, which
    document them in AsyncAPI."""

    def __init__(self, broker: NatsBroker, stream: JStream, publish_timeout_s: float) -> None:
        self._broker = broker
        self._publish_timeout_s = publish_timeout_s
        self.jetstream: JetStream | None = None
        """Set once the server is reached. FastStream's way to the same publish costs as much CPU time again."""
        self._publishers: dict[type[Message], Any] = {
            message_type: broker.publisher(
                subject, stream=stream, schema=message_type, title=subject, description=_first_line(message_type)
            )
            for message_type, subject in SUBJECTS.items()
        }

    async def forward(self, message: ScanJob | DecideJob | LogEntry, envelope: Envelope) -> bool:
        """Publish to the next stage and wait for JetStream's acknowledgement.

        Returns:
            False when JetStream had this request and stage before (a redelivery, or a repeated request id).

        While the stream is full this waits, and the message in work with it: after its deliveries it would be a dead
        letter for want of room.

        Raises:
            PayloadTooLarge: the message does not fit the stream.
        """
        subject = SUBJECTS[type(message)]
        with refusing_too_large():
            ack = await self._publish_with_room(message, subject, envelope)
        fresh = ack is None or not ack.duplicate  # TestBroker acknowledges nothing.
        if not fresh:
            metrics.DUPLICATES.labels(subject).inc()
        return fresh

    async def answer(self, inbox: str, answer: GuardAnswer) -> None:
        """Send a decision to who waits for it."""
        if self.jetstream is None:
            await send_answer(self._broker, inbox, answer)
        else:
            await self.jetstream.send(inbox, answer.model_dump_json().encode(), ANSWER_HEADERS)

    async def _publish_with_room(self, message: Message, subject: Subject, envelope: Envelope) -> PubAck | None:
        told = False
        while True:
            try:
                return await self._publish(message, subject, envelope)
            except APIError as error:
                if not is_full(error):
                    raise
            if not told:
                told = True
                logger.warning("the work queue is full: what goes to %s waits for room", subject)
            await asyncio.sleep(FULL_PAUSE_S)

    async def _publish(self, message: Message, subject: Subject, envelope: Envelope) -> PubAck | None:
        payload = message.model_dump_json().encode()
        headers = envelopes.to_headers(envelope, envelopes.message_id(envelope, subject))
        if self.jetstream is not None:
            return await self.jetstream.publish(
                subject, payload, headers=headers, stream=DETECTION_STREAM.name, timeout=self._publish_timeout_s
            )
        ack: PubAck | None = await self._publishers[type(message)].publish(
            payload,
            headers=headers,
            correlation_id=str(envelope.request_id),
            stream=DETECTION_STREAM.name,
            timeout=self._publish_timeout_s,
        )
        return ack


def _first_line(message_type: type[Message]) -> str:
    return (message_type.__doc__ or "").strip().partition("\n")[0]
