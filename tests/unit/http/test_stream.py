"""An answer judged as it comes, over HTTP: what becomes of a client that takes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from fastapi import FastAPI

from app.access.principal import ANONYMOUS, Principal
from app.http.gate import PRINCIPAL
from app.http.stream import router
from app.settings import StreamSettings
from app.stream_contracts import StreamEvent, StreamOpened, StreamOpening, StreamText
from app.streaming.session import StreamSession

LIMITS = StreamSettings(idle_timeout_s=0.05)


class Echo:
    """Lets each chunk out as it came."""

    request_id = UUID(int=1)
    ended = False
    abandoned = False

    def opened(self) -> StreamOpened:
        return StreamOpened(request_id=self.request_id)

    async def feed(self, chunk: str) -> AsyncIterator[StreamEvent]:
        yield StreamText(text=chunk)

    async def abandon(self) -> None:
        self.abandoned = True


class Service:
    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        self.session = Echo()
        self.open = 0

    @asynccontextmanager
    async def stream(self, opening: StreamOpening, caller: Principal) -> AsyncIterator[StreamSession]:
        self.open += 1
        yield self.session  # type: ignore[misc]
        self.open -= 1


async def test_the_end_does_not_wait_for_a_client_that_takes_nothing() -> None:
    service = Service()
    app = FastAPI()
    app.include_router(router(service, LIMITS, 1_000))
    body = iter([{"type": "http.request", "body": b'{"text": "a"}\n', "more_body": True}])
    sent: list[dict[str, Any]] = []

    async def receive() -> Any:
        for message in body:
            return message
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Any) -> None:
        if len(sent) == 2:  # The head and the first event: what is sent now waits until the client reads.
            await asyncio.Event().wait()
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/guard/stream",
        "headers": [(b"content-type", b"application/x-ndjson")],
        "query_string": b"",
        PRINCIPAL: ANONYMOUS,
    }
    await asyncio.wait_for(app(scope, receive, send), 10)
    assert service.session.abandoned
    assert service.open == 0
