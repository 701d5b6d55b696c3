"""`vigil watch` on a real server: live, and silent about texts unless asked."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable

import pytest
from typer.testing import CliRunner

from app.cli import watch as watching
from app.cli.commands import vigil as command
from tests.integration.cli.conftest import Declared

pytestmark = pytest.mark.integration

BODY = b'{"text": "Anna Nowak", "request_id": "01a2146c-e010-7eb7-9348-782a803ad682"}'


Watch = Callable[..., Awaitable[asyncio.Task[None]]]


@pytest.fixture
def watch(server: str, monkeypatch: pytest.MonkeyPatch) -> Watch:
    """Begin to watch, in this process, and return once the subscription stands.

    A process of its own takes a second of CPU until it does, which on a busy machine is half a minute.
    """

    async def begin(*options: str) -> asyncio.Task[None]:
        stands, work = asyncio.Event(), []
        with monkeypatch.context() as patched:
            patched.setattr(watching, "run", work.append)
            parsed = CliRunner().invoke(command, ["watch", "-s", server, *options])
        assert parsed.exit_code == 0, parsed.output
        monkeypatch.setattr(watching, "note", lambda _: stands.set())
        shows = asyncio.create_task(work[0])
        begun = asyncio.create_task(stands.wait())
        await asyncio.wait({shows, begun}, return_when=asyncio.FIRST_COMPLETED)
        if not stands.is_set():
            await shows  # It says why.
        return shows

    return begin


async def test_messages_are_shown_without_headers_and_text(
    declared: Declared, watch: Watch, capsys: pytest.CaptureFixture[str]
) -> None:
    shows = await watch("vigil.guard.*", "--count", "2", "-j")
    await declared.jetstream.publish("vigil.logs.event", b"not watched")
    await declared.jetstream.publish("vigil.guard.input", BODY)
    await declared.jetstream.publish("vigil.guard.tool", b"{}", headers={"correlation_id": "mine"})
    await shows
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert set(first) == {"at", "subject", "size_bytes", "request_id"}
    assert (first["subject"], first["size_bytes"]) == ("vigil.guard.input", len(BODY))
    assert first["request_id"] == "01a2146c-e010-7eb7-9348-782a803ad682"
    assert (second["subject"], second["request_id"]) == ("vigil.guard.tool", "mine")


async def test_what_replicas_tell_each_other_is_shown_where_it_is_asked_for(
    declared: Declared, watch: Watch, capsys: pytest.CaptureFixture[str]
) -> None:
    everything = await watch("--count", "1", "-j")
    usage = await watch("vigil.usage", "--count", "1", "-j")
    await declared.client.publish("vigil.usage", b"{}")
    await usage
    await declared.jetstream.publish("vigil.guard.input", BODY)
    await everything
    shown = [json.loads(line)["subject"] for line in capsys.readouterr().out.splitlines()]
    assert shown == ["vigil.usage", "vigil.guard.input"]


async def test_headers_and_text_are_shown_on_request(
    declared: Declared, watch: Watch, capsys: pytest.CaptureFixture[str]
) -> None:
    shows = await watch("--count", "1", "--headers", "--text")
    await declared.jetstream.publish("vigil.guard.input", BODY, headers={"X-Own": "kept"})
    await shows
    output = capsys.readouterr().out
    assert "X-Own: kept" in output
    assert "Anna Nowak" in output


async def test_without_being_asked_no_text_is_printed(
    declared: Declared, watch: Watch, capsys: pytest.CaptureFixture[str]
) -> None:
    shows = await watch("--count", "1", "--headers")
    await declared.jetstream.publish("vigil.guard.input", BODY)
    await shows
    output = capsys.readouterr().out
    assert "vigil.guard.input" in output
    assert "Nowak" not in output


async def test_ctrl_c_ends_it_without_an_error(declared: Declared, server: str) -> None:
    command_line = [sys.executable, "-m", "app.cli", "watch", "-s", server]
    process = await asyncio.create_subprocess_exec(*command_line, stderr=asyncio.subprocess.PIPE, env=dict(os.environ))
    assert process.stderr is not None
    assert (await process.stderr.readline()).startswith(b"Watching ")
    process.send_signal(signal.SIGINT)
    _, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b"")
