"""The composition root: puts the rooms together, brings them up and down in order, and says whether they are ready."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid4

from app import __version__, tasks
from app.access.control import AccessControl, AccessMode
from app.access.limits import Limits
from app.access.metering import NOT_ACCEPTED, Metering
from app.access.peppers import load_peppers, needed_peppers
from app.access.principal import Principal
from app.access.tenancy import is_same_request, kept_id
from app.admin_contracts import AuditPage
from app.arbiter.book import load_policies
from app.arbiter.expiry import ExpiryWorker
from app.arbiter.live import LivePolicies
from app.arbiter.policy import Policy
from app.arbiter.worker import ArbiterWorker
from app.contracts import (
    Anonymized,
    AnonymizeJob,
    Check,
    DecisionRecord,
    DetectionReport,
    Envelope,
    GuardRequest,
    OnTimeout,
    PiiEntity,
    PiiQuery,
    Readiness,
    RestoreAnswer,
    RestoreRequest,
    Source,
)
from app.detection.chat_worker import ChatWorker
from app.detection.detector import Detector
from app.detection.leak_worker import LeakWorker
from app.detection.recent import Inspector, RecentReports
from app.detection.worker import DetectionWorker
from app.errors import (
    ConfigurationError,
    EventLogBusy,
    EventLogUnavailable,
    MessagingUnavailable,
    Overloaded,
    VigilError,
)
from app.events.log import EventLog
from app.events.texts import full_text
from app.events.worker import EventWorker
from app.http import application
from app.http.slow_clients import HeaderDeadline, keep_alive
from app.identity import new_request_id, now, text_digest
from app.lifecycle import StopSignals, settle_heap, web_server
from app.log_contracts import FeedbackRecord, ForgetOrder, ForgetRequest, LogEntry
from app.messaging import audit
from app.messaging.backbone import Backbone
from app.messaging.forgetting import give_order, what_to_forget
from app.messaging.gateway import Submission
from app.messaging.keys import KeyStore, KeyWatch
from app.messaging.policy_desk import PolicyDesk
from app.messaging.policy_store import PolicyStore
from app.messaging.questions import Archive
from app.messaging.quotas import QuotaCounts
from app.messaging.subscribers import Workers
from app.messaging.usage import UsageExchange
from app.pii.desk import PiiDesk
from app.pii.engine import PiiEngine
from app.pii.sealing import MapSealer, RestoreMap, process_key
from app.pii.worker import PiiWorker, Redactors, Restorer
from app.policy_checks import checks_of
from app.readiness import LOOK_WITHIN_S, SharedReadiness
from app.settings import Settings, ignored_variables, load_settings
from app.stream_contracts import StreamOpening
from app.streaming.desk import StreamDesk
from app.streaming.session import StreamParts, StreamSession
from app.tasks import ContextThreads
from app.telemetry import counting, logs, metrics, tracing

if TYPE_CHECKING:
    from fastapi import FastAPI
    from nats.js import JetStreamContext

logger: Final = logging.getLogger("vigil.service")

READY_WAIT_S: Final = 5.0
"""How long start-up waits for the parts before it serves, so that the first request of a healthy start succeeds."""
EVENT_LOG_RETRY_S: Final = 1.0


class VigilService:
    """One process of the guard."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._threads = ContextThreads(settings.workers.threads, thread_name_prefix="vigil-worker")
        self._sealer = _map_sealer(settings)
        self._restorer = Restorer(self._threads, self._sealer, settings.http.timeout_s, is_same_request)
        self._pii_desk: PiiDesk | None = None
        self._policies: LivePolicies | None = None
        self.access = _access_control(settings)
        shared = Limits(rate_per_s=settings.access.rate_per_s, burst=settings.access.burst)
        self.metering = Metering(uuid4().hex, shared, self.access.keyring.limits_of)
        self.stopping = asyncio.Event()
        self._stream_desk: StreamDesk | None = None
        self._detect: ChatWorker | None = None
        self._backbone: Backbone | None = None
        self._event_log: EventLog | None = None
        self._event_log_check = Check(ok=False, reason="not opened yet")
        self._event_log_tried = asyncio.Event()
        self._readiness = SharedReadiness(self._look)
        self._opening: asyncio.Task[None] | None = None
        self._counting: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Load the models, then bring up messaging and the event log; return when ready or after READY_WAIT_S.

        Raises:
            ConfigurationError, ModelUnavailable: the process cannot work at all.
            EmbeddedServerError: the embedded nats-server cannot be started.
            OSError: a file that is needed cannot be read or written.
        """
        try:
            await self._bring_up()
        except VigilError as error:
            logger.critical("not started: %s", error.message)
            raise
        except OSError as error:  # A state folder that is full or may not be written to, most of all.
            named = f"{error.filename}: " if error.filename else ""
            logger.critical("not started: %s%s", named, error.strerror or type(error).__name__)
            raise

    async def _bring_up(self) -> None:
        settings = self.settings
        asyncio.get_running_loop().set_exception_handler(tasks.report)
        server = web_server()
        StopSignals(settings.workers.stop_timeout_s, self.stopping.set).install()
        # The engine is loaded beside the models: most of that happens outside the interpreter.
        started: asyncio.Future[Backbone] = asyncio.get_running_loop().create_future()
        self._opening = asyncio.create_task(self._open_event_log(started), name="open-event-log")
        detector, pii, book = await asyncio.gather(
            asyncio.to_thread(_warm_detector, settings),
            asyncio.to_thread(_warm_pii_engine, settings),
            asyncio.to_thread(load_policies, settings.config_dir, settings.detection.default_policy),
        )
        redactors = Redactors(settings.privacy.hash_key_bytes)
        policies = self._policies = LivePolicies(book, checks_of(redactors))
        workers = self._build_workers(detector, pii, redactors, policies)
        metrics.BUILD_INFO.labels(__version__).set(1)
        metrics.MODEL_INFO.labels("detection", detector.model_version).set(1)
        companions = (KeyWatch(self.access), UsageExchange(self.metering.rates), QuotaCounts(self.metering.quotas))
        self._backbone = Backbone(workers, settings, version=__version__, policies=policies, companions=companions)
        await self._backbone.start()
        started.set_result(self._backbone)
        self._counting = asyncio.create_task(counting.watch(), name="counting")
        await self._wait_ready(self._backbone, self._opening)
        settle_heap()
        self._check_bind(server)
        if server is not None:
            keep_alive(server, settings.http.keep_alive_s)
            deadline = HeaderDeadline(server, settings.http.header_timeout_s)
            self._watching = asyncio.create_task(deadline.watch(), name="slow-clients")

    def _build_workers(
        self, detector: Detector, pii: PiiEngine, redactors: Redactors, policies: LivePolicies
    ) -> Workers:
        """Put the stages' workers together, and the parts that judge beside the pipeline."""
        settings = self.settings
        self._pii_desk = PiiDesk(pii, self._threads, settings.gateways.deadline_ms / 1000)
        hash_key = settings.privacy.hash_key_bytes
        scans_fast_mode = settings.pii.fast_mode == "patterns"

        def detect_by(inspector: Inspector) -> LeakWorker:
            limit = settings.workers.inline_text_limit
            detection = DetectionWorker(inspector, self._threads, limit, hash_key, scans_fast_mode=scans_fast_mode)
            return LeakWorker(detection, self._threads, limit, settings.planted_canaries())

        self._stream_desk = StreamDesk(
            StreamParts(
                finder=pii.for_parts(),
                rules=detector,
                inspect=self._inspect,
                threads=self._threads,
                policy_of=policies.get,
                restore_map_of=self._sealer.open,
                entities=pii.entities,
                canaries=settings.planted_canaries(),
                hash_key=hash_key,
                text_limit=settings.http.text_limit,
                hold_limit=settings.stream.hold_limit,
                default_language=settings.pii.default_language,
                scans_fast_mode=scans_fast_mode,
            ),
            settings.stream,
        )
        detect_again = detect_by(RecentReports(detector))
        self._detect = ChatWorker(
            policies.pin,
            detect_by(detector),
            detect_again,
            hash_key,
            detector.model_version,
            scans_fast_mode=scans_fast_mode,
            leaks_together=detect_again.together,
        )
        return Workers(
            detect=self._detect,
            scan=PiiWorker(pii, self._threads, redactors, self._sealer, policies.scanning),
            arbitrate=ArbiterWorker(policies),
            expire=ExpiryWorker(hash_key),
            record=self._record,
            restore=self.restore,
            open_map=self._open_map,
            stream=self.stream,
            keep_text=full_text if settings.privacy.store == "full" else None,
        )

    async def stop(self) -> None:
        """End everything in reverse order; work in flight is finished first, within the configured time."""
        self.stopping.set()
        if self._backbone is not None:
            await self._backbone.stop()
        background = (self._opening, self._watching, self._counting)
        await tasks.end([task for task in background if task is not None])
        counting.hand_over()
        if self._event_log is not None:
            await self._event_log.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        await tracing.close()
        logger.info("stopped")

    async def guard(self, request: GuardRequest, caller: Principal) -> bytes:
        if self._backbone is None or self._backbone.gateway is None:
            raise MessagingUnavailable
        bound = self._bound(request, caller)
        charge = self.metering.count(caller)
        try:
            return await self._backbone.gateway.guard(bound, caller)
        except NOT_ACCEPTED:
            self.metering.give_back(charge)
            raise

    def _bound(self, request: GuardRequest, caller: Principal) -> GuardRequest:
        """Return a request as its caller may make it; see `Principal.bound`."""
        return caller.bound(request, self._policies.default if self._policies is not None else None)

    def on_timeout(self, request: GuardRequest, caller: Principal) -> tuple[str, OnTimeout]:
        """Return the policy of a request and what it says where no decision comes in time.

        Raises:
            InvalidRequest: there is no such policy.
        """
        if self._policies is None:
            return "", "error"
        policy = self._policies.get(self._bound(request, caller).policy)
        return policy.name, policy.on_timeout

    async def restore(self, request: RestoreRequest, tenant: str) -> RestoreAnswer:
        return await self._restorer(request, tenant)

    async def _open_map(self, sealed: str, tenant: str) -> RestoreMap:
        # The largest takes tens of milliseconds, for which all other requests would wait.
        return await asyncio.to_thread(self._sealer.open, sealed, tenant)

    async def find_pii(self, query: PiiQuery) -> list[list[PiiEntity]]:
        return await self._desk.find(query)

    async def anonymize(self, job: AnonymizeJob) -> Anonymized:
        return await self._desk.anonymize(job)

    def pii_kinds(self, language: str | None) -> list[str]:
        return self._desk.kinds(language)

    def pii_recognizers(self, language: str | None) -> list[str]:
        return self._desk.recognizers(language)

    @property
    def _desk(self) -> PiiDesk:
        if self._pii_desk is None:
            raise Overloaded("the models are not loaded yet")
        return self._pii_desk

    @asynccontextmanager
    async def stream(self, opening: StreamOpening, caller: Principal) -> AsyncIterator[StreamSession]:
        if self._stream_desk is None:
            raise MessagingUnavailable
        # A key's policy and longest text hold for a stream from its beginning, and not only at its verdict.
        bound = self._bound(GuardRequest(text="-", policy=opening.policy), caller)
        opening = opening.model_copy(update={"policy": bound.policy})
        longest = caller.limits.text_length

        async def judge(request: GuardRequest) -> bytes:
            return await self.guard(request, caller)

        async with self._stream_desk.stream(opening, judge, longest, tenant=caller.tenant) as session:
            yield session

    async def _inspect(self, request: GuardRequest) -> DetectionReport:
        """Judge a text as the pipeline's first stage does, without its later ones."""
        if self._detect is None:
            raise MessagingUnavailable
        envelope = Envelope(request_id=request.request_id or new_request_id(), received_at=now())
        return (await self._detect(request, envelope)).detection

    def refusal(self) -> Overloaded | None:
        """Return what a request with the usual deadline is refused with when it would be accepted in vain."""
        if self._backbone is None or self._backbone.gateway is None:
            return None
        return self._backbone.gateway.refusal()

    def restore_refusal(self) -> Overloaded | None:
        """Return what a text to restore that comes now is refused with, or None to let it in."""
        return self._restorer.refusal()

    async def prepare(self, request: GuardRequest, caller: Principal) -> Submission:
        """Check a request that nobody waits for, and return what counts and publishes it.

        Raises:
            MessagingUnavailable: no request can be accepted at present.
            PolicyNotAllowed, PayloadTooLarge, InvalidRequest, RestoreMapRefused, RequestIdConflict: it is refused.
        """
        if self._backbone is None or self._backbone.gateway is None:
            raise MessagingUnavailable
        publish = await self._backbone.gateway.prepare(self._bound(request, caller), caller)

        async def submit() -> UUID:
            charge = self.metering.count(caller)
            try:
                return await publish()
            except NOT_ACCEPTED:
                self.metering.give_back(charge)
                raise

        return submit

    async def find(self, request_id: UUID, caller: Principal) -> DecisionRecord | None:
        """Return a decision of the caller's tenant by the id that the caller or the guard gave the request.

        The record names the id under which it is kept; see `app/access/tenancy.py`.
        """
        kept = kept_id(caller.tenant, request_id)
        for known_as in dict.fromkeys((kept, request_id)):
            record = await self._find(known_as)
            if record is not None and record.tenant == caller.tenant:
                return record
        return None

    async def _find(self, request_id: UUID) -> DecisionRecord | None:
        """Return a decision: from the decision store when recent, else from the event log."""
        if self._backbone is None:
            raise MessagingUnavailable
        try:
            recent = await self._backbone.decisions.find(request_id)
        except MessagingUnavailable:
            recent = None
        if recent is not None:
            return recent
        return await self.archive.find(request_id)

    @property
    def archive(self) -> Archive:
        """The event log: this process's own, or through NATS the one of the process that has it open.

        Raises:
            MessagingUnavailable: neither can be reached.
        """
        if self._event_log is not None:
            return self._event_log
        if self._backbone is None:
            raise MessagingUnavailable
        return self._backbone.remote_archive

    def digest(self, text: str) -> str:
        """Return what stands for a text in records."""
        return text_digest(text, self.settings.privacy.hash_key_bytes)

    async def keep_feedback(self, record: FeedbackRecord) -> None:
        if self._backbone is None:
            raise MessagingUnavailable
        await self._backbone.keep_feedback(record)

    async def forget(self, request: ForgetRequest, actor: str) -> ForgetOrder:
        """Record and keep an order to forget; a process with the event log open carries it out."""
        if self._backbone is None:
            raise MessagingUnavailable
        kind, value = what_to_forget(request, self.settings.privacy.hash_key_bytes)
        return await give_order(self._jetstream, self._backbone.orders, kind, value, actor)

    async def forget_order(self, forget_id: UUID) -> ForgetOrder:
        if self._backbone is None:
            raise MessagingUnavailable
        return await self._backbone.orders.find(forget_id)

    @property
    def policies(self) -> PolicyDesk:
        """What is in force here, and the ways to change it.

        Raises:
            MessagingUnavailable: the message server has not been reached yet.
        """
        if self._policies is None:
            raise MessagingUnavailable
        return PolicyDesk(self._policies, PolicyStore(self._jetstream))

    def policy(self, name: str | None) -> Policy:
        """Return a policy as it is in force here; the default one for None.

        Raises:
            InvalidRequest: no policy has this name.
            MessagingUnavailable: not started yet.
        """
        if self._policies is None:
            raise MessagingUnavailable
        return self._policies.get(name)

    @property
    def keys(self) -> KeyStore:
        """The keys as administrators see them.

        Raises:
            MessagingUnavailable: not connected.
        """
        grace = timedelta(seconds=self.settings.access.rotation_grace_s)
        return KeyStore(self._jetstream, lambda: needed_peppers(self.settings), grace, self.policies.names)

    async def audit(self, *, limit: int, cursor: str | None, action: str | None) -> AuditPage:
        return await audit.entries(self._jetstream, limit=limit, cursor=cursor, action=action)

    async def readiness(self) -> Readiness:
        """Return what each part answered, at most a second ago."""
        return await self._readiness()

    async def _look(self) -> Readiness:
        nats, clickhouse = await asyncio.gather(self._check_messaging(), self._check_event_log())
        checks = {"nats": nats, "clickhouse": clickhouse, "models": Check(ok=self._backbone is not None)}
        return Readiness(ready=all(check.ok for check in checks.values()), checks=checks)

    def asyncapi(self) -> str:
        if self._backbone is None or self._backbone.pipeline is None:
            raise MessagingUnavailable
        return self._backbone.pipeline.asyncapi(__version__)

    @property
    def _jetstream(self) -> JetStreamContext:
        if self._backbone is None:
            raise MessagingUnavailable
        return self._backbone.jetstream

    async def _record(self, entries: Sequence[LogEntry]) -> None:
        """Write a batch, without what is to be forgotten.

        Raises:
            RowsRefused: names the entries that were refused.
        """
        if self._event_log is None or self._backbone is None:
            raise EventLogUnavailable
        await EventWorker(self._event_log, self._backbone.orders.forget_entry)(entries)

    async def _open_event_log(self, started: asyncio.Future[Backbone]) -> None:
        """Open the event log as soon as it can be; once messaging has started, start the subscriber that writes it."""
        while True:
            try:
                self._event_log = await EventLog.open(self.settings)
            except EventLogUnavailable as error:
                if error.message != self._event_log_check.reason:
                    logger.warning("the event log is not open: %s", error.message)
                # Another process of this machine that has it open writes the events of this one too.
                self._event_log_check = Check(ok=isinstance(error, EventLogBusy), reason=error.message)
                self._event_log_tried.set()
                await asyncio.sleep(EVENT_LOG_RETRY_S)
            except ConfigurationError as error:
                # It ends a start, and is seen only here where the log was away until the service served.
                self._event_log_check = Check(ok=False, reason=error.message)
                logger.critical("the event log is not opened: %s", error.message)
                raise
            else:
                break
        metrics.EVENT_LOG_UP.set(1)
        backbone = await started
        await backbone.start_logging(self._event_log, self._event_log)
        logger.info("the event log is open")
        self._event_log_tried.set()

    async def _wait_ready(self, backbone: Backbone, opening: asyncio.Task[None]) -> None:
        """Wait until requests can be served; raise what makes that impossible."""
        parts = [asyncio.create_task(event.wait()) for event in (backbone.up, self._event_log_tried)]
        opening.add_done_callback(lambda _: self._event_log_tried.set())
        _, late = await asyncio.wait(parts, timeout=READY_WAIT_S)
        for part in late:
            part.cancel()
        if opening.done():
            opening.result()
        if late:
            logger.warning("serving before everything is up: %s", backbone.last_error or self._event_log_check.reason)

    def _check_bind(self, server: Any | None) -> None:
        """Refuse to serve other machines without keys.

        Raises:
            ConfigurationError: says what to do.
        """
        if server is None or server.config.uds is not None or server.config.fd is not None:
            return  # A socket of this machine, or one that only each request tells of.
        self.access.check_bind(server.config.host)

    async def _check_messaging(self) -> Check:
        if self._backbone is None:
            return Check(ok=False, reason="not started")
        try:
            await self._backbone.check(LOOK_WITHIN_S)
        except VigilError as error:
            return Check(ok=False, reason=error.message)
        return Check(ok=True)

    async def _check_event_log(self) -> Check:
        if self._event_log is None:
            return self._event_log_check
        try:
            await self._event_log.ping(LOOK_WITHIN_S)
        except EventLogUnavailable as error:
            return Check(ok=False, reason=error.message)
        return Check(ok=True)


