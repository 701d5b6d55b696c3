"""Streams over a real nats-server: each lives in one replica, and loses, repeats and mixes up no chunk unnoticed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import NoRespondersError

from app.access.principal import Principal
from app.contracts import Mode, Verdict
from app.errors import Overloaded
from app.messaging import streaming
from app.messaging.microservice import GuardMicroservice
from app.messaging.streaming import StreamEndpoint
from app.settings import StreamSettings
from app.stream_contracts import StreamEvent, StreamOpening, StreamStopped, StreamText, StreamVerdict
from app.streaming.session import StreamSession

pytestmark = pytest.mark.integration


async def settled(connection: Client) -> None:
    """Return once the server has worked on all that was sent; nats-py's flush can overtake what is still buffered."""
    inbox = connection.new_inbox()
    own = await connection.subscribe(inbox)
    await connection.publish(inbox, b"")
    await own.next_msg(10)


LIMITS = StreamSettings(idle_timeout_s=10, pause_s=5)


@dataclass
class Echo:
    """A session that lets everything out under its replica's name, and stops at the word STOP."""

    replica: str
    opening: StreamOpening
    caller: Principal
    request_id: UUID = field(default_factory=uuid4)
    text: str = ""
    ended: bool = False
    abandoned: bool = False
    gate: asyncio.Event | None = None

    async def feed(self, chunk: str) -> AsyncIterator[StreamEvent]:
        if self.gate is not None:
            await self.gate.wait()
        self.text += chunk
        if "STOP" in chunk:
            yield StreamStopped(reason="policy")
            async for event in self.finish():
                yield event
        else:
            yield StreamText(text=f"{self.replica}:{chunk}")

    async def pause(self) -> AsyncIterator[StreamEvent]:
        return
        yield

    async def finish(self) -> AsyncIterator[StreamEvent]:
        self.ended = True
        yield StreamVerdict(
            decision=Verdict.ALLOWED, stopped="STOP" in self.text, redacted=0, withheld=0, restored=0, answer=None
        )

    async def abandon(self) -> None:
        self.abandoned = True


@dataclass
class Replica:
    name: str
    limits: StreamSettings = LIMITS
    sessions: list[Echo] = field(default_factory=list)
    gate: asyncio.Event | None = None
    connection: Client | None = None
    service: GuardMicroservice | None = None
    endpoint: StreamEndpoint | None = None

    @asynccontextmanager
    async def open(self, opening: StreamOpening, caller: Principal) -> AsyncIterator[StreamSession]:
        if opening.policy == "full":
            raise Overloaded
        session = Echo(self.name, opening, caller, gate=self.gate)
        self.sessions.append(session)
        yield session  # type: ignore[misc]

    async def start(self, server: str) -> Replica:
        self.connection = await nats.connect(server)
        self.endpoint = StreamEndpoint(self.open, self.limits, text_limit=1_000)
        self.service = GuardMicroservice(
            None,  # type: ignore[arg-type]
            None,  # type: ignore[arg-type]
            version="0.0.0",
            text_limit=1_000,
            streams=self.endpoint,
        )
        await self.service.start(self.connection)
        await settled(self.connection)
        return self

    async def stop(self) -> None:
        assert self.service is not None
        assert self.connection is not None
        if not self.connection.is_closed:
            await self.service.stop(5)
            await self.connection.close()

    async def lose(self) -> None:
        """Lose the connection for good, as a process that is killed does."""
        assert self.service is not None
        assert self.endpoint is not None
        assert self.connection is not None
        await self.connection.close()
        self.endpoint.stop()
        await asyncio.gather(*self.service._tasks)


