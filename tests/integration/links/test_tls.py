"""TLS to the message server and the event log: right certificates work, wrong ones are refused, and the reason told."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr

from app import tls
from app.contracts import GuardRequest
from app.errors import ConfigurationError, EventLogUnavailable, MessagingUnavailable
from app.events.log import EventLog
from app.messaging.client import NO_TLS
from app.messaging.connection import connect
from app.settings import EventLogTlsSettings, NatsSettings, NatsTlsSettings, Settings
from tests.integration.clickhouse_http import PASSWORD
from tests.integration.links.authority import Authority, Pair
from tests.integration.links.conftest import Servers, connecting, refusal
from tests.support import eventually, free_port

pytestmark = pytest.mark.integration

USER = {"user": "vigil", "password": SecretStr("kappa-omega")}
SIGN_IN = "authorization { user: vigil, password: kappa-omega }"


def with_tls(pair: Pair, *more: str) -> str:
    return f'tls {{ cert_file: "{pair.cert_file}", key_file: "{pair.key_file}", {", ".join(more)} }}\n{SIGN_IN}'


async def test_a_service_and_the_command_work_over_tls(serve: Servers, authority: Authority, tmp_path: Path) -> None:
    port = await serve(with_tls(authority.issue()))
    trusting = NatsTlsSettings(ca_file=authority.ca_file)
    async with connecting(f"tls://127.0.0.1:{port}", tmp_path, tls=trusting, **USER) as backbone:
        await asyncio.wait_for(backbone.up.wait(), 15)
        await backbone.check()
        assert backbone.gateway is not None
        assert b"ALLOWED" in await backbone.gateway.guard(GuardRequest(text="hello", mode="fast"))
        settings = Settings(nats_url=f"tls://127.0.0.1:{port}", nats=NatsSettings(tls=trusting, **USER))
        client = await connect(settings)
        assert await client.request("vigil.api.guard", b'{"text": "hello", "mode": "fast"}', timeout=5)
        await client.close()


def names_the_certificate(told: str) -> bool:
    """Whether a refusal can be the server's of a client certificate.

    Under TLS 1.3 it comes after the handshake: a busy machine may see the connection end before it reads the alert.
    """
    return "client certificate" in told or "hung up" in told


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ("unknown authority", "the server's certificate is refused: unable to get local issuer certificate"),
        ("expired", "the server's certificate is refused: certificate has expired"),
        ("other host", "the server's certificate is refused: IP address mismatch"),
        ("client certificate", ""),
        ("plain", NO_TLS),
    ],
)
async def test_what_is_wrong_with_the_connection_is_told(
    serve: Servers,
    authority: Authority,
    stranger: Authority,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    server: str,
    said: str,
) -> None:
    configuration = {
        "unknown authority": lambda: with_tls(stranger.issue()),
        "expired": lambda: with_tls(authority.issue(expired=True)),
        "other host": lambda: with_tls(authority.issue("127.0.0.9")),
        "client certificate": lambda: with_tls(authority.issue(), f'ca_file: "{authority.ca_file}"', "verify: true"),
        "plain": lambda: SIGN_IN,
    }[server]()
    port = await serve(configuration)
    trusting = NatsTlsSettings(ca_file=authority.ca_file)
    async with connecting(f"tls://127.0.0.1:{port}", tmp_path, tls=trusting, **USER) as backbone:
        told = await refusal(backbone)
        assert said in told if said else names_the_certificate(told)
    assert said in caplog.text
    assert "kappa" not in caplog.text
    settings = Settings(nats_url=f"tls://127.0.0.1:{port}", nats=NatsSettings(tls=trusting, **USER))
    with pytest.raises(MessagingUnavailable, match=said):
        await connect(settings)


async def test_without_an_authority_of_ones_own_the_systems_are_asked(
    serve: Servers, authority: Authority, tmp_path: Path
) -> None:
    """Also with a nats:// address: the server asks for TLS, and its certificate counts no less."""
    port = await serve(with_tls(authority.issue()))
    async with connecting(f"nats://127.0.0.1:{port}", tmp_path, **USER) as backbone:
        assert "the server's certificate is refused" in await refusal(backbone)


@pytest.mark.parametrize("address", ["tls://127.0.0.1", "nats://127.0.0.1"])
async def test_no_secret_goes_to_a_server_that_speaks_no_tls(
    authority: Authority, tmp_path: Path, address: str
) -> None:
    """As somebody in between would greet who wants the password in the clear."""
    heard: list[bytes] = []

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","version":"2.15.1","max_payload":1048576,"headers":true}\r\n')
        heard.append(await reader.read(4096))
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", port := free_port())
    async with (
        server,
        connecting(f"{address}:{port}", tmp_path, tls=NatsTlsSettings(ca_file=authority.ca_file), **USER) as backbone,
    ):
        assert await refusal(backbone) == NO_TLS
        await eventually(lambda: _is(bool(heard)))
    assert b"".join(heard) == b""