def _warm_detector(settings: Settings) -> Detector:
    """Load the detector and judge once: the first text costs some milliseconds more than all later ones."""
    detector = Detector.load(settings.config_dir, sub_words_read=settings.detection.sub_words_read)
    detector.inspect("Warsaw is the capital of Poland.", Source.INPUT)
    return detector


def _warm_pii_engine(settings: Settings) -> PiiEngine:
    """Load the engine and scan once: the first scan costs 0.1 s more than all later ones."""
    engine = PiiEngine.load(settings.pii.default_language, settings.config_dir)
    engine.scan("Anna Nowak lives in Warsaw.", None, [])
    return engine


def _map_sealer(settings: Settings) -> MapSealer:
    keys = settings.privacy.restore_keys()
    if not keys and settings.nats_url is not None:
        logger.warning(
            "no VIGIL_PRIVACY__RESTORE_KEY: no other replica can open the restore maps of this one, nor this one after "
            "a restart"
        )
    return MapSealer(keys or (process_key(),), timedelta(seconds=settings.privacy.restore_ttl_s))


def _access_control(settings: Settings) -> AccessControl:
    mode, peppers, admin = AccessMode(settings.access.mode), load_peppers(settings), settings.access.admin_secret()
    if peppers is None and mode is not AccessMode.OPEN and (mode is AccessMode.KEYS or admin is not None):
        needed_peppers(settings)
    return AccessControl(mode, peppers, admin)


def create_app() -> FastAPI:
    """Make the ASGI application of this process from its settings."""
    settings = load_settings()
    logs.configure(settings.log)
    if ignored := ignored_variables(os.environ):
        said = "no setting of this name, so it changes nothing (names nest with two underscores: VIGIL_HTTP__TIMEOUT_S)"
        logger.warning("%s: %s", ", ".join(ignored), said)
    tracing.configure(settings.tracing, __version__)
    return application.build(VigilService(settings), settings, __version__)