class Caller:
    """One stream as a caller of nats-py sees it."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.chunks = ""
        self.sent = 0
        self._events: asyncio.Queue[Msg] = asyncio.Queue()

    async def open(self, opening: bytes = b"", **headers: str) -> dict[str, Any]:
        inbox = self.client.new_inbox()
        await self.client.subscribe(inbox, cb=self._events.put)
        await settled(self.client)
        await self.client.publish("vigil.api.stream", opening, reply=inbox, headers=headers or None)
        event = await self.event()
        self.chunks = event.get("chunks", "")
        return event

    async def message(self) -> Msg:
        return await asyncio.wait_for(self._events.get(), 10)

    async def event(self) -> dict[str, Any]:
        event: dict[str, Any] = json.loads((await self.message()).data)
        return event

    async def publish(self, number: object, chunk: dict[str, Any], reply: str = "") -> None:
        headers = {"Vigil-Sequence": str(number)}
        await self.client.publish(self.chunks, json.dumps(chunk).encode(), reply=reply, headers=headers)

    async def send(self, chunk: dict[str, Any]) -> Msg:
        """Send the next chunk and wait for its answer."""
        self.sent += 1
        headers = {"Vigil-Sequence": str(self.sent)}
        return await self.client.request(self.chunks, json.dumps(chunk).encode(), timeout=10, headers=headers)


@pytest.fixture
async def client(server: str) -> AsyncIterator[Client]:
    connection = await nats.connect(server)
    yield connection
    await connection.close()


@pytest.fixture
async def replica(server: str) -> AsyncIterator[Replica]:
    running = await Replica("a").start(server)
    yield running
    await running.stop()


@pytest.fixture
def caller(client: Client, replica: Replica) -> Caller:
    return Caller(client)


async def test_an_answer_is_judged_chunk_by_chunk_and_its_events_are_numbered(caller: Caller, replica: Replica) -> None:
    opened = await caller.open(
        b'{"mode": "fast", "policy": "strict"}', **{"Vigil-Tenant": "acme", "Vigil-Key-Id": "k1"}
    )
    assert opened["event"] == "open"
    assert opened["chunks"].startswith("vigil.api.stream.")
    assert opened["window"] == streaming.WINDOW
    session = replica.sessions[0]
    assert UUID(opened["request_id"]) == session.request_id
    assert (session.opening.mode, session.opening.policy, session.caller.tenant) == (Mode.FAST, "strict", "acme")
    assert (await caller.send({"text": "one"})).data == b""
    assert (await caller.send({"choices": [{"delta": {"content": "two"}}]})).data == b""
    await caller.send({"done": True})
    messages = [await caller.message() for _ in range(3)]
    assert [json.loads(each.data)["event"] for each in messages] == ["text", "text", "verdict"]
    assert [json.loads(each.data).get("text") for each in messages[:2]] == ["a:one", "a:two"]
    assert [(each.headers or {})["Vigil-Sequence"] for each in messages] == ["2", "3", "4"]


async def test_where_the_stream_has_ended_nobody_listens_any_more(caller: Caller) -> None:
    await caller.open()
    await caller.send({"text": "STOP"})
    assert [(await caller.event())["event"] for _ in range(2)] == ["stop", "verdict"]
    with pytest.raises(NoRespondersError):
        await caller.send({"text": "more"})


async def test_a_chunk_sent_twice_is_taken_once(caller: Caller, replica: Replica) -> None:
    await caller.open()
    await caller.send({"text": "one"})
    caller.sent = 0
    assert (await caller.send({"text": "one"})).data == b""
    await caller.send({"done": True})
    await caller.message()
    assert (await caller.event())["event"] == "verdict"
    assert replica.sessions[0].text == "one"


@pytest.mark.parametrize(
    ("number", "chunk", "status", "field"),
    [
        (3, {"text": "three"}, 409, None),
        ("", {"text": "two"}, 422, "Vigil-Sequence"),
        ("0", {"text": "two"}, 422, "Vigil-Sequence"),
        ("-2", {"text": "two"}, 422, "Vigil-Sequence"),
        (2, {"text": 7}, 422, "chunk"),
        (2, {"bytes": "%"}, 422, "bytes"),
    ],
)
async def test_a_lost_or_unusable_chunk_ends_the_stream_with_a_problem_and_a_record(
    number: object, chunk: dict[str, Any], status: int, field: str | None, caller: Caller, replica: Replica
) -> None:
    await caller.open()
    await caller.send({"text": "one"})
    await caller.message()
    await caller.publish(number, chunk)
    message = await caller.message()
    problem = json.loads(message.data)
    headers = message.headers or {}
    assert (headers["Nats-Service-Error-Code"], headers["content-type"]) == (str(status), "application/problem+json")
    assert problem["status"] == status
    assert problem["request_id"] == str(replica.sessions[0].request_id)
    assert [each["field"] for each in problem["errors"]] == ([field] if field else [])
    assert replica.sessions[0].abandoned


async def test_the_chunk_that_is_refused_is_answered_with_the_problem_too(caller: Caller) -> None:
    await caller.open()
    answer = await caller.send({"text": 7})
    assert (answer.headers or {})["Nats-Service-Error-Code"] == "422"
    assert json.loads(answer.data) == await caller.event()


@pytest.mark.parametrize(
    ("opening", "status", "field"),
    [(b"{", 400, "body"), (b'{"polisy": "a"}', 422, "polisy"), (b'{"policy": "full"}', 503, None)],
)
async def test_what_cannot_be_opened_is_refused_as_by_any_micro_service(
    opening: bytes, status: int, field: str | None, caller: Caller, replica: Replica
) -> None:
    problem = await caller.open(opening)
    assert problem["status"] == status
    assert [each["field"] for each in problem["errors"]] == ([field] if field else [])
    assert replica.sessions == []


async def test_a_missing_end_is_noticed(client: Client, server: str) -> None:
    replica = await Replica("a", StreamSettings(idle_timeout_s=0.2, pause_s=0.1)).start(server)
    caller = Caller(client)
    await caller.open()
    await caller.send({"text": "one"})
    await caller.message()
    assert (await caller.event())["status"] == 408
    assert replica.sessions[0].abandoned
    await replica.stop()


async def test_more_than_fits_the_window_is_refused(client: Client, server: str) -> None:
    gate = asyncio.Event()
    replica = await Replica("a", gate=gate).start(server)
    caller = Caller(client)
    await caller.open()
    for number in range(streaming.WINDOW + 3):
        await caller.publish(number + 1, {"text": "."})
    assert replica.endpoint is not None
    (chunks,) = replica.endpoint._under_way
    async with asyncio.timeout(10):
        while not chunks._failed:
            await settled(replica.connection or client)
    gate.set()
    while (event := await caller.event()).get("event") == "text":
        pass
    assert (event["status"], event["type"].rpartition(":")[2]) == (429, "stream-overrun")
    await replica.stop()


async def test_a_stopping_process_tells_its_callers_and_leaves_a_record(caller: Caller, replica: Replica) -> None:
    await caller.open()
    await caller.send({"text": "one"})
    await caller.message()
    await replica.stop()
    assert (await caller.event())["status"] == 503
    assert replica.sessions[0].abandoned


async def test_an_answer_goes_to_an_inbox_alone(caller: Caller, client: Client) -> None:
    heard = await client.subscribe("vigil.guard.input")
    await client.publish("vigil.api.stream", b"{}", reply="vigil.guard.input")
    await caller.open()
    await caller.publish(1, {"text": "one"}, reply="vigil.guard.input")
    assert (await caller.event())["event"] == "text"
    await caller.publish(2, {"done": True})
    assert (await caller.event())["event"] == "verdict"
    await settled(client)
    assert heard.pending_msgs == 0


async def test_each_stream_lives_in_one_replica(client: Client, server: str, replica: Replica) -> None:
    other = await Replica("b").start(server)
    callers = [Caller(client) for _ in range(12)]
    for each in callers:
        await each.open()
    assert replica.sessions
    assert other.sessions
    for each in callers:
        for text in ("one", "two"):
            await each.send({"text": text})
        told = {(await each.event())["text"][0] for _ in range(2)}
        assert len(told) == 1
    assert {session.text for session in (*replica.sessions, *other.sessions)} == {"onetwo"}
    await replica.lose()
    await settled(client)
    lost = 0
    for each in callers:
        try:
            await each.send({"text": "three"})
        except NoRespondersError:
            lost += 1
    assert lost == len(replica.sessions)
    assert all(session.abandoned for session in replica.sessions)
    await other.stop()
