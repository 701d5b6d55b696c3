"""The four subscribers of the pipeline: each gives a typed message to its worker and hands the result on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from faststream import AckPolicy
from faststream.nats import JStream, NatsBroker, NatsMessage, PullSub
from faststream.nats.message import NatsBatchMessage

from app.contracts import (
    DecideJob,
    DecisionRecord,
    Envelope,
    GuardedText,
    GuardRequest,
    Message,
    RestoreAnswer,
    RestoreRequest,
    ScanJob,
    Source,
)
from app.errors import (
    DecisionTimeout,
    InvalidRequest,
    RowsRefused,
    VigilError,
)
from app.identity import now
from app.log_contracts import FeedbackRecord, LogEntry, TextRecord, time_ahead
from app.messaging.decisions import DecisionStore, check_repeat, wait_for
from app.messaging.declarations import consumer_config
from app.messaging.delivery import Delivery, current
from app.messaging.outbox import Outbox
from app.messaging.replies import send_answer, send_problem
from app.messaging.streaming import OpenStream
from app.problems import to_problem
from app.settings import ConsumerSettings, Settings
from app.telemetry import counting, metrics
from app.topology import (
    ADVISORY_WORKER,
    ARBITER_WORKER,
    DETECTION_WORKER,
    LOGGING_WORKER,
    OWN_INBOX,
    PII_WORKER,
    ConsumerSpec,
    Subject,
)
from app.validation import parse, parse_job

logger: Final = logging.getLogger("vigil.subscribers")

FETCH_WAIT_S: Final = 1.0
"""How long one pull waits at the server for messages; they are delivered as they come, so this is no latency."""
ADVISORIES_AT_ONCE: Final = 16
LATEST_S: Final = 60.0
"""Longest wait for the decision of a repeated request, as long as a request may ask for: a publisher may name any
deadline in a header."""
LATECOMERS: Final = 1_000
"""Most of them that wait at a time; others can read the decision by its request id."""
GUARD_FAMILY: Final = "vigil.guard."
ENTRIES: Final[dict[str, type[LogEntry]]] = {
    Subject.LOGS_EVENT: DecisionRecord,
    Subject.LOGS_TEXT: TextRecord,
    Subject.LOGS_FEEDBACK: FeedbackRecord,
}
"""What is written to the event log, by subject."""
SOURCES: Final = frozenset(source.value for source in Source)


Decorator = Callable[[Callable[..., Awaitable[None]]], object]


@dataclass(frozen=True, slots=True)
class Workers:
    """The business of each stage and of restoring: typed message in, typed message out, no broker in sight."""

    detect: Callable[[GuardRequest, Envelope], Awaitable[ScanJob | DecideJob]]
    scan: Callable[[ScanJob, Envelope], Awaitable[DecideJob]]
    arbitrate: Callable[[DecideJob, Envelope], Awaitable[DecisionRecord]]
    expire: Callable[[GuardRequest | ScanJob, Envelope], DecisionRecord]
    record: Callable[[list[LogEntry]], Awaitable[None]]
    restore: Callable[[RestoreRequest, str], Awaitable[RestoreAnswer]]
    """Puts the values of a tenant's map back."""
    open_map: Callable[[str, str], Awaitable[object]] | None = None
    """Opens a restore map of a tenant, or raises RestoreMapRefused; None where the process has no key of maps."""
    stream: OpenStream | None = None
    """Opens an answer that is judged as it comes; None where the process judges none."""
    keep_text: Callable[[GuardRequest, ScanJob | DecideJob, Envelope], TextRecord | None] | None = None
    """What is stored of the text itself, where full texts are."""


