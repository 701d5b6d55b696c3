"""The event log's edge: failures become EventLogUnavailable without a word of any row, and nothing stays open."""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr

from app.errors import ConfigurationError, EventLogBusy, EventLogUnavailable, Overloaded, QueryTimeout
from app.events.embedded import EmbeddedEngineLock
from app.events.engine import LOCK_FILE, Engine
from app.events.erasing import Stretch
from app.events.log import UNANSWERED, EventLog
from app.events.turns import MOST_READS
from app.identity import now
from app.log_contracts import ForgetKind, ForgetOrder, Removed
from app.settings import EventLogSettings, Settings
from tests.unit.events.records import plain_record


class FailingEngine(Engine):
    """Fails to insert with a message that quotes the row, as ClickHouse does."""

    def insert(self, records: object) -> None:
        raise ValueError("cannot parse 'pesel 44051401359'")


class ShortOfTime(Exception):
    """As the driver tells that a statement ran past `max_execution_time`."""

    code = 159


class LimitedEngine(Engine):
    """Is cut off at each insert by a limit of the server's."""

    def insert(self, records: object) -> None:
        raise ShortOfTime


class HeldEngine(Engine):
    """Answers questions once it may, and notes what it was asked for; pings as it is told to."""

    def __init__(self, state_dir: Path, *, timeout_s: float = 10.0) -> None:
        super().__init__(Settings(state_dir=state_dir, event_log=EventLogSettings(query_timeout_s=timeout_s)))
        self.may = threading.Event()
        self.began = asyncio.Event()
        self.calls: list[str] = []
        self.pinged = self.calls.append
        self._loop = asyncio.get_running_loop()

    @property
    def reader(self) -> HeldEngine:  # type: ignore[override]
        return self

    def find(self, request_id: UUID) -> None:
        self._hold("find")

    def insert(self, records: object) -> None:
        self.calls.append("insert")

    def ping(self) -> None:
        self.pinged("ping")

    def _hold(self, call: str) -> None:
        self._loop.call_soon_threadsafe(self.began.set)
        assert self.may.wait(10)
        self.calls.append(call)


class ErasingEngine(HeldEngine):
    """Searches two stretches, each once it may."""

    apart = False

    @property
    def erases_apart(self) -> bool:
        return self.apart

    def stretches(self) -> list[Stretch]:
        return [Stretch("events", "20261127"), Stretch("events", "20261128")]

    def search(self, order: ForgetOrder, stretch: Stretch) -> Removed:
        self._hold("search")
        return Removed(events=1)

    def erase(self, order: ForgetOrder, found: Removed) -> None:
        self.calls.append("erase")

    def erasing(self) -> bool:
        return False


class ErasingApart(ErasingEngine):
    apart = True


class ErasingTooLong(ErasingApart):
    """Is cut off at each search by the limit of its own."""

    def search(self, order: ForgetOrder, stretch: Stretch) -> Removed:
        raise ShortOfTime


