"""nats-servers with sign-in and TLS of all kinds, and a service on them."""

from __future__ import annotations

import asyncio
import sysconfig
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.errors import MessagingUnavailable
from app.messaging.backbone import Backbone
from app.settings import NatsSettings, Settings
from tests.integration.links.authority import Authority
from tests.support import PlainWorkers, eventually, free_port

NATS_SERVER = str(Path(sysconfig.get_path("scripts")) / "nats-server")


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "the authority")


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that nobody trusts."""
    return Authority(tmp_path_factory.mktemp("stranger"), "a stranger")


Serve = Callable[[str], Awaitable[int]]


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    """Start nats-servers with further lines of configuration; gives their port once they listen."""
    processes: list[asyncio.subprocess.Process] = []

    async def launch(configuration: str) -> int:
        port = free_port()
        file = tmp_path / f"server-{port}.conf"
        file.write_text(
            f'listen: "127.0.0.1:{port}"\n'
            f'jetstream {{ store_dir: "{tmp_path}/store-{port}", max_file_store: 16GB }}\n{configuration}\n'
        )
        process = await asyncio.create_subprocess_exec(NATS_SERVER, "-c", str(file), stderr=asyncio.subprocess.PIPE)
        processes.append(process)
        assert process.stderr is not None
        said = b""
        async for line in process.stderr:
            said += line
            if b"Server is ready" in line:
                return port
        raise AssertionError(said.decode())

    yield launch
    for process in processes:
        process.terminate()
        await process.communicate()


@asynccontextmanager
async def connecting(url: str, tmp_path: Path, **nats: Any) -> AsyncIterator[Backbone]:
    """A service that tries to reach its message server."""
    settings = Settings(nats_url=url, state_dir=tmp_path / "state", nats=NatsSettings(connect_timeout_s=1, **nats))
    backbone = Backbone(PlainWorkers().workers(), settings, version="0.0.0")
    await backbone.start()
    yield backbone
    await backbone.stop()


async def refusal(backbone: Backbone) -> str:
    """Return what readiness says, once a try has failed."""

    async def tried() -> bool:
        assert not backbone.up.is_set()
        return backbone.last_error != "not connected yet"

    await eventually(tried)
    with pytest.raises(MessagingUnavailable) as caught:
        await backbone.check()
    return str(caught.value)
