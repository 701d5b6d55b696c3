"""The client's way over NATS, on a connection that plays the guard's part: times, sizes and what is left behind."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast
from unittest.mock import Mock
from uuid import UUID

import pytest
from nats.aio.client import Client as Connection
from nats.aio.msg import Msg
from nats.errors import TimeoutError as NatsTimeout

from app.client import AsyncClient, InvalidRequest, Patience, RequestExpired
from app.client.exchange import Call, Reply
from app.client.over_nats import AT_ONCE, DECISION, ERROR_CODE, GUARD, SEQUENCE, NatsCarrier, NatsChannel

ID = "11111111-1111-4111-8111-111111111111"


class Silent:
    """A connection on which nobody answers."""

    max_payload = 1000
    is_closed = False

    def __init__(self) -> None:
        self.waits_until: list[float] = []
        self.published = asyncio.Event()
        self.subscriptions = 0

    async def request(self, subject: str, body: bytes, timeout: float) -> None:  # noqa: ASYNC109 - as nats-py has it
        self.waits_until.append(asyncio.get_running_loop().time() + timeout)
        async with asyncio.timeout(timeout):
            await asyncio.Event().wait()

    def new_inbox(self) -> str:
        return "_INBOX.1"

    async def subscribe(self, subject: str, cb: Any) -> Silent:
        self.subscriptions += 1
        return self

    async def unsubscribe(self) -> None:
        self.subscriptions -= 1

    async def publish(self, subject: str, body: bytes, reply: str) -> None:
        self.published.set()


def over(connection: Silent) -> AsyncClient:
    return AsyncClient.over_nats(cast("Connection", connection), on_failure="allow")


async def test_a_batch_takes_no_longer_than_one_try_may_however_many_texts_it_has() -> None:
    connection = Silent()
    requests = [{"text": "a"}] * (3 * AT_ONCE)
    began = asyncio.get_running_loop().time()
    call = Call("POST", "/guard/batch", json.dumps({"requests": requests}).encode(), timeout_s=0.05)
    reply = await NatsCarrier(cast("Connection", connection)).carry(call)
    assert isinstance(reply, Reply)
    assert [each["status"] for each in json.loads(reply.content)["results"]] == [503] * len(requests)
    late_s = max(connection.waits_until) - began - call.timeout_s
    assert late_s < call.timeout_s / 2, "a text that waited for its turn waits as long again"


class Recorded(Silent):
    """A connection on which a request runs out of time, expires, and is judged when it is sent again."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    async def request(self, subject: str, body: bytes, timeout: float) -> Any:  # noqa: ASYNC109 - as nats-py has it
        self.asked.append(subject)
        if subject == DECISION:
            record = {"answer": {"request_id": body.decode(), "decision": "EXPIRED"}}
            return Msg(Mock(), data=json.dumps(record).encode())
        if self.asked.count(GUARD) == 1:
            return Msg(Mock(), data=b"{}", headers={ERROR_CODE: "504"})
        return Msg(Mock(), data=json.dumps({"request_id": ID, "decision": "BLOCKED"}).encode())


async def test_an_expired_request_is_sent_again_as_over_http() -> None:
    connection = Recorded()
    patience = Patience(first_pause_s=0.001)
    guard = AsyncClient.over_nats(cast("Connection", connection), on_failure="raise", patience=patience)
    assert (await guard.guard("a")).blocked
    assert connection.asked == [GUARD, DECISION, GUARD]
    with pytest.raises(RequestExpired) as raised:
        await guard.find(UUID(ID))
    assert (raised.value.status, raised.value.code) == (410, "request-expired")


async def test_an_opening_that_fits_no_message_is_refused_under_every_rule() -> None:
    connection = Silent()
    with pytest.raises(InvalidRequest):
        await anext(aiter(over(connection).stream(["a"], system_prompt="x" * connection.max_payload)))
    assert not connection.published.is_set()


async def test_a_caller_that_is_cancelled_while_a_stream_opens_leaves_no_subscription() -> None:
    connection = Silent()

    async def first() -> str:
        return await anext(aiter(over(connection).stream(["a"])))

    reading = asyncio.create_task(first())
    await connection.published.wait()
    assert connection.subscriptions == 1
    reading.cancel()
    await asyncio.wait({reading})
    assert connection.subscriptions == 0


class Slow(Silent):
    """A connection on which a stream opens, and no chunk is answered in time."""

    def __init__(self) -> None:
        super().__init__()
        self.told = 0
        self.on_event: Any = None

    async def subscribe(self, subject: str, cb: Any) -> Silent:
        self.on_event = cb
        return await super().subscribe(subject, cb)

    async def publish(self, subject: str, body: bytes, reply: str) -> None:
        await self.tell({"event": "open", "chunks": "chunks"})

    async def tell(self, event: dict[str, str]) -> None:
        self.told += 1
        await self.on_event(Msg(Mock(), data=json.dumps(event).encode(), headers={SEQUENCE: str(self.told)}))

    async def request(self, subject: str, body: bytes, timeout: float, headers: Any = None) -> None:  # noqa: ASYNC109
        raise NatsTimeout


async def test_a_verdict_may_take_longer_than_the_answer_to_a_chunk() -> None:
    connection = Slow()
    channel = NatsChannel(cast("Connection", connection))
    assert await channel.open(b"{}", timeout_s=1.0) is None
    await channel.finish()
    verdict = {"event": "verdict", "decision": "ALLOWED"}
    await connection.tell(verdict)
    assert await channel.event() == verdict
