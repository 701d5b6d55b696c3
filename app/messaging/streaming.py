"""Answers judged as they come, over NATS: one message opens a stream, its chunks come to a subject of its own.

    -> vigil.api.stream            a StreamOpening; its reply subject is the caller's inbox for all events
    <- inbox                       StreamAddress: the request id, and where chunks go
    -> vigil.api.stream.<token>    chunks, numbered from 1 in the header Vigil-Sequence
    <- inbox                       events, numbered too; last a StreamVerdict, or a problem as of any micro service

The queue group picks the replica at the opening, and that one alone listens to the token. A chunk that asks for an
answer gets an empty one once it was worked on, which is how a caller keeps to the pace; where the stream is gone the
server says at once that nobody listens.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.micro.request import ERROR_CODE_HEADER, ERROR_HEADER, Request

from app.access.principal import Principal
from app.contracts import Problem
from app.errors import InvalidRequest, StreamLost, StreamOutOfOrder, StreamOverrun, VigilError
from app.messaging.envelope import is_inbox
from app.messaging.replies import ANSWER_HEADERS, PROBLEM_HEADERS
from app.settings import StreamSettings
from app.stream_contracts import StreamAddress, StreamEvent, StreamOpening, StreamProblem
from app.streaming.driving import CallerGone, drive
from app.streaming.session import StreamSession
from app.streaming.wire import chunk_of
from app.telemetry import correlation, metrics
from app.topology import Header, chunks_subject
from app.validation import parse

WINDOW: Final = 256
"""Most chunks that wait to be worked on."""
WINDOW_BYTES: Final = 4 * 1024**2
"""Most bytes of them: four of the largest messages."""
TOKEN_BYTES: Final = 18
"""Random bytes of a stream's subject: who knows it may send chunks, and nobody else can guess it."""

OpenStream = Callable[[StreamOpening, Principal], AbstractAsyncContextManager[StreamSession]]


class StreamEndpoint:
    """Answers `vigil.api.stream`."""

    def __init__(self, open_stream: OpenStream, limits: StreamSettings, *, text_limit: int) -> None:
        self._open_stream = open_stream
        self._limits = limits
        self._text_limit = text_limit
        self._under_way: set[Chunks] = set()

    async def serve(self, connection: Client, request: Request, caller: Principal) -> None:
        """Judge an answer from its opening to its last event.

        Raises:
            VigilError: it cannot be opened; its caller has been told nothing yet.
        """
        opening = parse(StreamOpening, request.data or b"{}", text_limit=self._text_limit)
        async with self._open_stream(opening, caller) as session:
            correlation.identify(session.request_id)
            chunks = Chunks(connection)
            await chunks.open()
            self._under_way.add(chunks)
            try:
                await self._drive(session, chunks, Events(request))
            except CallerGone:
                pass  # With the first event: there is nothing to record.
            finally:
                self._under_way.discard(chunks)
                await chunks.close()

    def stop(self) -> None:
        """End all streams under way: their callers are told, and what came of each is judged and recorded."""
        for chunks in self._under_way:
            chunks.fail(StreamLost())

    async def _drive(self, session: StreamSession, chunks: Chunks, events: Events) -> None:
        async def emit(event: StreamEvent) -> None:
            if isinstance(event, StreamProblem):
                await chunks.refuse(event.problem)
            await events.send(event)

        await events.send(StreamAddress(request_id=session.request_id, chunks=chunks.subject, window=WINDOW))
        await drive(session, chunks.next, emit, self._limits)


class Events:
    """What one caller is told, in order and numbered from 1, so that the caller sees when one was lost."""

    def __init__(self, opening: Request) -> None:
        self._opening = opening
        self._sent = 0

    async def send(self, event: StreamEvent | StreamAddress) -> None:
        """Send one event; a problem goes as the answer of a micro service that refuses.

        Raises:
            CallerGone: the connection is closed.
        """
        self._sent += 1
        number = {str(Header.SEQUENCE): str(self._sent)}
        try:
            if isinstance(event, StreamProblem):
                content, headers = _refusal(event.problem)
                await self._opening.respond(content, headers | number)
            else:
                await self._opening.respond(event.model_dump_json().encode(), ANSWER_HEADERS | number)
        except NatsError:
            raise CallerGone from None


