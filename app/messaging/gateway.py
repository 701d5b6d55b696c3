"""The way in: publishes a request to the work queue and waits for its decision, for HTTP and NATS callers alike."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final
from uuid import UUID

from faststream.nats import NatsBroker
from nats.errors import ConnectionReconnectingError
from nats.errors import Error as NatsError
from nats.js.errors import APIError

from app.access.principal import ANONYMOUS, Principal
from app.access.tenancy import kept_id
from app.contracts import DecisionRecord, Envelope, GuardRequest, Problem, Source, Verdict
from app.errors import (
    DecisionTimeout,
    MessagingUnavailable,
    Overloaded,
    PayloadTooLarge,
    ProblemReply,
)
from app.identity import new_request_id, now, text_digest
from app.messaging import chats
from app.messaging import envelope as envelopes
from app.messaging.admission import Admission
from app.messaging.decisions import DecisionStore, attempt_after, check_repeat, wait_for
from app.messaging.inbox import ReplyInbox
from app.messaging.jetstream import JetStream
from app.settings import Settings
from app.telemetry import correlation, counting, metrics
from app.topology import DETECTION_STREAM, Subject

SUBJECTS: Final = {
    Source.INPUT: Subject.GUARD_INPUT,
    Source.OUTPUT: Subject.GUARD_OUTPUT,
    Source.TOOL: Subject.GUARD_TOOL,
}
REFUSED_FOR_S: Final = 15.0
"""How long a refused publish counts against readiness while no other is tried."""
HEADER_ROOM_BYTES: Final = 4096
"""Kept free for headers under the stream's message limit."""

Submission = Callable[[], Awaitable[UUID]]
"""Publishes a request that was checked, and returns the id by which its decision is read; raises MessagingUnavailable
where it was not accepted."""