def register(
    broker: NatsBroker,
    stream: JStream,
    outbox: Outbox,
    decisions: DecisionStore,
    workers: Workers,
    settings: Settings,
    *,
    advisories: JStream,
    on_advisory: Callable[[bytes], Awaitable[None]],
    forgotten: Callable[[Envelope, str], bool] = lambda envelope, digest: False,
) -> Any:
    """Put the subscribers of the whole pipeline on one broker.

    Args:
        on_advisory: moves a message that used up its deliveries to the dead-letter queue.
        forgotten: whether nothing is to be kept of the request with this envelope and text digest.

    Returns:
        The logging subscriber, which starts only in a process that can write the event log.
    """
    stages = _Stages(
        outbox,
        decisions,
        workers,
        Latecomers(broker, decisions, settings.http.timeout_s),
        forgotten,
        timedelta(seconds=settings.workers.expiry_grace_s),
    )

    def subscriber(spec: ConsumerSpec, message_type: type[Message], load: ConsumerSettings) -> Decorator:
        decorator: Decorator = broker.subscriber(
            **_consumer(spec, stream),
            pull_sub=PullSub(batch_size=load.fetch, timeout=FETCH_WAIT_S),
            max_workers=load.concurrency,
            decoder=_decoder(message_type, settings.http.text_limit),
        )
        return decorator

    subscriber(DETECTION_WORKER, GuardRequest, settings.workers.detection)(stages.detection)
    subscriber(PII_WORKER, ScanJob, settings.workers.pii)(stages.pii)
    subscriber(ARBITER_WORKER, DecideJob, settings.workers.arbiter)(stages.arbiter)
    broker.subscriber(
        **_consumer(ADVISORY_WORKER, advisories),
        pull_sub=PullSub(batch_size=ADVISORIES_AT_ONCE, timeout=FETCH_WAIT_S),
        decoder=_decode_raw,
        include_in_schema=False,
    )(on_advisory)
    logging_subscriber = broker.subscriber(
        **_consumer(LOGGING_WORKER, stream),
        pull_sub=PullSub(batch_size=settings.event_log.batch_size, timeout=settings.event_log.batch_wait_s, batch=True),
        decoder=_decode_records,
    )
    logging_subscriber(stages.event_log)
    return logging_subscriber


@dataclass(frozen=True, slots=True)
class _Stages:
    """What the subscribers do with a message: have a worker do its business, and hand the result on.

    The AsyncAPI document describes each by its method's docstring.
    """

    outbox: Outbox
    decisions: DecisionStore
    workers: Workers
    latecomers: Latecomers
    forgotten: Callable[[Envelope, str], bool]
    """As in `register`."""
    grace: timedelta
    """How long past its deadline a request is still worked on."""

    async def detection(self, request: GuardRequest) -> None:
        """Judge a text by heuristics, semantic similarity and the classifier."""
        delivery = current()
        if self._is_late(delivery.envelope):
            await self._expire(request, delivery)
            return
        result = await self.workers.detect(request, delivery.envelope)
        if self.workers.keep_text is not None:
            text = self.workers.keep_text(request, result, delivery.envelope)
            if text is not None:
                await self.outbox.forward(text, delivery.envelope)
        fresh = await self.outbox.forward(result, delivery.envelope)
        if not fresh and delivery.deliveries == 1 and not await self._goes_on_anew(result, delivery.envelope):
            self.latecomers.answer_later(delivery.envelope, result.subject)

    async def _goes_on_anew(self, result: ScanJob | DecideJob, envelope: Envelope) -> bool:
        """Forward once more under the name of the next attempt, where what JetStream takes this one for became a dead
        letter: nobody else would decide the request. Returns whether that is under way by this."""
        attempt = await self.decisions.attempt_after_failure(envelope.request_id)
        if attempt in {"", envelope.attempt}:
            return False
        return await self.outbox.forward(result, envelope.model_copy(update={"attempt": attempt}))

    async def pii(self, job: ScanJob) -> None:
        """Find personal data and redact it."""
        delivery = current()
        if self._is_late(delivery.envelope):
            await self._expire(job, delivery)
            return
        delivery.note(mode=job.subject.mode, source=job.subject.source)
        await self.outbox.forward(await self.workers.scan(job, delivery.envelope), delivery.envelope)

    async def arbiter(self, job: DecideJob) -> None:
        """Decide, answer the caller and record the decision."""
        delivery = current()
        envelope = delivery.envelope
        if self.forgotten(envelope, job.subject.digest):
            return
        decided = await self.workers.arbitrate(job, envelope)
        record = await self.decisions.keep_first(decided)
        check_repeat(record, tenant=decided.tenant, digest=decided.text_digest, dry_run=decided.answer.dry_run)
        if record is decided:
            counting.count_decision(record.answer, record.shadow)
        answer = record.answer
        delivery.note(
            mode=answer.mode, source=answer.source, decision=answer.decision, score=answer.score, policy=answer.policy
        )
        if envelope.reply_to is not None:
            await self.outbox.answer(envelope.reply_to, record.answer)
        await self.outbox.forward(record.as_logged(), envelope)

    async def event_log(self, records: list[LogEntry]) -> None:
        """Write decisions into the event log in batches: by size or time, whichever comes first."""
        if not records:
            return
        delivery = current()
        readable = delivery.readable
        try:
            await self.workers.record(records)
        except RowsRefused as error:
            delivery.rejected += [(readable[position], error) for position in error.positions]

    def _is_late(self, envelope: Envelope) -> bool:
        return envelope.deadline is not None and now() - envelope.deadline > self.grace

    async def _expire(self, job: GuardRequest | ScanJob, delivery: Delivery) -> None:
        """Record a request whose caller has gone, and do none of its work."""
        metrics.EXPIRED.labels(delivery.consumer.durable).inc()
        record = await self.decisions.keep_first(self.workers.expire(job, delivery.envelope))
        attempt = f"expired-{delivery.sequence}"
        # What is kept may be the decision of an earlier attempt, with values that the caller alone was to get.
        await self.outbox.forward(record.as_logged(), delivery.envelope.model_copy(update={"attempt": attempt}))


