"""A standing pull asks for what fits, hands messages on as they come, and stands again after whatever ended it."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from nats.aio.msg import Msg
from nats.errors import TimeoutError as NatsTimeoutError

from app.messaging import pulling
from app.messaging.pulling import PULL_BYTES, StandingPull

INBOX = "_INBOX.test"


class Subscription:
    async def drain(self) -> None:
        """Nothing is under way in memory."""


class Connection:
    """Takes what a pull publishes, and gives it what a test sends."""

    def __init__(self) -> None:
        self.is_connected = True
        self.stats = {"reconnects": 0}
        self.asked: list[int] = []
        self.acknowledged: list[bytes] = []
        self.told = asyncio.Event()
        """Set by each word on a message."""
        self.sent = asyncio.Event()
        self.deliver: Callable[[Msg], Awaitable[None]]

    def new_inbox(self) -> str:
        return INBOX

    async def subscribe(self, subject: str, cb: Callable[[Msg], Awaitable[None]]) -> Subscription:
        assert subject == INBOX
        self.deliver = cb
        return Subscription()

    async def publish(self, subject: str, payload: bytes, reply: str = "") -> None:
        if subject.startswith("$JS.ACK."):
            self.acknowledged.append(payload)
            self.told.set()
            return
        assert reply == INBOX
        self.asked.append(json.loads(payload)["batch"])
        self.sent.set()

    async def asks(self) -> int:
        """Wait for the next pull and return how many messages it asks for."""
        await asyncio.wait_for(self.sent.wait(), 5)
        self.sent.clear()
        return self.asked[-1]

    async def message(self, size: int = 1) -> Msg:
        message = Msg(
            _client=self,  # type: ignore[arg-type]
            data=b"x" * size,
            reply="$JS.ACK.S.D.1.1.1.1.1",
        )
        await self.deliver(message)
        return message

    async def status(self, code: str, **headers: str) -> None:
        await self.deliver(Msg(_client=self, data=b"", headers={"Status": code, **headers}))  # type: ignore[arg-type]


class Standing:
    """A pull that is open and keeps asking."""

    def __init__(
        self, window: int, handler: Callable[[Msg], Awaitable[Any]] | None = None, *, keep_s: float = math.inf
    ) -> None:
        self.connection = Connection()
        self.running = True
        self.pull = StandingPull(
            self.connection,  # type: ignore[arg-type]
            "$JS.API.CONSUMER.MSG.NEXT.S.D",
            window,
            handler=handler,
            running=lambda: self.running,
            keep_s=keep_s,
        )

    async def __aenter__(self) -> Standing:
        await self.pull.open()
        self.asking = asyncio.create_task(self.pull.keep_asking())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.asking.cancel()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulling, "LOOK_S", 0.01)
    monkeypatch.setattr(pulling, "MISSING_PAUSE_S", 0.0)


async def test_the_first_pull_is_small_and_later_ones_grow_with_what_is_seen() -> None:
    standing = Standing(1000)
    await standing.pull.open()
    rooms = [standing.pull._room()]
    while rooms[-1] < 1000:
        await standing.connection.message(1000)
        await standing.pull.fetch(1)
        rooms.append(standing.pull._room())
    assert rooms[0] == PULL_BYTES // pulling.LARGEST_MESSAGE_BYTES
    assert rooms == sorted(rooms)


async def test_large_messages_make_the_next_pull_small() -> None:
    standing = Standing(1000)
    await standing.pull.open()
    for size in [1000] * 300 + [900_000]:
        await standing.connection.message(size)
        await standing.pull.fetch(1)
    assert standing.pull._room() == PULL_BYTES // 900_000


async def test_no_more_messages_are_asked_for_than_may_be_in_work() -> None:
    release = asyncio.Event()
    begun: list[Msg] = []

    async def work(message: Msg) -> None:
        begun.append(message)
        await release.wait()

    async with Standing(4, work) as standing:
        assert await standing.connection.asks() == 4
        for _ in range(4):
            await standing.connection.message()
        await standing.connection.status("408")
        await asyncio.sleep(0)
        assert len(begun) == 4
        assert standing.connection.asked == [4]
        release.set()
        await standing.connection.asks()
        assert sum(standing.connection.asked) <= 8


async def test_fetch_gives_what_came_when_its_time_is_over() -> None:
    async with Standing(10) as standing:
        await standing.connection.asks()
        first = await standing.connection.message()
        assert await standing.pull.fetch(10, timeout=0.01) == [first]
        with pytest.raises(NatsTimeoutError):
            await standing.pull.fetch(10, timeout=0.01)


async def test_what_waits_behind_a_batch_in_work_is_not_delivered_again() -> None:
    async with Standing(10, keep_s=0.01) as standing:
        await standing.connection.asks()
        await standing.connection.message()
        await standing.pull.fetch(10, timeout=0)
        waiting = await standing.connection.message()
        for _ in range(2):
            standing.connection.told.clear()
            await asyncio.wait_for(standing.connection.told.wait(), 5)
        assert await standing.pull.fetch(10, timeout=0) == [waiting]
    assert set(standing.connection.acknowledged) == {b"+WPI"}


async def test_fetch_ends_as_soon_as_a_batch_is_full() -> None:
    async with Standing(10) as standing:
        await standing.connection.asks()
        fetching = asyncio.create_task(standing.pull.fetch(2, timeout=60))
        await asyncio.sleep(0)
        sent = [await standing.connection.message(), await standing.connection.message()]
        assert await asyncio.wait_for(fetching, 5) == sent


@pytest.mark.parametrize(
    ("code", "headers"),
    [
        ("408", {"Nats-Pending-Messages": "10"}),
        ("404", {}),
        ("409", {"Description": "Consumer Deleted"}),
        ("503", {}),
    ],
)
async def test_a_pull_that_ended_is_asked_again(code: str, headers: dict[str, str]) -> None:
    async with Standing(10) as standing:
        assert await standing.connection.asks() == 10
        await standing.connection.status(code, **headers)
        assert await standing.connection.asks() == 10


async def test_heartbeats_end_no_pull() -> None:
    async with Standing(10) as standing:
        await standing.connection.asks()
        await standing.connection.status("100")
        await standing.connection.message()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(standing.connection.sent.wait(), 0.05)


async def test_a_new_connection_knows_no_pull_of_the_old_one() -> None:
    async with Standing(10) as standing:
        await standing.connection.asks()
        standing.connection.stats["reconnects"] += 1
        assert await standing.connection.asks() == 10


async def test_a_pull_of_which_nothing_is_heard_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulling, "HEARTBEAT_S", 0.01)
    async with Standing(10) as standing:
        await standing.connection.asks()
        assert await standing.connection.asks() == 10


async def test_what_was_not_worked_on_is_handed_back_at_the_end() -> None:
    worked: list[Msg] = []

    async def work(message: Msg) -> None:
        if standing.running:
            worked.append(message)
            message._ackd = True

    async with Standing(10, work) as standing:
        await standing.connection.asks()
        await standing.connection.message()
        await asyncio.sleep(0)
        standing.running = False
        await standing.connection.message()
        await standing.pull.unsubscribe()
    assert len(worked) == 1
    assert standing.connection.acknowledged == [b"-NAK"]


async def test_what_was_fetched_and_not_acknowledged_is_handed_back_at_the_end() -> None:
    async with Standing(10) as standing:
        await standing.connection.asks()
        for _ in range(3):
            await standing.connection.message()
        written, _ = await standing.pull.fetch(2)
        await standing.pull.fetch(1)
        written._ackd = True
        standing.running = False
        await standing.pull.unsubscribe()
    assert standing.connection.acknowledged == [b"-NAK"] * 2
