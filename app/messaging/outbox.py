"""How a stage hands its result on: one subject per message type, one message id per request and stage."""

from __future__ import annotations

from typing import Any, Final

from faststream.nats import JStream, NatsBroker, PubAck
from nats.js.errors import APIError

from app.contracts import DecideJob, DecisionRecord, Envelope, Message, ScanJob
from app.errors import PayloadTooLarge
from app.messaging import envelope as envelopes
from app.telemetry import metrics
from app.topology import DETECTION_STREAM, Subject

SUBJECTS: Final[dict[type[Message], Subject]] = {
    ScanJob: Subject.PII_SCAN,
    DecideJob: Subject.ARBITER_DECIDE,
    DecisionRecord: Subject.LOGS_EVENT,
}
TOO_LARGE: Final = 10054
"""JetStream's error code for `message size exceeds maximum allowed` (nats-server errors.json)."""


class Outbox:
    """Publishes stage results through FastStream publishers, which also document them in AsyncAPI."""

    def __init__(self, broker: NatsBroker, stream: JStream, publish_timeout_s: float) -> None:
        self._publish_timeout_s = publish_timeout_s
        self._publishers: dict[type[Message], Any] = {
            message_type: broker.publisher(
                subject, stream=stream, schema=message_type, title=subject, description=_first_line(message_type)
            )
            for message_type, subject in SUBJECTS.items()
        }

    async def forward(self, message: ScanJob | DecideJob | DecisionRecord, envelope: Envelope) -> bool:
        """Publish to the next stage and wait for JetStream's acknowledgement.

        Returns:
            False when JetStream had this request and stage before (a redelivery, or a repeated request id).

        Raises:
            PayloadTooLarge: the message does not fit the stream.
        """
        subject = SUBJECTS[type(message)]
        try:
            ack: PubAck | None = await self._publishers[type(message)].publish(
                message.model_dump_json().encode(),
                headers=envelopes.to_headers(envelope, envelopes.message_id(envelope, subject)),
                correlation_id=str(envelope.request_id),
                stream=DETECTION_STREAM.name,
                timeout=self._publish_timeout_s,
            )
        except APIError as error:
            if error.err_code == TOO_LARGE:
                raise PayloadTooLarge from None
            raise
        fresh = ack is None or not ack.duplicate  # TestBroker acknowledges nothing.
        if not fresh:
            metrics.DUPLICATES.labels(subject).inc()
        return fresh


def _first_line(message_type: type[Message]) -> str:
    return (message_type.__doc__ or "").strip().partition("\n")[0]
