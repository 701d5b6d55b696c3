"""What wraps every subscriber from outside: envelope, heartbeat, acknowledgement, retry, dead letter, metrics."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final
from uuid import UUID

from faststream import BaseMiddleware
from faststream._internal.context.repository import ContextRepo
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from app.contracts import Envelope
from app.errors import VigilError
from app.identity import now
from app.messaging import envelope as envelopes
from app.messaging import policy
from app.messaging.dead_letters import DeadLetters, Letter
from app.telemetry import correlation, metrics, tracing
from app.telemetry.correlation import Correlation, trace_id_of
from app.telemetry.counting import ConsumerMetrics, of_consumer
from app.telemetry.tracing import AttributeValue, Span
from app.topology import ConsumerSpec

logger: Final = logging.getLogger("vigil.delivery")

OUTCOMES: Final = {policy.Ack: "ack", policy.Retry: "retry", policy.DeadLetter: "dead_letter"}
"""How the end of a delivery is called in metrics and spans."""


@dataclass(slots=True)
class Delivery:
    """One message, or one fetched batch, on its way through a subscriber."""

    consumer: ConsumerSpec
    messages: list[Msg]
    envelope: Envelope
    metrics: ConsumerMetrics
    correlation: Correlation
    spans: dict[int, Span] = field(default_factory=dict)
    """By `id` of the message; only those of recorded traces."""
    rejected: list[tuple[Msg, VigilError]] = field(default_factory=list)
    """Messages of a batch that cannot be read; they are dead-lettered alone and never hold up the others."""

    def identify(self, request_id: UUID) -> None:
        """Take the request id that the body gives, which counts more than the header's."""
        self.envelope = self.envelope.model_copy(update={"request_id": request_id})
        self.correlation.request_id = request_id

    def note(self, **attributes: AttributeValue) -> None:
        """Add attributes to the spans of this delivery; never a text."""
        for span in self.spans.values():
            for name, value in attributes.items():
                span.note(f"vigil.{name}", value)

    @property
    def deliveries(self) -> int:
        return deliveries_of(self.messages[0])

    @property
    def readable(self) -> list[Msg]:
        """The messages that have not been rejected, in order."""
        rejected = {id(message) for message, _ in self.rejected}
        return [message for message in self.messages if id(message) not in rejected]

    @property
    def sequence(self) -> int:
        """Stream sequence of the first message; 0 for one that did not come from JetStream."""
        return Letter.of_delivery(self.messages[0], self.consumer.stream).sequence

    def envelope_of(self, message: Msg) -> Envelope:
        """Return the delivery's envelope, to which a decoder gives the body's request id, or a batch member's own."""
        return self.envelope if message is self.messages[0] else _envelope(message)


def _fields(delivery: Delivery, message: Msg) -> dict[str, object]:
    return {
        "consumer": delivery.consumer.durable,
        "deliveries": deliveries_of(message),
        "request_id": (envelope := delivery.envelope_of(message)).request_id,
        "trace_id": trace_id_of(envelope.traceparent),
    }


_current: ContextVar[Delivery] = ContextVar("vigil_delivery")


def current() -> Delivery:
    """Return the delivery that the running subscriber works on."""
    return _current.get()


def deliveries_of(message: Msg) -> int:
    """Return how often a message was delivered; 1 for one that did not come from JetStream (TestBroker)."""
    return message.metadata.num_delivered if message.reply.startswith("$JS.ACK.") else 1


def queued_s_of(message: Msg) -> float | None:
    """Return how long a message lay in its stream before its first delivery, in seconds.

    None for a redelivery, whose wait was meant, and for a message that did not come from JetStream. The server's clock
    may be ahead of ours: never below 0.
    """
    if not message.reply.startswith("$JS.ACK.") or message.metadata.num_delivered > 1:
        return None
    return max(0.0, time.time() - message.metadata.timestamp.timestamp())


@dataclass(frozen=True, slots=True)
class DeliveryPolicy:
    """Makes the middleware of each delivery; one object for all subscribers."""

    consumers: dict[str, ConsumerSpec]
    """By subject family, as `vigil.pii`; subscribers of other subjects are left alone."""
    retry_delays_s: Sequence[float]
    dead_letters: DeadLetters

    def __call__(self, message: Any, /, *, context: ContextRepo) -> _DeliveryMiddleware:
        return _DeliveryMiddleware(message, context=context, policy=self)

    def consumer_of(self, subject: str) -> ConsumerSpec | None:
        """Return whose message this is; filters of a work queue never overlap, so the subject's family tells."""
        return self.consumers.get(".".join(subject.split(".", 2)[:2]))


