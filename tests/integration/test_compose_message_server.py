"""Shows that a real nats-server takes the configuration of docker-compose.yml and lets only the guard in."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client
from nats.errors import Error
from nats.js.api import StreamConfig

from app.topology import BUCKETS, OWN_INBOX, STREAMS

ROOT = Path(__file__).parents[2]
START_TIMEOUT_S = 20.0
PASSWORD = "1234567890"
"""All digits: the server would read it as a number if docker-compose.yml did not quote it."""

pytestmark = pytest.mark.integration


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Start a server with the file as it is, but for the container's addresses and its /data."""
    text = (ROOT / "config" / "nats" / "compose.conf").read_text()
    for container, here in (("0.0.0.0:4222", "127.0.0.1:-1"), ("0.0.0.0:8222", "127.0.0.1:-1"), ("/data", "store")):
        assert text.count(container) == 1
        text = text.replace(container, here)
    (tmp_path / "server.conf").write_text(text)
    shutil.copy(ROOT / "config" / "nats" / "permissions.inc", tmp_path)
    log = tmp_path / "server.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [Path(sysconfig.get_path("scripts")) / "nats-server", "-c", "server.conf", "--ports_file_dir", "."],
            cwd=tmp_path,
            env={"NATS_USER": '"vigil"', "NATS_SYNC_INTERVAL": '"always"'}
            | {f"NATS_{name}PASSWORD": f'"{PASSWORD}"' for name in ("", "OPERATOR_", "CLIENT_")},
            stdout=output,
            stderr=output,
        )
    try:
        yield listening_address(server, tmp_path / f"nats-server_{server.pid}.ports", log)
    finally:
        server.terminate()
        server.wait()


def listening_address(server: subprocess.Popen[bytes], ports_file: Path, log: Path) -> str:
    """Wait for the file the server writes once it listens."""
    give_up_at = time.monotonic() + START_TIMEOUT_S
    while not ports_file.exists() or not ports_file.read_text():
        assert server.poll() is None, log.read_text()
        assert time.monotonic() < give_up_at, log.read_text()
        time.sleep(0.02)
    return str(json.loads(ports_file.read_text())["nats"][0])


async def connect(address: str, **credentials: str) -> Client:
    return await nats.connect(address, allow_reconnect=False, connect_timeout=5, inbox_prefix=OWN_INBOX, **credentials)


def test_guard_signs_in_and_the_store_holds_every_stream(address: str) -> None:
    async def scenario() -> int:
        client = await connect(address, user="vigil", password=PASSWORD)
        try:
            jetstream = client.jetstream()
            for stream in STREAMS:
                await jetstream.add_stream(
                    StreamConfig(name=stream.name, subjects=list(stream.subjects), max_bytes=stream.max_bytes)
                )
            for bucket in BUCKETS:
                await jetstream.create_key_value(bucket=bucket.name, max_bytes=bucket.max_bytes)
        finally:
            await client.close()
        operator = await connect(address, user="operator", password=PASSWORD)
        try:
            return int((await operator.jetstream().account_info()).streams)
        finally:
            await operator.close()

    assert asyncio.run(scenario()) == len(STREAMS) + len(BUCKETS)


@pytest.mark.parametrize("credentials", [{}, {"user": "vigil", "password": "wrong"}], ids=["nobody", "wrong password"])
def test_nobody_else_signs_in(address: str, credentials: dict[str, str]) -> None:
    with pytest.raises(Error, match=r"(?i)authorization"):
        asyncio.run(connect(address, **credentials))
