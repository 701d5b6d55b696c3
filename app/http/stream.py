"""POST /guard/stream: an answer is judged as it comes; request and response run side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol

from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.access.principal import Principal
from app.errors import StreamIdle, StreamLost, UnsupportedMediaType
from app.http.body import refuse_encoded
from app.http.gate import principal_of
from app.http.guard import problems_of
from app.settings import StreamSettings
from app.stream_contracts import (
    StreamChunk,
    StreamEvent,
    StreamOpened,
    StreamOpening,
    StreamProblem,
    StreamStopped,
    StreamText,
    StreamVerdict,
)
from app.streaming.driving import CallerGone, drive
from app.streaming.session import StreamSession
from app.streaming.wire import Events, Lines, chunk_of, opening_of

NDJSON: Final = "application/x-ndjson"
EVENT_STREAM: Final = "text/event-stream"
LINES: Final = {NDJSON: Lines, "application/jsonl": Lines, "application/json": Lines, EVENT_STREAM: Events}
"""How each media type parts chunks."""
HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""The second one asks a proxy in front not to collect events."""
EXAMPLE: Final = '{"policy": "balanced"}\n{"text": "Write to an"}\n{"text": "na@example.com"}\n{"done": true}\n'
EVENTS: Final = (StreamOpened, StreamText, StreamStopped, StreamVerdict, StreamProblem)


def _references(models: Iterable[type[Any]]) -> list[dict[str, str]]:
    return [{"$ref": f"#/components/schemas/{model.__name__}"} for model in models]


def _read() -> dict[str, Any]:
    return {
        media_type: {"schema": {"oneOf": _references((StreamOpening, StreamChunk))}, "example": EXAMPLE}
        for media_type in (NDJSON, EVENT_STREAM)
    }


def _written() -> dict[str, Any]:
    return {media_type: {"schema": {"oneOf": _references(EVENTS)}} for media_type in (NDJSON, EVENT_STREAM)}


RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "Events, one JSON object a line, or as server-sent events.", "content": _written()},
    **problems_of(400, 413, 415, 422, 503),
}


class Streams(Protocol):
    """What this endpoint needs of the service."""

    @property
    def stopping(self) -> asyncio.Event:
        """Set once the process stops: the web server waits for all open connections before anything else ends."""
        ...

    def stream(self, opening: StreamOpening, caller: Principal) -> AbstractAsyncContextManager[StreamSession]: ...


def router(service: Streams, limits: StreamSettings, text_limit: int) -> APIRouter:
    routes = APIRouter(tags=["guard"])

    @routes.post(
        "/guard/stream",
        response_class=Response,
        responses=RESPONSES,
        openapi_extra={"requestBody": {"required": True, "content": _read()}},
        summary="Judge an answer as it comes",
    )
    async def stream(request: Request) -> Response:
        """Let out of a model's answer what is safe, and stop it at the first violation.

        The first line may be a StreamOpening; each further one is a StreamChunk or a chunk of OpenAI's API.
        """
        media_type = request.headers.get("content-type", NDJSON).partition(";")[0].strip().lower()
        if media_type not in LINES:
            raise UnsupportedMediaType(f"the body must be {NDJSON} or {EVENT_STREAM}", field="content-type")
        refuse_encoded(request)
        as_events = EVENT_STREAM in request.headers.get("accept", "")
        return _Duplex(service, principal_of(request.scope), LINES[media_type](), as_events, limits, text_limit)

    return routes


class _Duplex(Response):
    """Reads the request's body while the response is under way, which no response of the framework does."""

    def __init__(
        self,
        service: Streams,
        caller: Principal,
        lines: Lines,
        as_events: bool,
        limits: StreamSettings,
        text_limit: int,
    ) -> None:
        super().__init__(media_type=EVENT_STREAM if as_events else NDJSON, headers=HEADERS)
        del self.headers["content-length"]
        self._service = service
        self._caller = caller
        self._lines = lines
        self._as_events = as_events
        self._limits = limits
        self._text_limit = text_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        stopping = asyncio.ensure_future(self._service.stopping.wait())
        try:
            await self._judge(_Chunks(receive, self._lines), stopping, send)
        finally:
            stopping.cancel()

    async def _judge(self, chunks: _Chunks, stopping: asyncio.Future[Any], send: Send) -> None:
        try:
            first = await chunks.first(self._limits.idle_timeout_s, stopping)
            opening = None if first is None else opening_of(first, text_limit=self._text_limit)
            if opening is None and first is not None:
                chunks.put_back(first)
            async with self._service.stream(opening or StreamOpening(), self._caller) as session:
                await self._drive(session, chunks, stopping, send)
        except CallerGone:
            return  # Before the stream was opened, or with its first event: there is nothing to record.

    async def _drive(self, session: StreamSession, chunks: _Chunks, stopping: asyncio.Future[Any], send: Send) -> None:
        async def emit(event: StreamEvent) -> None:
            try:
                await send({"type": "http.response.body", "body": self._encoded(event), "more_body": True})
            except OSError:
                raise CallerGone from None

        async def receive() -> str | bytes | None:
            line = await chunks.next()
            return None if line is None else chunk_of(line)

        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await emit(session.opened())
        if await drive(session, receive, emit, self._limits, stopping):
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        # Else the end would wait for the client too, and the stream's place with it: the server closes the connection.

    def _encoded(self, event: StreamEvent) -> bytes:
        content = event.model_dump_json()
        return f"event: {event.event}\ndata: {content}\n\n".encode() if self._as_events else f"{content}\n".encode()


class _Chunks:
    """The lines of a request's body, one after the other."""

    def __init__(self, receive: Receive, lines: Lines) -> None:
        self._receive = receive
        self._lines = lines
        self._ready: list[bytes] = []
        self._complete = False

    def put_back(self, line: bytes) -> None:
        self._ready.insert(0, line)

    async def first(self, timeout_s: float, stopping: asyncio.Future[Any]) -> bytes | None:
        """Return the first line; None when the body has none.

        Raises:
            StreamIdle: none came within that time.
            StreamLost: none has come and the process stops.
            CallerGone, PayloadTooLarge: as `next`.
        """
        coming = asyncio.ensure_future(self.next())
        try:
            await asyncio.wait({coming, stopping}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if coming.done():
                return coming.result()
            raise StreamLost if stopping.done() else StreamIdle
        finally:
            coming.cancel()

    async def next(self) -> bytes | None:
        """Return the next line; None when the body has ended.

        Raises:
            CallerGone: the client closed the connection.
            PayloadTooLarge: a line is too long.
        """
        while not self._ready and not self._complete:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise CallerGone
            self._ready += self._lines.feed(message.get("body", b""))
            if not message.get("more_body", False):
                self._complete = True
                self._ready += self._lines.finish()
        return self._ready.pop(0) if self._ready else None