class Latecomers:
    """Callers whose message repeats a request that is already under way: they get its decision when it is made."""

    def __init__(self, broker: NatsBroker, decisions: DecisionStore, timeout_s: float) -> None:
        self._broker = broker
        self._decisions = decisions
        self._timeout_s = timeout_s
        self._tasks: set[asyncio.Task[None]] = set()

    def answer_later(self, envelope: Envelope, subject: GuardedText) -> None:
        if envelope.reply_to is None or len(self._tasks) >= LATECOMERS:
            return
        task = asyncio.create_task(self._answer(envelope, envelope.reply_to, subject))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, envelope: Envelope, inbox: str, subject: GuardedText) -> None:
        left_s = (envelope.deadline - now()).total_seconds() if envelope.deadline else self._timeout_s
        try:
            record = await wait_for(self._decisions, envelope.request_id, min(max(left_s, 0.0), LATEST_S))
            check_repeat(record, tenant=envelope.tenant, digest=subject.digest, dry_run=subject.dry_run)
            await send_answer(self._broker, inbox, record.answer)
        except VigilError as error:
            if not isinstance(error, DecisionTimeout):
                await send_problem(self._broker, inbox, to_problem(error, request_id=envelope.request_id))
        except Exception:
            logger.exception("a repeated request was not answered", extra={"request_id": envelope.request_id})


def _consumer(spec: ConsumerSpec, stream: JStream) -> dict[str, Any]:
    # One filter is the subscriber's subject; several travel in the consumer configuration alone.
    several = len(spec.filter_subjects) > 1
    return {
        "subject": "" if several else spec.filter_subjects[0],
        "config": consumer_config(spec),
        "durable": spec.durable,
        "stream": stream,
        "ack_policy": AckPolicy.MANUAL,  # The delivery middleware acknowledges.
        "no_reply": True,
        "inbox_prefix": f"{OWN_INBOX}.".encode(),
        "title": spec.durable,
    }


def _decoder(message_type: type[Message], text_limit: int) -> Any:
    if message_type is GuardRequest:

        async def decode_request(message: NatsMessage) -> Message:
            request = _with_source(
                parse(GuardRequest, message.body, text_limit=text_limit), message.raw_message.subject
            )
            delivery = current()
            delivery.note(mode=request.mode, source=request.source)
            if request.request_id is not None:
                delivery.identify(request.request_id)
            return request

        return decode_request

    async def decode(message: NatsMessage) -> Message:
        return parse_job(message_type, message.body, text_limit=text_limit)

    return decode


async def _decode_raw(message: NatsMessage) -> bytes:
    return message.body


async def _decode_records(message: NatsBatchMessage) -> list[LogEntry]:
    delivery = current()
    at = now()
    records: list[LogEntry] = []
    for raw in message.raw_message:
        try:
            entry_type = ENTRIES.get(raw.subject, DecisionRecord)
            record: LogEntry = parse(entry_type, raw.data, text_limit=0, extra="ignore")
            if ahead := time_ahead(record, at):
                raise InvalidRequest(f"{ahead} is more than a day ahead of the clock", field=ahead)
            records.append(record)
        except InvalidRequest as error:
            delivery.rejected.append((raw, error))
    return records


def _with_source(request: GuardRequest, subject: str) -> GuardRequest:
    """Let `vigil.guard.<source>` say what is guarded; a body that says otherwise is refused."""
    if not subject.startswith(GUARD_FAMILY):
        return request
    named = subject.removeprefix(GUARD_FAMILY)
    if named not in SOURCES:
        raise InvalidRequest(f"no text is guarded under this subject; use {Subject.GUARD_INPUT}", field="subject")
    if "source" in request.model_fields_set and request.source != named:
        raise InvalidRequest("differs from the subject the message was published to", field="source")
    return request.model_copy(update={"source": Source(named)})
