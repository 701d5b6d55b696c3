"""The messaging room as one object: brings the connection, topology, subscribers and entries up, and down again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from typing import Final, Protocol

from faststream.nats import NatsBroker
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import APIError

from app import tasks
from app.arbiter.live import LivePolicies
from app.contracts import Envelope
from app.errors import MessagingUnavailable
from app.log_contracts import FeedbackRecord
from app.messaging import asyncapi, lag, pulling, wire
from app.messaging.broker import ConnectionEvents, build_broker
from app.messaging.dead_letters import DeadLetters
from app.messaging.decisions import BucketDecisions, DecisionStore
from app.messaging.declarations import Declarations
from app.messaging.delivery import DeliveryPolicy
from app.messaging.embedded import EmbeddedNats
from app.messaging.erasure import Forgetter, Rows
from app.messaging.forgetting import Orders
from app.messaging.gateway import GuardGateway
from app.messaging.inbox import ReplyInbox
from app.messaging.jetstream import JetStream
from app.messaging.microservice import GuardMicroservice
from app.messaging.outbox import Outbox
from app.messaging.policy_watch import PolicyWatch
from app.messaging.questions import Archive, RemoteArchive
from app.messaging.streaming import StreamEndpoint
from app.messaging.subscribers import Workers, register
from app.messaging.sweep import Sweeper
from app.settings import Settings
from app.telemetry import correlation
from app.topology import (
    ADVISORIES_STREAM,
    CONSUMERS,
    DECISIONS_BUCKET,
    DETECTION_STREAM,
    DLQ_STREAM,
    LOGGING_WORKER,
    STREAMS,
)

logger: Final = logging.getLogger("vigil.messaging")


class Companion(Protocol):
    """What lives beside the subscribers on the same connection."""

    async def open(self, connection: Client, jetstream: JetStreamContext) -> None:
        """Do what must be done before requests are taken; when it fails, everything is tried again."""
        ...

    async def run(self, connection: Client, jetstream: JetStreamContext) -> None:
        """Work until cancelled, through every loss of the connection."""
        ...


FIRST_RETRY_S: Final = 0.25
LAST_RETRY_S: Final = 5.0
REQUESTS_SHARE: Final = 0.25
"""How much of a stop's time requests over NATS have at most, after the half that open HTTP connections have: the rest
is for the work in flight and the last rows."""
MESSAGING_SHARE: Final = 0.45
"""How much of a stop's time all that is here has, after the half that open HTTP connections have: the rest is for the
embedded message server and the event log. What takes longer would be ended with the process, at its limit."""
GRACE_SHARE: Final = 0.15
"""How much of a stop's time work in flight has before it is handed back, as rows are while the event log is away."""
FLUSH_BATCHES: Final = 6
"""A stopping process waits this many batch times for its last rows, where its time allows."""
FLUSH_POLL_S: Final = 0.05


class Pipeline:
    """The broker with the four subscribers on it: what TestBroker runs in memory and Backbone on a server."""

    def __init__(
        self,
        url: str,
        workers: Workers,
        settings: Settings,
        *,
        decisions: DecisionStore,
        events: ConnectionEvents | None = None,
        orders: Orders | None = None,
    ) -> None:
        self.declarations = Declarations(settings.nats.replicas, settings.decisions.ttl_s)
        self.broker: NatsBroker = build_broker(
            url,
            settings.nats,
            events or ConnectionEvents(),
            graceful_timeout_s=GRACE_SHARE * settings.workers.stop_timeout_s,
        )
        dead_letters = DeadLetters(self.broker, decisions, settings.nats.publish_timeout_s)
        self.sweeper = Sweeper(dead_letters, settings.workers.sweep_interval_s)
        self.delivery = DeliveryPolicy(
            consumers={family: consumer for consumer in CONSUMERS for family in consumer.families},
            retry_delays_s=settings.workers.retry_delays_s,
            dead_letters=dead_letters,
        )
        self.broker.add_middleware(self.delivery)
        stream = self.declarations.stream(DETECTION_STREAM)
        self._orders = orders or Orders()
        self.outbox = Outbox(self.broker, stream, settings.nats.publish_timeout_s)
        self.logging_subscriber = register(
            self.broker,
            stream,
            self.outbox,
            decisions,
            workers,
            settings,
            advisories=self.declarations.stream(ADVISORIES_STREAM),
            on_advisory=self._on_advisory,
            forgotten=self._forgotten,
        )
        self.broker.publisher(
            "vigil.dlq.*",
            stream=self.declarations.stream(DLQ_STREAM),
            title="vigil.dlq.<durable>",
            schema=bytes,
            description="Messages that could not be worked on, payload unchanged, the reason in Vigil-* headers.",
        )

    async def _on_advisory(self, advisory: bytes) -> None:
        await self.sweeper.on_advisory(self.broker.connection.jetstream(), advisory)

    def _forgotten(self, envelope: Envelope, digest: str) -> bool:
        return self._orders.forgets(
            request_id=envelope.request_id,
            tenant=envelope.tenant,
            key_id=envelope.key_id,
            digest=digest,
            received_at=envelope.received_at,
        )

    def asyncapi(self, version: str) -> str:
        """Return the AsyncAPI 3.0 document of all subjects as JSON."""
        return asyncapi.document(self.broker, version)


