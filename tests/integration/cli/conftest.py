"""The vigil command against a real nats-server, with the messaging room on it or without."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext
from typer.testing import CliRunner, Result

from app.cli.commands import vigil as command
from app.messaging.declarations import Declarations
from app.settings import load_settings
from tests.integration.messaging.conftest import quick_settings, running, server, server_process

__all__ = ["quick_settings", "running", "server", "server_process"]

Vigil = Callable[..., Awaitable[Result]]


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Settings of a command that knows nothing but what a test tells it."""
    for name in ("NATS_URL", "CLICKHOUSE_URL", "VIGIL_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VIGIL_STATE_DIR", str(tmp_path / "state"))
    load_settings.cache_clear()
    yield
    load_settings.cache_clear()


@dataclass(frozen=True)
class Declared:
    """A server with the topology on it, and no service that would mend or consume anything."""

    client: Client
    jetstream: JetStreamContext


@pytest.fixture
async def declared(server: str) -> AsyncIterator[Declared]:
    client = await nats.connect(server)
    await Declarations(1, 900).reconcile(client.jetstream())
    yield Declared(client, client.jetstream())
    await client.close()


@pytest.fixture
def vigil(server: str) -> Vigil:
    """Run the command against the test's server; in a thread, since it has an event loop of its own."""

    async def run(*arguments: str, stdin: str | None = None, at: str | None = server) -> Result:
        options = ["-s", at] if at is not None else []
        return await asyncio.to_thread(CliRunner().invoke, command, [*options, *arguments], input=stdin)

    return run


def parsed(result: Result) -> Any:
    """Return the JSON that a command printed."""
    assert result.exit_code in (0, 1), result.output
    return json.loads(result.stdout)