async def _is(value: bool) -> bool:
    return value


@pytest.mark.parametrize("trusted", [True, False], ids=["right certificate", "of a stranger"])
async def test_mutual_tls(
    serve: Servers, authority: Authority, stranger: Authority, tmp_path: Path, trusted: bool
) -> None:
    port = await serve(with_tls(authority.issue(), f'ca_file: "{authority.ca_file}"', "verify: true"))
    own = (authority if trusted else stranger).issue("vigil.example.com")
    files = NatsTlsSettings(ca_file=authority.ca_file, cert_file=own.cert_file, key_file=own.key_file)
    async with connecting(f"tls://127.0.0.1:{port}", tmp_path, tls=files, **USER) as backbone:
        if trusted:
            await asyncio.wait_for(backbone.up.wait(), 15)
        else:
            assert names_the_certificate(await refusal(backbone))


async def test_a_certificate_can_be_what_signs_in(serve: Servers, authority: Authority, tmp_path: Path) -> None:
    pair = authority.issue()
    own = authority.issue("vigil.example.com")
    port = await serve(
        f'tls {{ cert_file: "{pair.cert_file}", key_file: "{pair.key_file}", ca_file: "{authority.ca_file}", '
        'verify_and_map: true }\nauthorization { users: [ { user: "vigil.example.com" } ] }'
    )
    files = NatsTlsSettings(ca_file=authority.ca_file, cert_file=own.cert_file, key_file=own.key_file)
    async with connecting(f"tls://127.0.0.1:{port}", tmp_path, tls=files) as backbone:
        await asyncio.wait_for(backbone.up.wait(), 15)


async def test_the_name_in_the_certificate_may_be_told(serve: Servers, authority: Authority, tmp_path: Path) -> None:
    port = await serve(with_tls(authority.issue("nats.example.com")))
    named = NatsTlsSettings(ca_file=authority.ca_file, server_name="nats.example.com")
    async with connecting(f"tls://127.0.0.1:{port}", tmp_path, tls=named, **USER) as backbone:
        await asyncio.wait_for(backbone.up.wait(), 15)


async def test_the_handshake_may_come_first(serve: Servers, authority: Authority, tmp_path: Path) -> None:
    port = await serve(with_tls(authority.issue(), "handshake_first: true"))
    first = NatsTlsSettings(ca_file=authority.ca_file, handshake_first=True)
    async with connecting(f"tls://127.0.0.1:{port}", tmp_path, tls=first, **USER) as backbone:
        await asyncio.wait_for(backbone.up.wait(), 15)


async def test_a_renewed_certificate_counts_from_the_next_connection_on(
    serve: Servers, authority: Authority, tmp_path: Path
) -> None:
    port = await serve(with_tls(authority.issue(), f'ca_file: "{authority.ca_file}"', "verify: true"))
    old, new = authority.issue("vigil.example.com", expired=True), authority.issue("vigil.example.com")
    files = NatsTlsSettings(ca_file=authority.ca_file, cert_file=old.cert_file, key_file=old.key_file)
    async with connecting(f"tls://127.0.0.1:{port}", tmp_path, tls=files, **USER) as backbone:
        assert names_the_certificate(await refusal(backbone))
        os.replace(new.key_file, old.key_file)  # noqa: PTH105
        os.replace(new.cert_file, old.cert_file)  # noqa: PTH105
        await asyncio.wait_for(backbone.up.wait(), 15)


@pytest.mark.parametrize("setting", ["ca_file", "cert_file"])
async def test_a_file_that_cannot_be_used_ends_the_start(authority: Authority, tmp_path: Path, setting: str) -> None:
    files = {"cert_file": tmp_path / "absent", "key_file": tmp_path / "absent"} if setting == "cert_file" else {}
    wrong = NatsTlsSettings(**(files or {"ca_file": tmp_path / "absent"}))
    with pytest.raises(ConfigurationError, match=rf"nats\.tls\.{setting}.* cannot be used: FileNotFoundError"):
        async with connecting("tls://127.0.0.1:1", tmp_path, tls=wrong):
            pass


def test_a_refusal_is_found_behind_the_error_of_a_library() -> None:
    inner = tls.ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number")
    inner.reason = "WRONG_VERSION_NUMBER"
    outer = OSError("failed", ValueError(inner))
    outer.__context__ = outer
    assert tls.refusal(outer) == "the server does not speak TLS on this port"
    assert tls.refusal(OSError("connection reset")) is None


