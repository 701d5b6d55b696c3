"""`vigil watch` on a real server: live, and silent about texts unless asked."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys

import pytest

from tests.integration.cli.conftest import Declared

pytestmark = pytest.mark.integration

BODY = b'{"text": "Anna Nowak", "request_id": "01a2146c-e010-7eb7-9348-782a803ad682"}'


async def watch(declared: Declared, server: str, *options: str) -> asyncio.subprocess.Process:
    """Start watching; return once the subscription stands."""
    command = [sys.executable, "-m", "app.cli", "watch", "-s", server, *options]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=dict(os.environ)
    )
    assert process.stderr is not None
    assert (await asyncio.wait_for(process.stderr.readline(), 20)).startswith(b"Watching ")
    return process


async def test_messages_are_shown_without_headers_and_text(declared: Declared, server: str) -> None:
    process = await watch(declared, server, "vigil.guard.*", "--count", "2", "-j")
    await declared.jetstream.publish("vigil.logs.event", b"not watched")
    await declared.jetstream.publish("vigil.guard.input", BODY)
    await declared.jetstream.publish("vigil.guard.tool", b"{}", headers={"correlation_id": "mine"})
    output, _ = await asyncio.wait_for(process.communicate(), 20)
    first, second = (json.loads(line) for line in output.splitlines())
    assert set(first) == {"at", "subject", "size_bytes", "request_id"}
    assert (first["subject"], first["size_bytes"]) == ("vigil.guard.input", len(BODY))
    assert first["request_id"] == "01a2146c-e010-7eb7-9348-782a803ad682"
    assert (second["subject"], second["request_id"]) == ("vigil.guard.tool", "mine")
    assert process.returncode == 0


async def test_what_replicas_tell_each_other_is_shown_where_it_is_asked_for(declared: Declared, server: str) -> None:
    everything = await watch(declared, server, "--count", "1", "-j")
    usage = await watch(declared, server, "vigil.usage", "--count", "1", "-j")
    await declared.client.publish("vigil.usage", b"{}")
    await declared.jetstream.publish("vigil.guard.input", BODY)
    shown = [json.loads((await asyncio.wait_for(each.communicate(), 20))[0])["subject"] for each in (everything, usage)]
    assert shown == ["vigil.guard.input", "vigil.usage"]


async def test_headers_and_text_are_shown_on_request(declared: Declared, server: str) -> None:
    process = await watch(declared, server, "--count", "1", "--headers", "--text")
    await declared.jetstream.publish("vigil.guard.input", BODY, headers={"X-Own": "kept"})
    output, _ = await asyncio.wait_for(process.communicate(), 20)
    assert b"X-Own: kept" in output
    assert b"Anna Nowak" in output


async def test_without_being_asked_no_text_is_printed(declared: Declared, server: str) -> None:
    process = await watch(declared, server, "--count", "1", "--headers")
    await declared.jetstream.publish("vigil.guard.input", BODY)
    output, _ = await asyncio.wait_for(process.communicate(), 20)
    assert b"vigil.guard.input" in output
    assert b"Nowak" not in output


async def test_ctrl_c_ends_it_without_an_error(declared: Declared, server: str) -> None:
    process = await watch(declared, server)
    process.send_signal(signal.SIGINT)
    _, errors = await asyncio.wait_for(process.communicate(), 20)
    assert (process.returncode, errors) == (0, b"")