class Chunks:
    """The chunks of one answer in their order, each taken once."""

    def __init__(self, connection: Client) -> None:
        self.subject = chunks_subject(secrets.token_urlsafe(TOKEN_BYTES))
        self._connection = connection
        self._subscription: Subscription | None = None
        self._waiting: asyncio.Queue[Msg | VigilError] = asyncio.Queue()
        self._waiting_bytes = 0
        self._last = 0
        """Number of the newest chunk that came."""
        self._failed = False
        self._taken: Msg | None = None
        """The chunk that is worked on."""

    async def open(self) -> None:
        """Listen; the client repeats the subscription by itself after a reconnect."""
        self._subscription = await self._connection.subscribe(self.subject, cb=self._on_chunk)

    async def close(self) -> None:
        """Listen no more: from now on the server answers chunks that ask for an answer with "no responders"."""
        await self._answer()
        if self._subscription is not None and not self._connection.is_closed:
            await self._subscription.unsubscribe()

    async def next(self) -> str | bytes | None:
        """Return the next chunk, None for the end, and answer the one before it, which has been worked on.

        Raises:
            InvalidRequest: it is no chunk, or has no number.
            StreamOutOfOrder: one is missing before it.
            StreamOverrun: more than fit are waiting.
            StreamLost: this process is stopping.
        """
        await self._answer()
        waiting = await self._waiting.get()
        if isinstance(waiting, VigilError):
            raise waiting
        self._waiting_bytes -= len(waiting.data)
        self._taken = waiting
        return chunk_of(waiting.data)

    def fail(self, error: VigilError) -> None:
        """End the stream with a problem, once what came before is worked on."""
        if not self._failed:
            self._failed = True
            self._waiting.put_nowait(error)

    async def refuse(self, problem: Problem) -> None:
        """Answer the chunk under way with a problem."""
        taken, self._taken = self._taken, None
        if taken is not None:
            await self._reply(taken, *_refusal(problem))

    async def _on_chunk(self, message: Msg) -> None:
        number = _number_of(message)
        if self._failed:
            return
        if number is None:
            self.fail(InvalidRequest("must be the chunk's number, from 1", field=Header.SEQUENCE))
        elif number <= self._last:
            await self._reply(message)  # Sent again because its answer was lost.
        elif number > self._last + 1:
            self.fail(StreamOutOfOrder(f"chunk {self._last + 1} is missing: {number} came in its place"))
        elif self._waiting.qsize() >= WINDOW or self._waiting_bytes + len(message.data) > WINDOW_BYTES:
            self.fail(StreamOverrun())
        else:
            self._last = number
            self._waiting_bytes += len(message.data)
            self._waiting.put_nowait(message)

    async def _answer(self) -> None:
        taken, self._taken = self._taken, None
        if taken is not None:
            await self._reply(taken)

    async def _reply(self, message: Msg, content: bytes = b"", headers: dict[str, str] | None = None) -> None:
        if not message.reply:
            return
        if not is_inbox(message.reply):
            metrics.NATS_EVENTS.labels("reply_refused").inc()
            return
        with contextlib.suppress(NatsError):  # Who gets no answer sends the chunk again, or gives up.
            await self._connection.publish(message.reply, content, headers=headers)


def _refusal(problem: Problem) -> tuple[bytes, dict[str, str]]:
    """Return a problem as micro services answer with one: its JSON, and its status and title as headers."""
    named = {ERROR_HEADER: problem.title, ERROR_CODE_HEADER: str(problem.status)}
    return problem.model_dump_json().encode(), PROBLEM_HEADERS | named


def _number_of(message: Msg) -> int | None:
    written = (message.headers or {}).get(Header.SEQUENCE, "")
    return int(written) if written.isascii() and written.isdigit() and len(written) < 10 and int(written) else None