@pytest.mark.parametrize("ended", [ConnectionResetError(104, "reset"), BrokenPipeError(32, "pipe")])
def test_a_hang_up_is_found_behind_the_error_of_a_library(ended: OSError) -> None:
    outer = OSError("failed", ValueError("Connection aborted.", ended))
    assert tls.hung_up(outer)
    assert not tls.hung_up(ConnectionRefusedError())


async def test_a_server_that_hangs_up_is_told_from_one_that_fails(server_log_settings: Settings) -> None:
    def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", port := free_port()):
        settings = server_log_settings.model_copy(update={"clickhouse_url": SecretStr(f"http://127.0.0.1:{port}")})
        with pytest.raises(EventLogUnavailable, match=r"the server hung up; over TLS .* client certificate"):
            await EventLog.open(settings)


@asynccontextmanager
async def encrypted(clickhouse_url: str, configure: tls.ssl.SSLContext | None) -> AsyncIterator[int]:
    """Put TLS in front of the event log's server; without a context, nothing but the bytes are passed on."""
    target = urlsplit(clickhouse_url)

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(target.hostname, target.port)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            try:
                while block := await source.read(65_536):
                    sink.write(block)
                    await sink.drain()
            except ConnectionError:
                pass
            finally:
                sink.close()

        await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))

    server = await asyncio.start_server(pass_on, "127.0.0.1", port := free_port(), ssl=configure)
    async with server:
        yield port


def server_context(pair: Pair, client_authority: Path | None = None) -> tls.ssl.SSLContext:
    context = tls.ssl.create_default_context(tls.ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.cert_file, pair.key_file)
    if client_authority is not None:
        context.load_verify_locations(client_authority)
        context.verify_mode = tls.ssl.CERT_REQUIRED
    return context


def log_settings(base: Settings, address: str, files: EventLogTlsSettings) -> Settings:
    log = base.event_log.model_copy(update={"tls": files, "user": "vigil", "password": SecretStr(PASSWORD)})
    return base.model_copy(update={"clickhouse_url": SecretStr(address), "event_log": log})


@pytest.mark.skipif("VIGIL_TEST_CLICKHOUSE_URL" in os.environ, reason="its address is not ours to put TLS before")
@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("right", None),
        ("mutual", None),
        ("unverified", None),
        ("unknown authority", "the server's certificate is refused: unable to get local issuer certificate"),
        ("expired", "the server's certificate is refused: certificate has expired"),
        ("other host", "the server's certificate is refused: IP address mismatch"),
        ("no client certificate", "client certificate"),
        ("plain port", "the server does not speak TLS on this port"),
        ("plain address", "The event log cannot be opened"),
    ],
)
async def test_the_event_log_over_tls(
    server_log_settings: Settings,
    clickhouse_url: str,
    authority: Authority,
    stranger: Authority,
    case: str,
    said: str | None,
) -> None:
    pair = {
        "unknown authority": lambda: stranger.issue(),
        "unverified": lambda: stranger.issue(),
        "expired": lambda: authority.issue(expired=True),
        "other host": lambda: authority.issue("127.0.0.9"),
    }.get(case, authority.issue)()
    asks = authority.ca_file if case in ("mutual", "no client certificate") else None
    context = None if case == "plain port" else server_context(pair, asks)
    files = EventLogTlsSettings(ca_file=authority.ca_file, verify=case != "unverified")
    if case == "mutual":
        own = authority.issue("vigil.example.com")
        files = files.model_copy(update={"cert_file": own.cert_file, "key_file": own.key_file})
    if case == "plain address":
        files = EventLogTlsSettings()
    async with encrypted(clickhouse_url, context) as port:
        scheme = "http" if case == "plain address" else "https"
        settings = log_settings(server_log_settings, f"{scheme}://127.0.0.1:{port}", files)
        if said is not None:
            with pytest.raises(EventLogUnavailable, match=said) as caught:
                await EventLog.open(settings)
            assert PASSWORD not in caught.value.message
            return
        log = await EventLog.open(settings)
        assert await log.count() == 0
        await log.close()


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://127.0.0.1:1", "event_log.tls is set, and CLICKHOUSE_URL is not https://"),
        ("https://127.0.0.1:1?verify=false", "takes no options"),
    ],
)
async def test_an_address_that_would_undo_the_settings_is_refused(
    server_log_settings: Settings, authority: Authority, address: str, said: str
) -> None:
    settings = log_settings(server_log_settings, address, EventLogTlsSettings(ca_file=authority.ca_file))
    with pytest.raises(ConfigurationError, match=said):
        await EventLog.open(settings)
