"""The asynchronous client, over HTTP or over a connection to NATS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterable, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar, Unpack
from uuid import UUID

import httpx2

from .calls import NO_PROXY, headers, judged, judged_each, rule
from .channels import Channel, HttpChannel
from .exchange import Call, Lost, Outcome, Reply, Steps, find, restore
from .patience import Attempts, Patience
from .streaming import HttpStream, StreamOptions, Telling
from .streams import AsyncStream
from .types import ChatMessage, Decision, GuardInput, GuardOptions, OnFailure, Restored

if TYPE_CHECKING:
    from nats.aio.client import Client as NatsClient

Result = TypeVar("Result")


class Carrier(Protocol):
    """What takes a call to the guard and brings its reply."""

    async def carry(self, call: Call) -> Reply | Lost: ...

    def channel(self) -> Channel:
        """Return a way for one stream, not opened yet."""
        ...

    async def close(self) -> None: ...


class HttpCarrier:
    def __init__(
        self, url: str, api_key: str | None, http: httpx2.AsyncClient | None, tls: ssl.SSLContext | None = None
    ) -> None:
        self._tls = tls
        self._url = url.rstrip("/")
        self._headers = headers(api_key)
        self._own = http is None
        self._http = http or httpx2.AsyncClient(mounts=NO_PROXY)

    async def carry(self, call: Call) -> Reply | Lost:
        fields = self._headers | ({"Content-Type": "application/json"} if call.body is not None else {})
        try:
            async with asyncio.timeout(call.timeout_s):
                response = await self._http.request(
                    call.method, self._url + call.path, content=call.body, headers=fields, timeout=call.timeout_s
                )
        except (httpx2.RequestError, TimeoutError) as error:
            return Lost(type(error).__name__)
        return Reply(
            response.status_code, {name.lower(): value for name, value in response.headers.items()}, response.content
        )

    def channel(self) -> Channel:
        return HttpChannel(HttpStream(self._url, self._headers), self._tls)

    async def close(self) -> None:
        if self._own:
            await self._http.aclose()


class AsyncClient:
    """The guard for asyncio; the same calls and rules as `Client`.

    Args:
        url: where the guard is, as `http://127.0.0.1:8000`.
        on_failure: what is decided when the guard gives no answer; there is no default, since only the caller knows.
        api_key: sent as a bearer token.
        patience: how long and how often a call tries.
        http: a client of httpx2 with its own proxies, certificates or limits; the caller closes it.
        tls: certificates for streams, which have connections of their own; the system's by default.
        carrier: what takes calls to the guard, in place of HTTP.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        on_failure: OnFailure,
        api_key: str | None = None,
        patience: Patience | None = None,
        http: httpx2.AsyncClient | None = None,
        tls: ssl.SSLContext | None = None,
        carrier: Carrier | None = None,
    ) -> None:
        self._on_failure = rule(on_failure)
        self._patience = patience or Patience()
        self._carrier = carrier or HttpCarrier(url, api_key, http, tls)

    @classmethod
    def over_nats(
        cls, connection: NatsClient, *, on_failure: OnFailure, patience: Patience | None = None
    ) -> AsyncClient:
        """Return a client that asks the guard's micro services over the caller's own connection of nats-py."""
        from .over_nats import NatsCarrier

        return cls(on_failure=on_failure, patience=patience, carrier=NatsCarrier(connection))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._carrier.close()

    async def guard(
        self,
        text: str | None = None,
        *,
        messages: Sequence[ChatMessage] | None = None,
        **options: Unpack[GuardOptions],
    ) -> Decision:
        """Judge one text or a chat; see `Client.guard`."""
        return await self._run(judged(text, options, self._patience, self._on_failure, messages))

    def stream(self, chunks: AsyncIterable[str] | Iterable[str], **options: Unpack[StreamOptions]) -> AsyncStream:
        """Return the pieces of a model's answer that may be shown, while it comes; see `Client.stream`."""
        return AsyncStream(chunks, Telling(options), self._carrier.channel, self._patience, self._on_failure)

    async def guard_batch(self, texts: Iterable[str | GuardInput], **options: Unpack[GuardOptions]) -> list[Decision]:
        """Judge several texts; see `Client.guard_batch`."""
        return await self._run(judged_each(texts, options, self._patience, self._on_failure))

    async def find(self, request_id: UUID) -> Decision:
        """Read an earlier decision; see `Client.find`."""
        return await self._run(find(request_id, Attempts(self._patience)))

    async def restore(self, text: str, restore_map: str, *, request_id: UUID | None = None) -> Restored:
        """Put the values of a sanitized text back into a model's answer; see `Client.restore`."""
        fields: dict[str, Any] = {"text": text, "restore_map": restore_map, "request_id": request_id}
        return await self._run(restore(fields, Attempts(self._patience)))

    async def _run(self, steps: Steps[Result]) -> Result:
        outcome: Outcome = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as end:
                result: Result = end.value
                return result
            if isinstance(step, Call):
                outcome = await self._carrier.carry(step)
            else:
                await asyncio.sleep(step.seconds)
                outcome = None
