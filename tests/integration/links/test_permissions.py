"""The users of config/nats/permissions.inc on a real nats-server: each does its whole work, and nothing else."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from nats.errors import Error
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from app.admin_contracts import AuditEvent
from app.cli.commands import vigil as command
from app.contracts import GuardRequest
from app.log_contracts import EventQuery, FeedbackQuery, ForgetKind
from app.messaging import audit
from app.messaging.backbone import Backbone
from app.messaging.erasure import Forgetter
from app.messaging.permissions import CLIENT_INBOX, Role
from app.settings import NatsSettings, Settings, WorkerSettings, load_settings
from app.topology import BUCKETS, OWN_INBOX, STREAMS
from tests.integration.links.conftest import Servers
from tests.integration.messaging.conftest import EmptyArchive
from tests.integration.messaging.test_erasure import NoRows
from tests.support import PlainWorkers, eventually

pytestmark = pytest.mark.integration

CONFIG = Path(__file__).parents[3] / "config" / "nats"
USERS = "\n".join(
    f"{{ user: {role}, password: {role}-secret, permissions: ${role.upper()}_PERMISSIONS }}" for role in Role
)
INBOXES = {Role.SERVICE: OWN_INBOX, Role.OPERATOR: OWN_INBOX, Role.CLIENT: CLIENT_INBOX}
TEXT = b'{"text": "hello", "mode": "fast"}'


@dataclass
class Guarded:
    """The messaging room, signed in as a user that may do its work and no more."""

    servers: Servers
    url: str
    backbone: Backbone
    plain: PlainWorkers

    async def signed_in(self, role: Role, inbox: str | None = None, **options: Any) -> Client:
        sign_in = {"user": role.value, "password": f"{role}-secret", "inbox_prefix": inbox or INBOXES[role]}
        return await nats.connect(self.url, **(sign_in | options))

    @property
    def violations(self) -> list[str]:
        return [line.partition(" - ")[2] for line in self.servers.log.splitlines() if "Violation" in line]


@pytest.fixture
async def guarded(serve: Servers, tmp_path: Path) -> AsyncIterator[Guarded]:
    shutil.copy(CONFIG / "permissions.inc", tmp_path)
    port = await serve(
        f'include "permissions.inc"\naccounts {{ VIGIL {{ jetstream: enabled, users: [\n{USERS}\n] }} }}'
    )
    url, plain = f"nats://127.0.0.1:{port}", PlainWorkers()
    settings = Settings(
        nats_url=url,
        state_dir=tmp_path / "state",
        nats=NatsSettings(user="service", password=SecretStr("service-secret")),
        workers=WorkerSettings(retry_delays_s=[0.05]),
    )
    backbone = Backbone(plain.workers(), settings, version="0.0.0")
    await backbone.start()
    await asyncio.wait_for(backbone.start_logging(EmptyArchive()), 15)
    yield Guarded(serve, url, backbone, plain)
    await backbone.stop()


async def test_the_service_does_its_whole_work(guarded: Guarded) -> None:
    gateway = guarded.backbone.gateway
    assert gateway is not None
    jetstream = gateway.jetstream
    assert jetstream is not None
    for mode in ("fast", "full"):
        assert b"ALLOWED" in await gateway.guard(GuardRequest(text="hello", mode=mode))
    request_id = await gateway.submit(GuardRequest(text="later"))
    await jetstream.publish("vigil.pii.scan", b"not json")  # Ends in the dead-letter queue.
    await jetstream.publish("vigil.guard.a.b", b"{}")  # Found by the sweep.
    assert guarded.backbone.pipeline is not None
    await guarded.backbone.pipeline.sweeper.sweep(jetstream)

    async def two_dead_letters() -> bool:
        return (await jetstream.stream_info("VIGIL_DLQ")).state.messages == 2

    await eventually(two_dead_letters)

    async def all_recorded() -> bool:
        return len(guarded.plain.records) == 3

    await eventually(all_recorded)
    assert await guarded.backbone.decisions.find(request_id) is not None
    archive = guarded.backbone.remote_archive
    assert await archive.find(request_id) is None
    assert (await archive.events(EventQuery())).events == []
    assert (await archive.feedback(FeedbackQuery())).reports == []
    order = await guarded.backbone.orders.give(ForgetKind.REQUEST, str(request_id))
    await jetstream.publish("vigil.dlq.pii-worker", b"{}", headers={"correlation_id": str(request_id)})
    removed = await Forgetter(guarded.backbone.orders, jetstream, NoRows(), b"").remove_messages(order)
    assert (removed.decisions, removed.dead_letters) == (1, 0)  # It was buried after the order was given.
    await audit.record(jetstream, AuditEvent(actor="test", action="keys.create"))
    assert len((await audit.entries(jetstream, limit=5)).entries) == 1
    for bucket in BUCKETS:
        store = await jetstream.key_value(bucket.name)
        watcher = await store.watchall()
        await store.put("key", b"value")
        assert (await store.get("key")).value == b"value"
        while (update := await watcher.updates(timeout=5)) is None or update.key != "key":
            pass
        await watcher.stop()
        await store.delete("key")
    await guarded.backbone.check()
    assert guarded.violations == []


async def test_the_service_sets_right_what_was_changed(guarded: Guarded) -> None:
    gateway = guarded.backbone.gateway
    assert gateway is not None
    assert gateway.jetstream is not None
    await gateway.jetstream.delete_consumer("VIGIL_DETECTION", "pii-worker")
    await guarded.backbone._restore()
    assert b"ALLOWED" in await gateway.guard(GuardRequest(text="hello"))
    assert guarded.violations == []


COMMANDS = [
    ("doctor", "--interval", "0.3s"),
    ("streams", "ls"),
    ("streams", "report"),
    *(("streams", "info", stream.name) for stream in STREAMS),
    ("streams", "apply", "--dry-run"),
    ("consumers", "report"),
    ("consumers", "info", "pii-worker"),
    ("dlq", "ls"),
    ("dlq", "stats"),
    ("dlq", "show", "1"),
    ("dlq", "replay", "1", "-f"),
    ("dlq", "purge", "--all", "-f"),
    ("guard", "--mode", "fast", "hello"),
    ("audit", "ls"),
    ("events", "ls"),
    ("feedback", "ls"),
    ("policy", "ls"),
    ("policy", "show", "strict"),
]


async def test_the_command_does_its_whole_work_as_operator(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = guarded.backbone.gateway
    assert gateway is not None
    assert gateway.jetstream is not None
    for _ in range(2):
        await gateway.jetstream.publish("vigil.pii.scan", b"not json")
    monkeypatch.setenv("NATS_URL", guarded.url)
    monkeypatch.setenv("VIGIL_NATS__USER", "operator")
    monkeypatch.setenv("VIGIL_NATS__PASSWORD", "operator-secret")
    load_settings.cache_clear()
    try:
        for arguments in COMMANDS:
            result: Result = await asyncio.to_thread(CliRunner().invoke, command, list(arguments))
            assert result.exit_code in (0, 1), f"{arguments}: {result.output}"
            assert "no answer" not in result.output, f"{arguments}: {result.output}"
            assert result.exception is None or isinstance(result.exception, SystemExit), arguments
            assert guarded.violations == [], arguments
        watching = await guarded.signed_in(Role.OPERATOR)
        seen = await watching.subscribe("vigil.>")
        await watching.flush()
        await gateway.submit(GuardRequest(text="hello"))
        while (await seen.next_msg(timeout=30)).subject != "vigil.detection.batch":
            pass
        await watching.close()
    finally:
        load_settings.cache_clear()
    assert guarded.violations == []


async def test_the_command_says_so_where_its_user_may_not_ask(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NATS_URL", guarded.url)
    monkeypatch.setenv("VIGIL_NATS__USER", "service")
    monkeypatch.setenv("VIGIL_NATS__PASSWORD", "service-secret")
    monkeypatch.setenv("VIGIL_NATS__PUBLISH_TIMEOUT_S", "1")
    load_settings.cache_clear()
    try:
        for arguments, asked in ((("doctor",), "INFO"), (("streams", "ls"), "STREAM.LIST")):
            result: Result = await asyncio.to_thread(CliRunner().invoke, command, list(arguments))
            assert f"lets this user not ask $JS.API.{asked}: sign in as `operator`" in result.output
    finally:
        load_settings.cache_clear()


async def test_a_client_asks_and_hands_in(guarded: Guarded) -> None:
    client = await guarded.signed_in(Role.CLIENT)
    answer = json.loads((await client.request("vigil.api.guard", TEXT, timeout=5)).data)
    assert answer["decision"] == "ALLOWED"
    assert (await client.request("vigil.api.restore", b"{}", timeout=5)).headers
    stored = json.loads((await client.request("vigil.guard.input", TEXT, timeout=5)).data)
    assert stored["stream"] == "VIGIL_DETECTION"
    inbox = client.new_inbox()
    replies = await client.subscribe(inbox)
    await client.publish("vigil.guard.tool", TEXT, headers={"reply_to": inbox})
    assert json.loads((await replies.next_msg(timeout=5)).data)["source"] == "tool"
    await client.close()
    assert guarded.violations == []


REACHED_BEYOND = {
    Role.SERVICE: (
        [
            "$JS.API.STREAM.DELETE.VIGIL_DLQ",
            "$JS.API.STREAM.PURGE.VIGIL_DLQ",
            "$JS.API.STREAM.CREATE.OTHER",
            "$JS.API.STREAM.MSG.DELETE.VIGIL_AUDIT",
            "other.subject",
            "$SYS.REQ.SERVER.PING",
        ],
        [">", "vigil.>", "_INBOX.>", "_INBOX.client.x", "$JS.EVENT.>"],
    ),
    Role.OPERATOR: (
        ["$JS.API.STREAM.DELETE.VIGIL_DLQ", "$JS.API.STREAM.PURGE.VIGIL_DETECTION", "other.subject"],
        [">", "_INBOX.>", "_INBOX.client.x", "$SRV.>"],
    ),
    Role.CLIENT: (
        [
            "vigil.api.decision",
            "vigil.logs.event",
            "vigil.arbiter.decide",
            "vigil.pii.scan",
            "vigil.dlq.pii-worker",
            "vigil.audit.keys.create",
            "$KV.VIGIL_DECISIONS.x",
            "$KV.VIGIL_POLICIES.strict",
            "$JS.API.STREAM.INFO.VIGIL_DETECTION",
            "$JS.API.STREAM.MSG.GET.VIGIL_DETECTION",
            "$JS.API.INFO",
            "_INBOX.vigil.x",
            "$JS.ACK.VIGIL_DETECTION.detection-worker.1.1.1.1.0",
        ],
        [">", "vigil.guard.input", "vigil.>", "vigil.api.guard", "_INBOX.vigil.>", "_INBOX.>", "$KV.>", "$SRV.>"],
    ),
}


@pytest.mark.parametrize("role", Role)
async def test_a_user_is_refused_beyond_its_work(guarded: Guarded, role: Role) -> None:
    refused: list[str] = []

    async def note(error: Exception) -> None:
        refused.append(str(error))

    client = await guarded.signed_in(role, error_cb=note)
    publishes, subscriptions = REACHED_BEYOND[role]
    for subject in publishes:
        await client.publish(subject, b"")
    for subject in subscriptions:
        await client.subscribe(subject)
    await client.flush()

    async def all_refused() -> bool:
        return len(refused) >= len(publishes) + len(subscriptions)

    await eventually(all_refused)
    said = " ".join(refused).lower()
    assert [subject for subject in publishes if f'publish to "{subject.lower()}"' not in said] == []
    assert [subject for subject in subscriptions if f'subscription to "{subject.lower()}"' not in said] == []
    await client.close()


async def test_who_names_no_user_is_not_let_in(guarded: Guarded) -> None:
    with pytest.raises(Error, match=r"(?i)authorization"):
        await nats.connect(guarded.url, allow_reconnect=False)