class Backbone:
    def __init__(
        self,
        workers: Workers,
        settings: Settings,
        *,
        version: str,
        policies: LivePolicies | None = None,
        companions: Sequence[Companion] = (),
    ) -> None:
        self._settings = settings
        self._workers = workers
        self._version = version
        self._companions = companions
        self._events = ConnectionEvents()
        self._embedded: EmbeddedNats | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._logs = False
        self._policies = PolicyWatch(policies) if policies is not None else None
        self._pin = policies.pin if policies is not None else None
        self.decisions = BucketDecisions()
        self.orders = Orders()
        """What is to be forgotten."""
        self.pipeline: Pipeline | None = None
        self.gateway: GuardGateway | None = None
        self.up = asyncio.Event()
        """Set once the topology stands and the subscribers run for the first time."""
        self.last_error: str | None = "not connected yet"

    async def start(self) -> None:
        """Begin to bring everything up; returns at once, `up` tells when it is done.

        Raises:
            EmbeddedServerError: no server is configured and the embedded one cannot be started.
            ConfigurationError: a certificate, key or credentials file cannot be used, or NATS_URL is no address.
        """
        url = self._settings.nats_url
        if url is None:
            nats = self._settings.nats
            self._embedded = EmbeddedNats(self._settings.state_dir, nats.embedded_host, nats.embedded_port)
            url = await self._embedded.start()
        self.pipeline = Pipeline(
            url, self._workers, self._settings, decisions=self.decisions, events=self._events, orders=self.orders
        )
        self._inbox = ReplyInbox()
        self.gateway = GuardGateway(
            self.pipeline.broker,
            self._inbox,
            self.decisions,
            self._settings,
            pin=self._pin,
            open_map=self._workers.open_map,
        )
        self._microservice = GuardMicroservice(
            self.gateway,
            self._workers.restore,
            version=self._version,
            text_limit=self._settings.http.text_limit,
            streams=self._stream_endpoint(),
        )
        self._tasks.append(asyncio.create_task(self._bring_up(self.pipeline, self.gateway), name="bring-up"))

    def _stream_endpoint(self) -> StreamEndpoint | None:
        open_stream, settings = self._workers.stream, self._settings
        if open_stream is None:
            return None
        return StreamEndpoint(open_stream, settings.stream, text_limit=settings.http.text_limit)

    async def _bring_up(self, pipeline: Pipeline, gateway: GuardGateway) -> None:
        pause = FIRST_RETRY_S
        while True:
            try:
                await self._connect(pipeline, gateway)
            except Exception as error:  # noqa: BLE001 - whatever it is, the process stays and tries again
                self.last_error = self._events.last_error or f"{type(error).__name__} while connecting"
                logger.warning("not connected, again in %g s: %s", pause, self.last_error)
                with contextlib.suppress(Exception):
                    await pipeline.broker.stop()
                await asyncio.sleep(pause)
                pause = min(2 * pause, LAST_RETRY_S)
            else:
                return

    async def _connect(self, pipeline: Pipeline, gateway: GuardGateway) -> None:
        broker = pipeline.broker
        connection = await asyncio.wait_for(broker.connect(), 2 * self._settings.nats.connect_timeout_s)
        wire.harden(connection)
        self._events.connected()
        jetstream = JetStream(connection, timeout_s=self._settings.nats.publish_timeout_s)
        await jetstream.open()
        pipeline.outbox.jetstream = jetstream
        await pipeline.declarations.reconcile(jetstream)
        self.decisions.bucket = await jetstream.key_value(DECISIONS_BUCKET.name)
        if self._policies is not None:
            # Before any request is judged: what was applied holds from the first one on.
            await self._policies.open(jetstream)
        for companion in self._companions:
            await companion.open(connection, jetstream)
        await self._inbox.open(connection)
        # In place of `broker.start()`, which starts every subscriber: the one for the event log waits until a process
        # can write it. The streams that FastStream would declare here stand already.
        for subscriber in broker.subscribers:
            if subscriber is not pipeline.logging_subscriber:
                await pulling.start(subscriber)
        for publisher in broker.publishers:
            await publisher.start()
        await self._microservice.start(connection)
        gateway.jetstream = self.orders.jetstream = jetstream
        self._events.on_reconnect = self._restore
        watching = lag.watch(jetstream, self._restore, gateway.note_stored, self._settings.state_dir)
        self._tasks.append(asyncio.create_task(watching, name="lag"))
        if self._policies is not None:
            self._tasks.append(asyncio.create_task(self._policies.follow(jetstream, self._restore), name="policies"))
        self._tasks.append(asyncio.create_task(self.orders.watch(), name="forgetting"))
        self._tasks.append(asyncio.create_task(pipeline.sweeper.watch(jetstream), name="sweep"))
        for companion in self._companions:
            running = companion.run(connection, jetstream)
            self._tasks.append(asyncio.create_task(running, name=type(companion).__name__))
        self.last_error = None
        self.up.set()
        logger.info("connected; streams, consumers and subscribers are ready")

    async def _restore(self) -> None:
        """Bring back streams, consumers and buckets that were deleted, or lost by a restarted server."""
        if self.pipeline is None or self.gateway is None or self.gateway.jetstream is None:
            return
        try:
            await self.pipeline.declarations.reconcile(self.gateway.jetstream)
        except (NatsError, TimeoutError) as error:
            logger.error("topology not restored after a reconnect: %s", type(error).__name__)

    async def start_logging(self, archive: Archive, rows: Rows | None = None) -> None:
        """Start what needs the event log, now that this process has it open: its subscriber, answers to others'
        questions, and forgetting. It is tried until the message server lets it."""
        await self.up.wait()
        if self.pipeline is not None:
            await self._microservice.serve_archive(archive)
            while True:
                try:
                    await pulling.start(self.pipeline.logging_subscriber)
                except (NatsError, TimeoutError) as error:
                    logger.warning("rows are not written yet, again in %g s: %s", FIRST_RETRY_S, type(error).__name__)
                    await asyncio.sleep(FIRST_RETRY_S)
                else:
                    break
            self._logs = True
            if rows is not None:
                forgetter = Forgetter(self.orders, self.jetstream, rows, self._settings.privacy.hash_key_bytes)
                self._tasks.append(asyncio.create_task(forgetter.watch(), name="erasure"))

    @property
    def remote_archive(self) -> RemoteArchive:
        """The event log of the process that has it open.

        Raises:
            MessagingUnavailable: not connected.
        """
        if self.pipeline is None or not self.up.is_set():
            raise MessagingUnavailable(self.last_error)
        return RemoteArchive(self.pipeline.broker.connection, self._settings.event_log.query_timeout_s)

    async def keep_feedback(self, record: FeedbackRecord) -> None:
        """Hand a report on to the event log; return once the stream has stored it.

        Raises:
            MessagingUnavailable: it was not kept.
        """
        if self.pipeline is None or not self.up.is_set():
            raise MessagingUnavailable(self.last_error)
        envelope = Envelope(
            request_id=record.request_id,
            received_at=record.given_at,
            tenant=record.tenant,
            key_id=record.key_id,
            traceparent=correlation.traceparent(),
            attempt=f"feedback-{record.feedback_id}",
        )
        try:
            # Where the stream has no room it would wait for some.
            async with asyncio.timeout(self._settings.nats.publish_timeout_s):
                await self.pipeline.outbox.forward(record, envelope)
        except (NatsError, TimeoutError) as error:
            raise MessagingUnavailable("the report was not kept: the message server did not take it") from error

    @property
    def jetstream(self) -> JetStreamContext:
        """The connection's JetStream.

        Raises:
            MessagingUnavailable: not connected.
        """
        if self.gateway is None or self.gateway.jetstream is None:
            raise MessagingUnavailable(self.last_error)
        return self.gateway.jetstream

    async def check(self, within_s: float | None = None) -> None:
        """Ask the server whether the streams are there.

        Raises:
            MessagingUnavailable: says what is missing, or that the server did not answer within `within_s` seconds.
        """
        if self.gateway is None or self.gateway.jetstream is None:
            raise MessagingUnavailable(self.last_error)
        try:
            async with asyncio.timeout(within_s):
                for stream in STREAMS:
                    await self.gateway.jetstream.stream_info(stream.name)
        except (NatsError, TimeoutError) as error:
            why = None if isinstance(error, APIError) else self._events.last_error
            raise MessagingUnavailable(why or f"{type(error).__name__} while asking for the streams") from None
        self._events.last_error = None
        if (refusal := self.gateway.late_refusal) is not None:
            raise MessagingUnavailable(refusal)

    async def stop(self) -> None:
        """Take no more requests, finish what is in work, write the last log batch, close, and end the server."""
        gateway, pipeline = self.gateway, self.pipeline
        until = time.monotonic() + MESSAGING_SHARE * self._settings.workers.stop_timeout_s
        if pipeline is not None and gateway is not None:
            if self.up.is_set():
                await self._microservice.stop(REQUESTS_SHARE * self._settings.workers.stop_timeout_s)
            await tasks.end(self._tasks)
            await self._finish(pipeline, gateway, until)
        if self._embedded is not None:
            await self._embedded.stop()

    async def _finish(self, pipeline: Pipeline, gateway: GuardGateway, until: float) -> None:
        grace_s = GRACE_SHARE * self._settings.workers.stop_timeout_s

        async def stop_subscribers() -> None:
            running = [each for each in pipeline.broker.subscribers if each is not pipeline.logging_subscriber]
            await asyncio.gather(*(subscriber.stop() for subscriber in running))
            if self._logs and gateway.jetstream is not None:
                with contextlib.suppress(NatsError, TimeoutError):  # The subscriber stops all the same.
                    await self._flush_log(gateway.jetstream, until - 1.5 * grace_s)
            gateway.jetstream = None
            await pipeline.broker.stop()

        stopping = asyncio.create_task(stop_subscribers(), name="stop")
        # Not wait_for: it would wait for the end of what it cancels, which can itself hang.
        limit_s = max(until - time.monotonic(), 0.0)
        done, _ = await asyncio.wait({stopping}, timeout=limit_s)
        if not done:
            stopping.cancel()
            logger.error("stopped with work unfinished after %.1f s", limit_s)
        elif (error := stopping.exception()) is not None:
            logger.warning("the connection did not close cleanly: %s", type(error).__name__)

    async def _flush_log(self, jetstream: JetStreamContext, until: float) -> None:
        """Wait until the batch under way is written; other replicas may go on producing, so only for a while."""
        until = min(until, time.monotonic() + FLUSH_BATCHES * self._settings.event_log.batch_wait_s)
        while time.monotonic() < until:
            info = await jetstream.consumer_info(LOGGING_WORKER.stream, LOGGING_WORKER.durable)
            if not info.num_pending and not info.num_ack_pending:
                return
            await asyncio.sleep(FLUSH_POLL_S)
