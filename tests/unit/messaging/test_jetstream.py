"""A publish ends with what the stream said of it, however the answer looks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import ConnectionReconnectingError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js.errors import APIError, BadRequestError, NoStreamResponseError, ServiceUnavailableError

from app.messaging.jetstream import JetStream


class Connection:
    """Answers each publish with what a test prepared; None stays silent."""

    def __init__(self, data: bytes | None, headers: dict[str, str] | None = None) -> None:
        self._data = data
        self._headers = headers
        self.headers: dict[str, str] | None = None

    def new_inbox(self) -> str:
        return "_INBOX.test"

    async def subscribe(self, subject: str, cb: Callable[[Msg], Awaitable[None]]) -> None:
        assert subject == "_INBOX.test.*"
        self._deliver = cb

    async def publish(self, subject: str, payload: bytes, reply: str, headers: dict[str, str] | None) -> None:
        self.headers = headers
        if self._data is not None:
            answer = Msg(_client=self, subject=reply, data=self._data, headers=self._headers)  # type: ignore[arg-type]
            await self._deliver(answer)
            await self._deliver(answer)  # A second answer to the same publish changes nothing.


async def opened(data: bytes | None, headers: dict[str, str] | None = None) -> tuple[JetStream, Connection]:
    connection = Connection(data, headers)
    jetstream = JetStream(connection, timeout_s=0.01)  # type: ignore[arg-type]
    await jetstream.open()
    return jetstream, connection


async def test_an_acknowledgement_says_where_the_message_is() -> None:
    jetstream, connection = await opened(b'{"stream": "S", "seq": 7, "duplicate": true}')
    headers = {"Nats-Msg-Id": "1"}
    ack = await jetstream.publish("s.a", b"x", stream="S", headers=headers)
    assert (ack.stream, ack.seq, ack.duplicate) == ("S", 7, True)
    assert connection.headers == {"Nats-Msg-Id": "1", "Nats-Expected-Stream": "S"}
    assert headers == {"Nats-Msg-Id": "1"}


@pytest.mark.parametrize(("code", "error"), [(400, BadRequestError), (503, ServiceUnavailableError), (409, APIError)])
async def test_a_refusal_is_raised_as_the_client_raises_it(code: int, error: type[APIError]) -> None:
    refusal = {"error": {"code": code, "err_code": 10054, "description": "no"}}
    jetstream, _ = await opened(json.dumps(refusal).encode())
    with pytest.raises(error) as raised:
        await jetstream.publish("s.a", b"x")
    assert raised.value.err_code == 10054


async def test_a_subject_without_a_stream_is_said_to_have_none() -> None:
    jetstream, _ = await opened(b"", {"Status": "503"})
    with pytest.raises(NoStreamResponseError):
        await jetstream.publish("s.a", b"x")


@pytest.mark.parametrize("limit_s", [None, 0.001])
async def test_a_silent_stream_ends_in_a_timeout_and_leaves_nothing_waiting(limit_s: float | None) -> None:
    jetstream, _ = await opened(None)
    with pytest.raises(NatsTimeoutError):
        await jetstream.publish("s.a", b"x", timeout=limit_s)
    waiting: dict[str, Any] = jetstream._waiting
    assert not waiting


def unsent(status: int) -> Client:
    """Return a client that sends nothing: what it is given waits for a connection, or for one that hangs."""
    client = Client()
    client._status, client._flush_queue, client._max_pending_size = status, asyncio.Queue(), 2**20
    client._max_payload = 2**20
    client._flusher_task = cast("Any", SimpleNamespace(done=lambda: False))
    return client


async def test_without_a_connection_nothing_is_kept_for_the_next_one() -> None:
    client = unsent(Client.RECONNECTING)
    with pytest.raises(ConnectionReconnectingError):
        await JetStream(client, timeout_s=5).publish("s.a", b"x", buffered=False)
    assert (client._pending, client._pending_data_size) == ([], 0)


async def test_what_was_not_sent_when_a_publish_gave_up_is_not_sent_later() -> None:
    client = unsent(Client.CONNECTED)
    jetstream = JetStream(client, timeout_s=0.01)
    await client.publish("s.before", b"kept")
    for headers in (None, {"Nats-Msg-Id": "1"}):
        with pytest.raises(NatsTimeoutError):
            await jetstream.publish("s.a", b"x", headers=headers, buffered=False)
    with pytest.raises(NatsTimeoutError):
        await jetstream.publish("s.after", b"a stage's result")
    assert [command.split()[1] for command in client._pending] == [b"s.before", b"s.after"]
    assert client._pending_data_size == sum(map(len, client._pending))
