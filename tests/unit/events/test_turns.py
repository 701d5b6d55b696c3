"""One thread for the event log: what is written waits for no queue, and a queue of questions has an end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from app.errors import EventLogUnavailable, Overloaded, QueryTimeout
from app.events import turns as module
from app.events.turns import Turns

LONG_S = 10.0
SHORT_S = 0.05


class Held:
    """A call that ends when it may, and tells when it has begun."""

    def __init__(self) -> None:
        self.may = threading.Event()
        self.began = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def __call__(self) -> str:
        self._loop.call_soon_threadsafe(self.began.set)
        assert self.may.wait(LONG_S)
        return "held"


@pytest.fixture
async def turns() -> AsyncIterator[Turns]:
    made = Turns()
    yield made
    await made.close(lambda: None)


async def under_way(turns: Turns) -> tuple[Held, asyncio.Task[str]]:
    """Let a question keep the thread until its `may` is set."""
    held = Held()
    asked = asyncio.create_task(turns.read(held, LONG_S))
    await held.began.wait()
    return held, asked


async def test_what_is_written_goes_before_questions_that_wait(turns: Turns) -> None:
    held, asked = await under_way(turns)
    order: list[str] = []
    waiting = [asyncio.create_task(turns.read(lambda: order.append("read"), LONG_S)) for _ in range(3)]
    await asyncio.sleep(0)
    writing = [asyncio.create_task(turns.write(lambda name=name: order.append(name))) for name in ("first", "second")]
    await asyncio.sleep(0)
    held.may.set()
    await asyncio.gather(asked, *waiting, *writing)
    assert order == ["first", "second", "read", "read", "read"]


async def test_more_questions_than_can_be_answered_are_refused_at_once_and_writes_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MOST_READS", 3)
    turns = Turns()
    held, asked = await under_way(turns)
    waiting = [asyncio.create_task(turns.read(lambda: 1, LONG_S)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await turns.read(lambda: 1, LONG_S)
    writing = asyncio.create_task(turns.write(lambda: 2))
    await asyncio.sleep(0)
    held.may.set()
    assert await asyncio.gather(asked, *waiting, writing) == ["held", 1, 1, 2]
    assert await turns.write(lambda: "the thread has left the questions behind") is not None
    assert await asyncio.gather(*(turns.read(lambda: 3, LONG_S) for _ in range(3))) == [3, 3, 3]
    await turns.close(lambda: None)


async def test_a_question_whose_turn_does_not_come_is_refused_and_never_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MOST_READS", 2)
    turns = Turns()
    held, asked = await under_way(turns)
    made: list[str] = []
    with pytest.raises(Overloaded):
        await turns.read(lambda: made.append("asked for nobody"), SHORT_S)
    with pytest.raises(Overloaded):  # It lies in the queue until the thread gets there: another would make it grow.
        await turns.read(lambda: made.append("one too many"), LONG_S)
    held.may.set()
    await asked
    await turns.write(lambda: None)
    await turns.read(lambda: made.append("later"), LONG_S)
    assert made == ["later"]
    await turns.close(lambda: None)


async def test_an_answer_that_does_not_come_is_waited_for_until_the_deadline_alone(turns: Turns) -> None:
    held = Held()
    with pytest.raises(QueryTimeout):
        await turns.read(held, SHORT_S)
    held.may.set()


async def test_a_failure_comes_to_who_asked_and_ends_nothing(turns: Turns) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await turns.read(fail, LONG_S)
    with pytest.raises(ZeroDivisionError):
        await turns.write(fail)
    assert await turns.write(lambda: 1) == 1


async def test_closing_comes_last_and_nothing_after_it() -> None:
    turns = Turns()
    held, asked = await under_way(turns)
    order: list[str] = []
    closing = asyncio.create_task(turns.close(lambda: order.append("closed")))
    await asyncio.sleep(0)
    waiting = asyncio.create_task(turns.read(lambda: order.append("read"), LONG_S))
    await asyncio.sleep(0)
    held.may.set()
    await asyncio.gather(asked, closing, waiting)
    assert order == ["read", "closed"]
    with pytest.raises(EventLogUnavailable):
        await turns.write(lambda: None)