class _DeliveryMiddleware(BaseMiddleware[Any, Any]):
    def __init__(self, message: Any, /, *, context: ContextRepo, policy: DeliveryPolicy) -> None:
        super().__init__(message, context=context)
        self.policy = policy
        self.delivery: Delivery | None = None

    async def on_receive(self) -> None:
        messages: list[Msg] = self.msg if isinstance(self.msg, list) else [self.msg]
        consumer = self.policy.consumer_of(messages[0].subject)
        if consumer is None:
            return
        counted = of_consumer(consumer.durable)
        envelope = _envelope(messages[0])
        work = Correlation(envelope.request_id, envelope.traceparent) if len(messages) == 1 else Correlation()
        self.delivery = delivery = Delivery(consumer, messages, envelope, counted, work)
        if tracing.is_on():
            _start_spans(delivery)
        self.work_token = correlation.begin(work)
        counted.in_work.add(len(messages))
        queued_s = queued_s_of(messages[0])
        if queued_s is not None:
            counted.queue_seconds.observe(queued_s)
        self.token = _current.set(delivery)
        self.started = time.perf_counter()
        self._schedule_beat(delivery)

    async def after_processed(
        self,
        exc_type: type[BaseException] | None = None,
        exc_val: BaseException | None = None,
        exc_tb: TracebackType | None = None,
    ) -> bool | None:
        if self.delivery is None:
            return False
        delivery = self.delivery
        _current.reset(self.token)
        try:
            if isinstance(exc_val, asyncio.CancelledError):
                delivery.metrics.cancelled.inc(len(delivery.messages))
                return False
            for message, error in delivery.rejected:
                await self._settle(delivery, message, error)
            for message in delivery.readable:
                await self._settle(delivery, message, exc_val)
            return True
        finally:
            self.heartbeat.cancel()
            correlation.end(self.work_token)
            for span in delivery.spans.values():
                span.end()
            delivery.metrics.in_work.add(-len(delivery.messages))
            delivery.metrics.work_seconds.observe(time.perf_counter() - self.started)

    async def _settle(self, delivery: Delivery, message: Msg, failure: BaseException | None) -> None:
        consumer = delivery.consumer
        deliveries = deliveries_of(message)
        outcome = policy.decide(
            failure, deliveries=deliveries, consumer=consumer, retry_delays_s=self.policy.retry_delays_s
        )
        if delivery.spans and (span := delivery.spans.get(id(message))) is not None:
            span.note("vigil.outcome", OUTCOMES[type(outcome)])
            span.note("vigil.deliveries", deliveries)
            if failure is not None:
                span.fail(type(failure).__name__)
        match outcome:
            case policy.Ack():
                delivery.metrics.acknowledged.inc()
                await message.ack()
            case policy.Retry(delay_s):
                delivery.metrics.retried.inc()
                logger.warning(
                    "delivery failed, again in %g s: %s",
                    delay_s,
                    policy.public_message(failure) if failure else "",
                    extra=_fields(delivery, message),
                )
                await message.nak(delay=delay_s)
            case policy.DeadLetter() as dead:
                delivery.metrics.dead_lettered.inc()
                envelope = delivery.envelope_of(message)
                await self.policy.dead_letters.bury(
                    Letter.of_delivery(message, consumer.stream),
                    envelope,
                    consumer.durable,
                    dead,
                    deliveries=deliveries,
                    still_busy=message.in_progress,
                )
                await message.ack()
                await self.policy.dead_letters.tell_caller(envelope, failure)

    def _beat(self, delivery: Delivery) -> None:
        """Tell the server that the work goes on, so that a slow message is not redelivered while in work."""
        metrics.HEARTBEATS.labels(delivery.consumer.durable).inc()
        self.beats = [asyncio.ensure_future(_in_progress(message)) for message in delivery.messages]
        self._schedule_beat(delivery)

    def _schedule_beat(self, delivery: Delivery) -> None:
        interval_s = delivery.consumer.ack_wait.total_seconds() / 2
        self.heartbeat = asyncio.get_running_loop().call_later(interval_s, self._beat, delivery)


async def _in_progress(message: Msg) -> None:
    try:
        await message.in_progress()
    except NatsError as error:
        logger.warning("heartbeat not sent: %s", type(error).__name__)


def _start_spans(delivery: Delivery) -> None:
    """Start a span for each message; what a stage publishes continues from its own.

    A batch has one for each of its messages, all as long as the batch: each belongs to a trace of its own.
    """
    consumer, several = delivery.consumer, len(delivery.messages) > 1
    for message in delivery.messages:
        envelope = delivery.envelope_of(message)
        span = tracing.start(consumer.durable, tracing.Kind.CONSUMER, envelope.traceparent)
        if span is None:
            continue
        span.note("messaging.system", "nats")
        span.note("messaging.consumer.group.name", consumer.durable)
        if several:
            span.note("messaging.batch.message_count", len(delivery.messages))
        else:
            delivery.envelope = envelope.model_copy(update={"traceparent": span.traceparent})
            delivery.correlation.traceparent, delivery.correlation.span = span.traceparent, span
        delivery.spans[id(message)] = span


def _envelope(message: Msg) -> Envelope:
    headers = message.headers or {}
    if not message.reply.startswith("$JS.ACK."):  # TestBroker hands over messages that no stream has stored.
        return envelopes.from_headers(headers, stream="", sequence=0, stored_at=now())
    stored = message.metadata
    return envelopes.from_headers(
        headers, stream=stored.stream, sequence=stored.sequence.stream, stored_at=stored.timestamp
    )
