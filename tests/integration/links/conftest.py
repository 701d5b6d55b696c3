"""nats-servers with sign-in and TLS of all kinds, and a service on them."""

from __future__ import annotations

import asyncio
import sysconfig
from collections.abc import AsyncIterator
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


class Servers:
    """Starts nats-servers with further lines of configuration, and keeps what they log."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: list[tuple[asyncio.subprocess.Process, asyncio.Task[None]]] = []
        self._lines: list[str] = []

    @property
    def log(self) -> str:
        return "".join(self._lines)

    async def __call__(self, configuration: str) -> int:
        """Return the port once the server listens there."""
        port = free_port()
        file = self.folder / f"server-{port}.conf"
        file.write_text(
            f'listen: "127.0.0.1:{port}"\n'
            f'jetstream {{ store_dir: "{self.folder}/store-{port}", max_file_store: 16GB }}\n{configuration}\n'
        )
        process = await asyncio.create_subprocess_exec(NATS_SERVER, "-c", str(file), stderr=asyncio.subprocess.PIPE)
        ready = asyncio.Event()

        async def read() -> None:
            assert process.stderr is not None
            async for line in process.stderr:
                self._lines.append(line.decode())
                if b"Server is ready" in line:
                    ready.set()
            ready.set()

        self._running.append((process, asyncio.create_task(read())))
        await ready.wait()
        assert process.returncode is None, self.log
        return port

    async def end(self) -> None:
        for process, reading in self._running:
            if process.returncode is None:
                process.terminate()
            await process.wait()
            await reading


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Servers]:
    servers = Servers(tmp_path)
    yield servers
    await servers.end()


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
