"""Shows that a real nats-server takes every file of config/nats as it is, and lets in only whom it should."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import socket
import ssl
import subprocess
import sysconfig
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import nats
import pytest
from nats.aio.client import Client
from nats.errors import Error
from nats.js import JetStreamContext
from nats.js.errors import APIError
from pydantic import SecretStr

from app.contracts import GuardRequest
from app.messaging.backbone import Backbone
from app.messaging.declarations import Declarations
from app.settings import NatsSettings, Settings
from app.topology import BUCKETS, DETECTION_STREAM, OWN_INBOX, STREAMS
from tests.integration.messaging.conftest import EmptyArchive
from tests.support import PlainWorkers, eventually, free_port

FOLDER = Path(__file__).parents[2] / "config" / "nats"
NATS_SERVER = str(Path(sysconfig.get_path("scripts")) / "nats-server")
PASSWORD = "1234567890"
"""All digits: the server would read it as a number without quotes."""
RESERVED_BYTES = sum(store.max_bytes for store in (*STREAMS, *BUCKETS))
CLUSTERED = Declarations(replicas=3, decision_ttl_s=900)
START_TIMEOUT_S = 15.0

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]


@dataclass
class Server:
    """One nats-server with a file of config/nats; only what the environment or a port decides is the test's."""

    name: str
    port: int
    monitoring_port: int
    process: asyncio.subprocess.Process
    log: list[str] = field(default_factory=list)
    reader: asyncio.Task[None] | None = None

    async def ready(self) -> None:
        """Wait for the line that says so; go on reading the log behind it."""
        said = asyncio.Event()

        async def read() -> None:
            assert self.process.stderr is not None
            async for line in self.process.stderr:
                self.log.append(line.decode())
                if b"Server is ready" in line:
                    said.set()
            said.set()

        self.reader = asyncio.create_task(read())
        async with asyncio.timeout(START_TIMEOUT_S):
            await said.wait()
        assert self.process.returncode is None, "".join(self.log)

    async def monitored(self, page: str) -> dict[str, Any]:
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"http://127.0.0.1:{self.monitoring_port}/{page}")
        found: dict[str, Any] = answer.json()
        return found

    async def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self.process.returncode is None:
            self.process.send_signal(number)
        await self.process.wait()
        if self.reader is not None:
            await self.reader


