"""The guard as a NATS micro service: `nats req vigil.api.guard '{"text": "..."}'` gets a decision."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Final, cast
from uuid import UUID

from nats.aio.client import Client
from nats.micro import add_service
from nats.micro.request import Request
from nats.micro.service import EndpointConfig, Service, ServiceConfig

from app import tasks
from app.access.principal import Principal
from app.contracts import GuardRequest, RestoreAnswer, RestoreRequest
from app.errors import AnswerTooLarge, InvalidRequest, PayloadTooLarge, UnknownRequest, VigilError
from app.messaging.envelope import key_id_of, tenant_of
from app.messaging.gateway import GuardGateway
from app.messaging.questions import Archive, answers
from app.messaging.replies import ANSWER_HEADERS, PROBLEM_HEADERS
from app.messaging.streaming import StreamEndpoint
from app.messaging.wire import InboxOnly
from app.problems import to_problem
from app.telemetry import correlation, tracing
from app.telemetry.correlation import Correlation
from app.topology import DETECTION_STREAM, SERVICE, Header, Subject
from app.validation import parse

logger: Final = logging.getLogger("vigil.microservice")


class GuardMicroservice:
    """Answers `vigil.api.guard`, `vigil.api.restore` and `vigil.api.stream`, and questions to the event log where that
    is open, in one queue group over replicas."""

    def __init__(
        self,
        gateway: GuardGateway,
        restore: Callable[[RestoreRequest, str], Awaitable[RestoreAnswer]],
        *,
        version: str,
        text_limit: int,
        streams: StreamEndpoint | None = None,
    ) -> None:
        self._gateway = gateway
        self._restorer = restore
        self._streams = streams
        self._version = version
        self._text_limit = text_limit
        self._service: Service | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, connection: Client) -> None:
        self._service = await add_service(
            cast("Client", InboxOnly(connection)),
            ServiceConfig(
                name=SERVICE,
                version=self._version,
                description="Judges a text for prompt injection, jailbreaks and personal data.",
            ),
        )
        endpoints = ((Subject.API_GUARD, "guard", self._guard), (Subject.API_RESTORE, "restore", self._restore))
        for subject, name, answer in endpoints:
            await self._service.add_endpoint(
                EndpointConfig(name=name, subject=subject, handler=self._accepting(subject, answer))
            )
        if self._streams is not None:
            handler = self._serving_streams(self._streams, connection)
            await self._service.add_endpoint(EndpointConfig(name="stream", subject=Subject.API_STREAM, handler=handler))

    async def serve_archive(self, archive: Archive) -> None:
        """Answer questions to the event log: each JSON in and out, and `vigil.api.decision`, whose request is a request
        id as text, with that request's DecisionRecord."""

        async def decision(body: bytes) -> bytes:
            try:
                request_id = UUID(body.decode("ascii"))
            except ValueError:
                raise InvalidRequest("must be a UUID", field="request_id") from None
            record = await archive.find(request_id)
            if record is None:
                raise UnknownRequest(field="request_id")
            return record.model_dump_json().encode()

        if self._service is None:
            return
        for subject, answer in {Subject.API_DECISION: decision, **answers(archive)}.items():
            name = subject.rpartition(".")[2]
            handler = self._accepting(subject, _without_caller(answer))
            await self._service.add_endpoint(EndpointConfig(name=name, subject=subject, handler=handler))

    async def stop(self, within_s: float) -> None:
        """Take no more requests, and let those under way finish; give up what is not done after `within_s` seconds."""
        finishing = asyncio.create_task(self._finish(), name="micro-service")
        # Not wait_for: it would wait for the end of what it cancels, which can itself hang.
        done, _ = await asyncio.wait({finishing}, timeout=within_s)
        if not done:
            logger.error("stopped with %d requests over NATS unfinished after %g s", len(self._tasks), within_s)
            await tasks.end([finishing, *self._tasks])
        elif (error := finishing.exception()) is not None:
            logger.warning("the micro service did not stop cleanly: %s", type(error).__name__)

    async def _finish(self) -> None:
        if self._service is not None:
            await self._service.stop()
            self._service = None
        if self._streams is not None:
            self._streams.stop()
        if self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accepting(
        self, subject: Subject, answer: Callable[[bytes, Principal], Awaitable[bytes]]
    ) -> Callable[[Request], Awaitable[None]]:
        async def respond(request: Request) -> None:
            await self._refusing(request, self._respond(request, answer))

        async def accept(request: Request) -> None:
            self._begin(subject, request, respond)

        return accept

    async def _guard(self, body: bytes, caller: Principal) -> bytes:
        answer = await self._gateway.guard(parse(GuardRequest, body, text_limit=self._text_limit), caller)
        if len(answer) > DETECTION_STREAM.max_message_bytes:
            raise AnswerTooLarge(request_id=UUID(json.loads(answer)["request_id"]))
        return answer

    async def _restore(self, body: bytes, caller: Principal) -> bytes:
        restored = await self._restorer(parse(RestoreRequest, body, text_limit=self._text_limit), caller.tenant)
        content = restored.model_dump_json().encode()
        if len(content) > DETECTION_STREAM.max_message_bytes:
            raise PayloadTooLarge("the restored text does not fit a message", field="text")
        return content

    def _serving_streams(self, streams: StreamEndpoint, connection: Client) -> Callable[[Request], Awaitable[None]]:
        async def serve(request: Request) -> None:
            await self._refusing(request, streams.serve(connection, request, _caller(request)))

        async def accept(request: Request) -> None:
            self._begin(Subject.API_STREAM, request, serve)

        return accept

    def _begin(self, subject: Subject, request: Request, respond: Callable[[Request], Awaitable[None]]) -> None:
        # The client hands over one message at a time: waiting here for a decision would make callers queue.
        task = asyncio.create_task(self._traced(subject, request, respond))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _traced(self, subject: Subject, request: Request, respond: Callable[[Request], Awaitable[None]]) -> None:
        """Answer within the caller's trace; the task is the request's own, and so is its context."""
        work = Correlation(traceparent=correlation.usable((request.headers or {}).get(Header.TRACEPARENT)))
        work.span = tracing.start(subject, tracing.Kind.SERVER, work.traceparent)
        correlation.begin(work)
        if work.span is None:
            await respond(request)
            return
        work.traceparent = work.span.traceparent
        try:
            await respond(request)
        finally:
            work.span.note("messaging.system", "nats")
            if work.request_id is not None:
                work.span.note("vigil.request_id", str(work.request_id))
            work.span.end()

    async def _refusing(self, request: Request, work: Awaitable[None]) -> None:
        """Do the work of a request; what it raises is the answer."""
        try:
            await work
        except VigilError as error:
            await self._refuse(request, error)
        except Exception:
            logger.exception("a request over NATS failed")
            await self._refuse(request, VigilError())

    @staticmethod
    async def _respond(request: Request, answer: Callable[[bytes, Principal], Awaitable[bytes]]) -> None:
        await request.respond(await answer(request.data, _caller(request)), headers=ANSWER_HEADERS)

    @staticmethod
    async def _refuse(request: Request, error: VigilError) -> None:
        work = correlation.current()
        if work is not None and work.span is not None:
            work.span.fail(error.code)
        problem = to_problem(error)
        await request.respond_error(
            str(problem.status), problem.title, problem.model_dump_json().encode(), headers=PROBLEM_HEADERS
        )


def _caller(request: Request) -> Principal:
    """Return whom a message speaks for; NATS' own permissions guard who may send it."""
    headers = request.headers or {}
    return Principal(key_id=key_id_of(headers), tenant=tenant_of(headers))


def _without_caller(answer: Callable[[bytes], Awaitable[bytes]]) -> Callable[[bytes, Principal], Awaitable[bytes]]:
    """Questions name a tenant themselves; NATS' own permissions guard who may ask."""

    async def answer_anybody(body: bytes, caller: Principal) -> bytes:
        return await answer(body)

    return answer_anybody