class NotingClient:
    """Has no rows, and notes how long each statement may take."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options, self.database, self.closed = options, "", False
        self.allowed_s: list[int | None] = []

    def query(self, sql: str, *, settings: dict[str, int] | None = None, **_: Any) -> SimpleNamespace:
        self.allowed_s.append((settings or {}).get("max_execution_time"))
        return SimpleNamespace(result_rows=[(0,)])

    def close(self) -> None:
        self.closed = True


ORDER = ForgetOrder(forget_id=uuid4(), kind=ForgetKind.TENANT, salt="00" * 16, fingerprint="ab", asked_at=now())


def settings_for(url: str, state_dir: Path) -> Settings:
    return Settings(state_dir=state_dir, clickhouse_url=SecretStr(url), event_log=EventLogSettings(query_timeout_s=1.0))


def test_a_failure_names_its_class_and_never_its_message(tmp_path: Path) -> None:
    log = EventLog(FailingEngine(Settings(state_dir=tmp_path, clickhouse_url=None)))
    with pytest.raises(EventLogUnavailable) as caught:
        asyncio.run(log.append([plain_record()]))
    assert "ValueError" in caught.value.message
    assert "pesel" not in caught.value.message
    assert caught.value.__suppress_context__


def test_a_closed_port_is_unavailable(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(EventLogUnavailable):
        asyncio.run(EventLog.open(settings_for(f"http://user:secret@127.0.0.1:{port}", tmp_path)))


def test_a_server_that_never_answers_is_unavailable(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(EventLogUnavailable) as caught:
            asyncio.run(EventLog.open(settings_for(f"http://user:secret@127.0.0.1:{port}", tmp_path)))
    assert "secret" not in caught.value.message


def test_the_driver_logs_nothing_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        asyncio.run(EventLog.open(settings_for("http://", tmp_path)))
    assert not logging.getLogger("clickhouse_connect.driver.streaming").isEnabledFor(logging.ERROR)


@pytest.mark.parametrize("url", ["clickhouse://host", "http://host:8123/mydb", "host:8123", "http://"])
def test_an_address_that_cannot_be_used_is_refused_without_being_quoted(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        asyncio.run(EventLog.open(settings_for(url, tmp_path)))
    assert url not in caught.value.message


def test_the_embedded_log_is_busy_while_its_lock_is_held(tmp_path: Path) -> None:
    lock = EmbeddedEngineLock(tmp_path / LOCK_FILE)
    lock.acquire()
    with pytest.raises(EventLogBusy):
        asyncio.run(EventLog.open(Settings(state_dir=tmp_path, clickhouse_url=None)))
    lock.release()


def test_the_lock_can_be_taken_again_after_release(tmp_path: Path) -> None:
    first, second = EmbeddedEngineLock(tmp_path / "lock"), EmbeddedEngineLock(tmp_path / "lock")
    first.acquire()
    first.acquire()
    with pytest.raises(EventLogBusy):
        second.acquire()
    assert not second.held
    first.release()
    second.acquire()
    second.release()


def test_a_closed_log_refuses_calls_and_closes_twice(tmp_path: Path) -> None:
    async def scenario() -> None:
        log = EventLog(Engine(Settings(state_dir=tmp_path, clickhouse_url=None)))
        await log.close()
        await log.close()
        with pytest.raises(EventLogUnavailable):
            await log.append([plain_record()])
        with pytest.raises(EventLogUnavailable):
            await log.ping()

    asyncio.run(scenario())


def test_importing_the_room_loads_neither_client_nor_engine() -> None:
    program = "import sys, app.events.log; print({'chdb', 'clickhouse_connect'} & set(sys.modules))"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "set()"


async def test_a_flood_of_questions_is_refused_and_holds_up_neither_rows_nor_readiness(tmp_path: Path) -> None:
    engine = HeldEngine(tmp_path)
    log = EventLog(engine)
    asked = [asyncio.create_task(log.find(uuid4())) for _ in range(10 * MOST_READS)]
    await engine.began.wait()
    writing, pinging = asyncio.create_task(log.append([plain_record()])), asyncio.create_task(log.ping())
    await asyncio.sleep(0)
    engine.may.set()
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert outcomes.count(None) == MOST_READS
    assert sum(isinstance(each, Overloaded) for each in outcomes) == 9 * MOST_READS
    await asyncio.gather(writing, pinging)
    assert engine.calls[:3] == ["find", "insert", "ping"]
    await log.close()


async def test_a_question_is_given_up_after_its_time(tmp_path: Path) -> None:
    engine = HeldEngine(tmp_path, timeout_s=0.05)
    log = EventLog(engine)
    with pytest.raises(QueryTimeout):
        await log.find(uuid4())
    with pytest.raises(Overloaded):  # The first one still has the thread.
        await log.find(uuid4())
    engine.may.set()
    await log.close()
    assert engine.calls == ["find"]


async def test_a_log_that_does_not_answer_a_look_is_unavailable_until_it_does(tmp_path: Path) -> None:
    engine = HeldEngine(tmp_path)
    engine.pinged = engine._hold
    log = EventLog(engine)
    for _ in range(2):  # The second waits for the first, which still has the thread.
        with pytest.raises(EventLogUnavailable, match=UNANSWERED):
            await log.ping(0.05)
    engine.may.set()
    await log.ping()
    await log.close()


async def test_a_long_question_says_nothing_against_the_log(tmp_path: Path) -> None:
    engine = HeldEngine(tmp_path)
    log = EventLog(engine)
    asked = asyncio.create_task(log.find(uuid4()))
    await engine.began.wait()
    await log.ping(0.05)
    engine.may.set()
    await asked
    await log.close()


async def test_an_insert_that_the_server_cuts_off_can_be_made_again(tmp_path: Path) -> None:
    log = EventLog(LimitedEngine(Settings(state_dir=tmp_path)))
    try:
        with pytest.raises(EventLogUnavailable, match="in time"):
            await log.append([plain_record()])
    finally:
        await log.close()


async def test_rows_wait_for_one_search_of_an_order_at_most(tmp_path: Path) -> None:
    engine = ErasingEngine(tmp_path)
    log = EventLog(engine)
    erasing = asyncio.create_task(log.erase(ORDER))
    await engine.began.wait()
    writing = asyncio.create_task(log.append([plain_record()]))
    await asyncio.sleep(0)
    engine.may.set()
    await writing
    assert (await erasing).events == 2
    assert engine.calls == ["search", "insert", "search", "erase"]
    await log.close()


async def test_rows_wait_for_no_search_of_an_order_on_a_server(tmp_path: Path) -> None:
    engine = ErasingApart(tmp_path)
    log = EventLog(engine)
    erasing = asyncio.create_task(log.erase(ORDER))
    await engine.began.wait()
    await log.append([plain_record()])
    assert engine.calls == ["insert"]
    engine.may.set()
    assert (await erasing).events == 2
    await log.close()


def test_a_process_ends_although_a_server_still_searches(tmp_path: Path) -> None:
    program = """
