"""The event log's edge: failures become EventLogUnavailable without a word of any row, and nothing stays open."""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from app.errors import ConfigurationError, EventLogBusy, EventLogUnavailable
from app.events.embedded import EmbeddedEngineLock
from app.events.engine import LOCK_FILE, Engine
from app.events.log import EventLog
from app.settings import EventLogSettings, Settings
from tests.unit.events.records import plain_record


class FailingEngine(Engine):
    """Fails to insert with a message that quotes the row, as ClickHouse does."""

    def insert(self, records: object) -> None:
        raise ValueError("cannot parse 'pesel 44051401359'")


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
