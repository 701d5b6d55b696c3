"""A real nats-server for each test, and the messaging room on it with workers that need no model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.kv import KeyValue

from app.errors import EventLogUnavailable, UnknownRequest
from app.log_contracts import EventDetail, EventPage, FeedbackPage, Stats
from app.messaging.backbone import Backbone
from app.messaging.embedded import EmbeddedNats
from app.messaging.gateway import GuardGateway
from app.settings import NatsSettings, Settings, WorkerSettings
from tests.support import PlainWorkers, free_port


class EmptyArchive:
    """An event log that can be read and holds nothing."""

    async def find(self, request_id: object) -> None:
        return None

    async def events(self, query: object) -> EventPage:
        return EventPage(events=[])

    async def event(self, question: object) -> EventDetail:
        raise UnknownRequest(field="request_id")

    async def stats(self, query: object) -> Stats:
        raise EventLogUnavailable

    async def feedback(self, query: object) -> FeedbackPage:
        return FeedbackPage(reports=[])


@dataclass
class Running:
    """The messaging room, up and running."""

    backbone: Backbone
    plain: PlainWorkers
    client: Client
    jetstream: JetStreamContext

    @property
    def gateway(self) -> GuardGateway:
        assert self.backbone.gateway is not None
        return self.backbone.gateway

    async def idle(self) -> bool:
        """Whether no message is left in the work queue."""
        return (await self.jetstream.stream_info("VIGIL_DETECTION")).state.messages == 0

    async def dead_letters(self) -> int:
        return (await self.jetstream.stream_info("VIGIL_DLQ")).state.messages


@pytest.fixture
async def server_process(tmp_path: Path) -> AsyncIterator[EmbeddedNats]:
    """A nats-server with an empty store that is started again when it is killed."""
    embedded = EmbeddedNats(tmp_path / "server", "127.0.0.1", free_port())
    await embedded.start()
    yield embedded
    await embedded.stop()


@pytest.fixture
async def server(server_process: EmbeddedNats) -> str:
    assert server_process.record is not None
    return server_process.record.url


@pytest.fixture
def quick_settings(server: str, tmp_path: Path) -> Settings:
    """The retry delays are the only thing that is shortened."""
    return Settings(
        nats_url=server,
        state_dir=tmp_path / "state",
        nats=NatsSettings(embedded_port=free_port()),
        workers=WorkerSettings(retry_delays_s=[0.05, 0.1]),
    )


@pytest.fixture
async def running(server: str, quick_settings: Settings) -> AsyncIterator[Running]:
    plain = PlainWorkers()
    backbone = Backbone(plain.workers(), quick_settings, version="0.0.0")
    await backbone.start()
    await backbone.start_logging(EmptyArchive())
    client = await nats.connect(server)
    yield Running(backbone, plain, client, client.jetstream())
    await client.close()
    await backbone.stop()


@pytest.fixture
def tells_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch that says that it has seen everything before its first entry, as nats-py's does when the server was
    quicker than the reader."""
    watch = KeyValue.watch

    async def early(self: KeyValue, *arguments: Any, **options: Any) -> Any:
        watcher: Any = await watch(self, *arguments, **options)
        entries = []
        while (entry := await watcher.updates(timeout=5)) is not None:
            entries.append(entry)
        for told in (None, *entries):
            watcher._updates.put_nowait(told)
        return watcher

    monkeypatch.setattr(KeyValue, "watch", early)