import asyncio, sys, threading
from app.events.engine import Engine
from app.events.log import EventLog
from app.settings import Settings

class Searching(Engine):
    erases_apart = True

    def close_eraser(self):
        print("closed behind the search")

    def stretches(self):
        loop.call_soon_threadsafe(began.set)
        threading.Event().wait()

async def main():
    global began, loop
    began, loop = asyncio.Event(), asyncio.get_running_loop()
    log = EventLog(Searching(Settings(state_dir=sys.argv[1])))
    erasing = asyncio.create_task(log.erase(None))
    await began.wait()
    erasing.cancel()
    await log.close()

asyncio.run(main())
print("ended")
"""
    arguments = [sys.executable, "-c", program, str(tmp_path)]
    assert subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=60).stdout == "ended\n"


async def test_a_search_that_takes_too_long_can_be_made_again_and_says_nothing_against_the_log(tmp_path: Path) -> None:
    engine = ErasingTooLong(tmp_path)
    log = EventLog(engine)
    with pytest.raises(EventLogUnavailable, match="in time"):
        await log.erase(ORDER)
    asked = asyncio.create_task(log.find(uuid4()))
    await engine.began.wait()
    await log.ping(0.05)  # Does not get its turn: what was found before still holds.
    engine.may.set()
    await asked
    await log.close()


def test_what_is_to_be_forgotten_is_searched_for_with_a_limit_and_a_client_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[NotingClient] = []

    def connected(**options: Any) -> NotingClient:
        made.append(NotingClient(options))
        return made[-1]

    monkeypatch.setattr("clickhouse_connect.get_client", connected)
    log = EventLogSettings(query_timeout_s=1.0, erase_timeout_s=30.0)
    settings = Settings(state_dir=tmp_path, clickhouse_url=SecretStr("http://user@host:8123"), event_log=log)
    engine = Engine(settings)
    engine.probe()
    engine.search(ORDER, Stretch("events", "20261128"))
    usual, eraser = made
    assert [each.options["send_receive_timeout"] for each in made] == [1, 35]
    assert (eraser.allowed_s, eraser.database) == ([30], "vigil")
    engine.close_eraser()
    assert (usual.closed, eraser.closed) == (False, True)
    engine.close()