class GuardGateway:
    def __init__(
        self,
        broker: NatsBroker,
        inbox: ReplyInbox,
        decisions: DecisionStore,
        settings: Settings,
        *,
        pin: Callable[[GuardRequest], Awaitable[object]] | None = None,
        open_map: Callable[[str, str], Awaitable[object]] | None = None,
    ) -> None:
        """Begin.

        Args:
            broker: publishes.
            inbox: takes the answers.
            decisions: those of repeated ids.
            settings: limits and times.
            pin: raises InvalidRequest for a request whose policy does not exist. A stage would refuse it too, at the
                price of a dead letter.
            open_map: raises RestoreMapRefused for a map that a tenant cannot use; the scan would refuse it too.
        """
        self._pin = pin
        self._open_map = open_map
        self._broker = broker
        self._inbox = inbox
        self._decisions = decisions
        self._settings = settings
        self._hash_key = settings.privacy.hash_key_bytes
        self.admission = Admission(settings.http.max_in_flight)
        self._refused_at = 0.0
        self._refusal: str | None = None
        """What came of the last publish, where the stream did not take it."""
        self.jetstream: JetStream | None = None
        """Set once the streams are there; None means requests are refused."""

    async def guard(self, request: GuardRequest, caller: Principal = ANONYMOUS) -> bytes:
        """Return the decision as the JSON of a GuardAnswer.

        Raises:
            MessagingUnavailable: the request was not accepted; nothing was kept.
            Overloaded: too many requests are waiting in this process, or the work queue is nearly full.
            PayloadTooLarge: the request does not fit a message.
            InvalidRequest: a chat has too many messages, or there is no such policy.
            RestoreMapRefused: the request's restore map cannot be opened, or is not the caller's tenant's.
            RequestIdConflict: the request id belongs to another text.
            DecisionTimeout: accepted, but not decided within the deadline.
        """
        refusal = self.refusal(request.deadline_ms)
        if refusal is not None:
            raise refusal
        started = time.perf_counter()
        self.admission.enter()
        counting.REQUESTS_IN_FLIGHT.add(1)
        try:
            answer = await self._guard_scoped(request, caller)
            counting.count_answer(request.mode, time.perf_counter() - started)
            return answer if request.messages is None else chats.completed(answer, request.messages)
        finally:
            self.admission.leave()
            counting.REQUESTS_IN_FLIGHT.add(-1)

    async def _guard_scoped(self, request: GuardRequest, caller: Principal) -> bytes:
        """Decide under the id that the caller's tenant has for the request, and answer under the caller's."""
        given = request.request_id
        kept = kept_id(caller.tenant, given) if given is not None else None
        if given is None or kept == given:
            return await self._guard(request, caller)
        try:
            answer = await self._guard(request.model_copy(update={"request_id": kept}), caller, given)
        except DecisionTimeout as error:
            raise DecisionTimeout(error.message, request_id=given) from None
        except ProblemReply as error:
            raise ProblemReply(error.problem.model_copy(update={"request_id": given})) from None
        # The id stands first in the answer: this is a tenth of reading and writing it all.
        return answer.replace(str(kept).encode(), str(given).encode(), 1)

    @property
    def late_refusal(self) -> str | None:
        """What came of the last request, where the stream did not take it and that is not long ago; else None.

        A stream whose disk is full answers questions and acknowledges nothing.
        """
        return self._refusal if time.monotonic() - self._refused_at < REFUSED_FOR_S else None

    def refusal(self, deadline_ms: int | None = None) -> Overloaded | None:
        """Return what a request with this deadline is refused with when it would be accepted in vain, and count it."""
        reason = self.admission.refusal(deadline_ms / 1000 if deadline_ms else self._settings.http.timeout_s)
        if reason is None:
            return None
        metrics.ADMISSION_REFUSALS.labels(reason).inc()
        return Overloaded(retry_after_s=self.admission.retry_after_s)

    def note_stored(self, share: float) -> None:
        """Take note of how full the work queue is, 0 to 1."""
        self.admission.stored_share = share

    async def submit(self, request: GuardRequest, caller: Principal = ANONYMOUS) -> UUID:
        """Publish a request that nobody waits for; its decision is read later by the returned id.

        Raises:
            MessagingUnavailable, PayloadTooLarge, InvalidRequest, RestoreMapRefused, RequestIdConflict: as `guard`.
        """
        publish = await self.prepare(request, caller)
        return await publish()

    async def prepare(self, request: GuardRequest, caller: Principal = ANONYMOUS) -> Submission:
        """Check a request that nobody waits for, and return what publishes it.

        Raises:
            MessagingUnavailable: no request can be accepted at present.
            PayloadTooLarge, InvalidRequest, RestoreMapRefused, RequestIdConflict: as `guard`.
        """
        given = request.request_id
        request_id = kept_id(caller.tenant, given) if given is not None else new_request_id()
        first, attempt = (None, "") if given is None else await self._before(request_id)
        if first is not None:
            self._check_repeat(first, request, caller)
        envelope = Envelope(
            request_id=request_id,
            received_at=now(),
            traceparent=correlation.traceparent(),
            attempt=attempt,
            given_id=given if given != request_id else None,
            tenant=caller.tenant,
            key_id=caller.key_id,
        )
        payload = await self._payload(request, envelope)

        async def publish() -> UUID:
            correlation.identify(request_id)
            if first is None:
                await self._begin(payload, envelope, Subject.DETECTION_BATCH)
            return given or request_id

        return publish

    async def _guard(self, request: GuardRequest, caller: Principal, given_id: UUID | None = None) -> bytes:
        received_at = now()
        wait_s = request.deadline_ms / 1000 if request.deadline_ms else self._settings.http.timeout_s
        request_id = request.request_id or new_request_id()
        correlation.identify(request_id)
        correlation.note(mode=request.mode, source=request.source)
        attempt = ""
        if request.request_id is not None:
            first, attempt = await self._before(request_id)
            if first is not None:
                return self._repeated(first, request, caller)
        if self.jetstream is None:
            raise MessagingUnavailable
        reply_to, reply = self._inbox.expect()
        try:
            envelope = Envelope(
                request_id=request_id,
                received_at=received_at,
                deadline=received_at + timedelta(seconds=wait_s),
                reply_to=reply_to,
                traceparent=correlation.traceparent(),
                attempt=attempt,
                given_id=given_id,
                tenant=caller.tenant,
                key_id=caller.key_id,
            )
            fresh = await self._publish(request, envelope, SUBJECTS[request.origin])
            remaining_s = wait_s - (now() - received_at).total_seconds()
            if not fresh:
                first = await wait_for(self._decisions, request_id, remaining_s, attempt)
                return self._repeated(first, request, caller)
            try:
                answer = await asyncio.wait_for(reply, max(remaining_s, 0.001))
            except TimeoutError:
                raise DecisionTimeout(request_id=request_id) from None
        finally:
            self._inbox.forget(reply_to)
        if isinstance(answer, Problem):
            raise ProblemReply(answer)
        return answer

    async def _before(self, request_id: UUID) -> tuple[DecisionRecord | None, str]:
        """Return the decision that an id has, and where it expired what tells a new attempt under it from the one that
        did: JetStream would take it for a repeat.

        Raises:
            MessagingUnavailable: the kept decisions cannot be read.
        """
        first = await self._decisions.find(request_id)
        if first is None:
            return None, ""
        if first.answer.decision is Verdict.EXPIRED:
            return None, attempt_after(first)
        return first, ""

    async def _publish(self, request: GuardRequest, envelope: Envelope, subject: Subject) -> bool:
        """Return whether this began an attempt at the request; none where one is under way, or was decided."""
        return await self._begin(await self._payload(request, envelope), envelope, subject)

    async def _payload(self, request: GuardRequest, envelope: Envelope) -> bytes:
        """Return the message of a request that a stage will not refuse.

        Raises:
            MessagingUnavailable: not connected.
            PayloadTooLarge, InvalidRequest, RestoreMapRefused: as `guard`.
        """
        if self.jetstream is None:
            raise MessagingUnavailable
        if request.policy is not None and self._pin is not None:
            await self._pin(request)
        if request.restore_map is not None and self._open_map is not None:
            await self._open_map(request.restore_map, envelope.tenant)
        if request.messages is not None:
            request = chats.lean(request, self._settings.http.messages_limit)
        payload = (
            request.model_copy(update={"request_id": envelope.request_id}).model_dump_json(exclude_unset=True).encode()
        )
        if len(payload) > DETECTION_STREAM.max_message_bytes - HEADER_ROOM_BYTES:
            raise PayloadTooLarge(
                f"the request takes {len(payload)} bytes as a message; "
                f"at most {DETECTION_STREAM.max_message_bytes - HEADER_ROOM_BYTES} fit"
            )
        return payload

    async def _begin(self, payload: bytes, envelope: Envelope, subject: Subject) -> bool:
        """Return whether this began an attempt; the one before it may have failed.

        Raises:
            MessagingUnavailable: as `_send`, or it cannot be told whether the one before failed.
        """
        if await self._send(payload, envelope, subject):
            return True
        attempt = await self._decisions.attempt_after_failure(envelope.request_id)
        if not attempt:
            return False
        return await self._send(payload, envelope.model_copy(update={"attempt": attempt}), subject)

    async def _send(self, payload: bytes, envelope: Envelope, subject: Subject) -> bool:
        """Return whether JetStream sees this request id for the first time (within its duplicate window).

        Raises:
            MessagingUnavailable: it did not take the message.
        """
        if self.jetstream is None:
            raise MessagingUnavailable
        try:
            ack = await self.jetstream.publish(
                subject,
                payload,
                headers=envelopes.to_headers(envelope, envelopes.message_id(envelope, "guard")),
                stream=DETECTION_STREAM.name,
                timeout=self._settings.nats.publish_timeout_s,
                # Its caller is told that it was not accepted: it must not be sent once the connection is back.
                buffered=False,
            )
        except (NatsError, TimeoutError) as error:
            self._refused_at, self._refusal = time.monotonic(), _refusal(error)
            raise MessagingUnavailable("the message server did not accept the request; try again") from error
        self._refusal = None
        return not ack.duplicate

    def _repeated(self, first: DecisionRecord, request: GuardRequest, caller: Principal) -> bytes:
        self._check_repeat(first, request, caller)
        return first.answer.model_dump_json().encode()

    def _check_repeat(self, first: DecisionRecord, request: GuardRequest, caller: Principal) -> None:
        digest = text_digest(request.identity, self._hash_key)
        check_repeat(first, tenant=caller.tenant, digest=digest, dry_run=request.dry_run)


def _refusal(error: Exception) -> str | None:
    """Return what is known of a request that the stream did not take; None where it was never sent, for want of a
    connection, which says nothing of the stream."""
    match error:
        case ConnectionReconnectingError():
            return None
        case APIError(description=str(why)) if why:
            return f"the work queue refused the last request: {why}"
        case TimeoutError():
            return "the work queue did not acknowledge the last request in time"
        case _:
            return f"the work queue did not take the last request: {type(error).__name__}"