Start = Callable[..., Awaitable[Server]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Start servers that end with the test."""
    servers: list[Server] = []

    async def launch(file: str, environment: dict[str, str], *arguments: str, name: str = "nats-1") -> Server:
        port = int(environment["NATS_LISTEN"].strip('"').rpartition(":")[2]) if environment else free_port()
        flags = ["--port", str(port)] if not environment else []
        monitoring_port = free_port()
        process = await asyncio.create_subprocess_exec(
            NATS_SERVER,
            *("--config", str(FOLDER / file), "--http_port", str(monitoring_port), *flags, *arguments),
            cwd=tmp_path,
            env=environment,
            stderr=asyncio.subprocess.PIPE,
        )
        server = Server(name, port, monitoring_port, process)
        servers.append(server)
        await server.ready()
        return server

    yield launch
    for server in servers:
        await server.end()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of this machine, its own authority, good for both sides of a route; and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl on this machine to make a certificate with")
    folder = tmp_path_factory.mktemp("certificate")
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-addext", "extendedKeyUsage=serverAuth,clientAuth"),
            *("-keyout", "key.pem", "-out", "certificate.pem"),
        ],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return folder / "certificate.pem", folder / "key.pem"


def production(certificate: tuple[Path, Path], store: Path, name: str = "nats-1") -> dict[str, str]:
    """Return the environment that production.conf asks for, quoted as it says."""
    values = {
        "NATS_SERVER_NAME": name,
        "NATS_LISTEN": f"127.0.0.1:{free_port()}",
        "NATS_STORE_DIR": str(store / name),
        "NATS_USER": "vigil",
        "NATS_PASSWORD": PASSWORD,
        "NATS_OPERATOR_PASSWORD": PASSWORD,
        "NATS_CLIENT_PASSWORD": PASSWORD,
        "NATS_TLS_CERT": str(certificate[0]),
        "NATS_TLS_KEY": str(certificate[1]),
    }
    return {name: json.dumps(value) for name, value in values.items()}


def cluster(certificate: tuple[Path, Path], store: Path) -> list[dict[str, str]]:
    """Return the environments of the three servers."""
    ports = [free_port() for _ in range(3)]
    routes = [f"nats-route://routes:{PASSWORD}@127.0.0.1:{port}" for port in ports]
    return [
        production(certificate, store, f"nats-{number}")
        | {
            "NATS_TLS_CA": json.dumps(str(certificate[0])),
            "NATS_CLUSTER_LISTEN": json.dumps(f"127.0.0.1:{port}"),
            "NATS_CLUSTER_USER": json.dumps("routes"),
            "NATS_CLUSTER_PASSWORD": json.dumps(PASSWORD),
            "NATS_CLUSTER_ROUTES": json.dumps(routes),
        }
        for number, port in enumerate(ports, start=1)
    ]


async def signed_in(certificate: tuple[Path, Path], *servers: Server, **options: Any) -> Client:
    return await nats.connect(
        [f"tls://127.0.0.1:{server.port}" for server in servers],
        tls=ssl.create_default_context(cafile=str(certificate[0])),
        inbox_prefix=OWN_INBOX,
        **({"user": "vigil", "password": PASSWORD, "reconnect_time_wait": 0.1, "max_reconnect_attempts": -1} | options),
    )


def check(file: str, environment: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    command = [NATS_SERVER, "-t", "--config", str(FOLDER / file)]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)


def environment_of(file: str, request: pytest.FixtureRequest, folder: Path) -> dict[str, str]:
    """Return what a file needs; asks for a certificate only where there is TLS."""
    if file == "development.conf":
        return {}
    if file == "compose.conf":
        passwords = {f"NATS_{name}PASSWORD": f'"{PASSWORD}"' for name in ("", "OPERATOR_", "CLIENT_")}
        return {"NATS_USER": '"vigil"', "NATS_SYNC_INTERVAL": '"always"'} | passwords
    certificate = request.getfixturevalue("certificate")
    return cluster(certificate, folder)[0] if file == "cluster.conf" else production(certificate, folder)


@pytest.mark.parametrize("file", sorted(path.name for path in FOLDER.glob("*.conf")))
def test_the_server_takes_the_file_and_misses_each_variable_that_is_not_set(
    file: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    environment = environment_of(file, request, tmp_path)
    whole = check(file, environment, tmp_path)
    assert whole.returncode == 0, whole.stderr
    for name in environment:
        without = check(file, {other: value for other, value in environment.items() if other != name}, tmp_path)
        assert without.returncode != 0
        assert name in without.stderr


async def test_development_needs_nothing_and_keeps_its_store_in_the_state_folder(start: Start, tmp_path: Path) -> None:
    server = await start("development.conf", {})
    client = await nats.connect(f"nats://127.0.0.1:{server.port}", allow_reconnect=False)
    try:
        await Declarations(replicas=1, decision_ttl_s=900).reconcile(client.jetstream())
    finally:
        await client.close()
    await assert_that_all_streams_fit(server)
    assert (tmp_path / ".vigil" / "development" / "jetstream").is_dir()
    assert not listens("127.0.0.2", server.port)


@pytest.mark.parametrize(
    ("sign_in", "address"),
    [
        pytest.param(
            NatsSettings(user="vigil", password=SecretStr(PASSWORD)),
            "127.0.0.1",
            id="by settings",
        ),
        pytest.param(NatsSettings(), f"vigil:{PASSWORD}@127.0.0.1", id="in the address"),
    ],
)
async def test_the_service_works_on_production_with_password_and_tls(
    start: Start,
    certificate: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sign_in: NatsSettings,
    address: str,
) -> None:
    """As production.conf says: a tls:// address, and SSL_CERT_FILE for an authority of one's own."""
    server = await start("production.conf", production(certificate, tmp_path))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    settings = Settings(nats_url=f"tls://{address}:{server.port}", state_dir=tmp_path / "state", nats=sign_in)
    plain = PlainWorkers()
    backbone = Backbone(plain.workers(), settings, version="0.0.0")
    await backbone.start()
    try:
        await backbone.start_logging(EmptyArchive())
        assert backbone.gateway is not None
        answer = await backbone.gateway.guard(GuardRequest(text="hello", mode="fast"))
    finally:
        await backbone.stop()
    assert json.loads(answer)["decision"] == "ALLOWED"
    await assert_that_all_streams_fit(server)


@pytest.mark.parametrize(
    "credentials",
    [{"user": None, "password": None}, {"user": "vigil", "password": "wrong"}, {"user": "other", "password": PASSWORD}],
    ids=["nobody", "wrong password", "wrong user"],
)
async def test_production_refuses_who_cannot_sign_in(
    start: Start, certificate: tuple[Path, Path], tmp_path: Path, credentials: dict[str, str | None]
) -> None:
    server = await start("production.conf", production(certificate, tmp_path))
    with pytest.raises(Error, match=r"(?i)authorization"):
        await signed_in(certificate, server, allow_reconnect=False, **credentials)


async def test_production_hangs_up_on_a_client_that_does_not_speak_tls(
    start: Start, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    server = await start("production.conf", production(certificate, tmp_path))
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        greeting = json.loads((await reader.readline()).removeprefix(b"INFO "))
        credentials = json.dumps({"user": "vigil", "pass": PASSWORD, "verbose": False})
        writer.write(f"CONNECT {credentials}\r\nPING\r\n".encode())
        try:
            rest = await reader.read()
        except ConnectionResetError:
            rest = b""
        writer.close()
    assert greeting["tls_required"] is True
    assert b"PONG" not in rest


async def test_monitoring_answers_on_loopback_only(
    start: Start, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    """127.0.0.2 is an address of this machine too: a server that listens everywhere would answer there."""
    environment = production(certificate, tmp_path)
    environment["NATS_LISTEN"] = json.dumps(f"0.0.0.0:{free_port()}")
    server = await start("production.conf", environment)
    assert (await server.monitored("healthz"))["status"] == "ok"
    assert (await server.monitored("varz"))["http_host"] == "127.0.0.1"
    assert not listens("127.0.0.2", server.monitoring_port)


async def test_three_servers_hold_the_topology_with_three_replicas_and_go_on_with_two_of_them(
    start: Start, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    environments = cluster(certificate, tmp_path)
    servers = await asyncio.gather(
        *(
            start("cluster.conf", environment, name=json.loads(environment["NATS_SERVER_NAME"]))
            for environment in environments
        )
    )
    client = await signed_in(certificate, *servers)
    jetstream = client.jetstream(timeout=2)
    try:
        await eventually(lambda: accepts_topology(jetstream), within_s=15)
        for name in (*(stream.name for stream in STREAMS), *(f"KV_{bucket.name}" for bucket in BUCKETS)):
            info = await jetstream.stream_info(name)
            assert info.config.num_replicas == 3
            assert info.cluster is not None
            assert len(info.cluster.replicas or ()) == 2
        for server in servers:
            await assert_that_all_streams_fit(server)
        left = await Declarations(replicas=1, decision_ttl_s=900).reconcile(jetstream)
        assert {(each.present, each.declared) for each in left.replicas} == {(3, 1)}
        for name in (*(stream.name for stream in STREAMS), *(f"KV_{bucket.name}" for bucket in BUCKETS)):
            assert (await jetstream.stream_info(name)).config.num_replicas == 3
        assert await publishes(jetstream)

        state = (await jetstream.stream_info(DETECTION_STREAM.name)).cluster
        assert state is not None
        leader = next(server for server in servers if server.name == state.leader)
        await leader.end()
        await eventually(lambda: publishes(jetstream), within_s=15)
        assert (await jetstream.stream_info(DETECTION_STREAM.name)).state.messages >= 2

        await next(server for server in servers if server is not leader).end(signal.SIGKILL)
        assert not await publishes(jetstream)
        await start("cluster.conf", environments[servers.index(leader)], name=leader.name)
        await eventually(lambda: publishes(jetstream), within_s=15)
    finally:
        await client.close()


async def accepts_topology(jetstream: JetStreamContext) -> bool:
    """Whether the servers have found each other and take every declaration with three replicas."""
    try:
        await CLUSTERED.reconcile(jetstream)
    except (APIError, Error, TimeoutError):
        return False
    return True


async def publishes(jetstream: JetStreamContext) -> bool:
    try:
        await jetstream.publish("vigil.guard.input", b"{}", timeout=1)
    except (APIError, Error, TimeoutError):
        return False
    return True


async def assert_that_all_streams_fit(server: Server) -> None:
    """What the topology reserves is under the server's limit, with room for a stream made by hand."""
    limits = await server.monitored("jsz")
    assert limits["reserved_storage"] == RESERVED_BYTES
    assert limits["config"]["max_storage"] - RESERVED_BYTES >= 10**9


def listens(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0
