"""The composition root: with which keys maps are sealed, and what a start does at the same time."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from app import service
from app.errors import EventLogUnavailable, ModelUnavailable
from app.events.log import EventLog
from app.lifecycle import StopSignals
from app.pii.engine import PiiEngine
from app.pii.sealing import process_key
from app.settings import PrivacySettings, Settings

KEY = "kappa-omega-secret-of-32-characters"


@pytest.mark.parametrize(
    ("nats_url", "key", "warns"),
    [(None, None, False), ("nats://server:4222", None, True), ("nats://server:4222", KEY, False), (None, KEY, False)],
)
def test_replicas_without_a_common_key_are_warned_of(
    nats_url: str | None, key: str | None, warns: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned: list[str] = []
    monkeypatch.setattr(service.logger, "warning", warned.append)
    privacy = PrivacySettings(restore_key=SecretStr(key) if key else None)
    made = service.VigilService(Settings(nats_url=nats_url, state_dir=tmp_path, privacy=privacy))
    assert made._sealer.keys == ((key.encode() if key else process_key()),)
    assert [KEY in line for line in warned] == [False] * warns


async def test_the_event_log_is_opened_while_the_models_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening = threading.Event()

    async def never_opens(_: Settings) -> EventLog:
        opening.set()
        raise EventLogUnavailable("away")

    def fails_once_the_log_is_tried(_: Settings) -> PiiEngine:
        raise ModelUnavailable(f"the log was tried: {opening.wait(5)}")

    monkeypatch.setattr(EventLog, "open", never_opens)
    monkeypatch.setattr(service, "_warm_detector", lambda _: None)
    monkeypatch.setattr(service, "_warm_pii_engine", fails_once_the_log_is_tried)
    monkeypatch.setattr(StopSignals, "install", lambda _: None)
    made = service.VigilService(Settings(state_dir=tmp_path))
    with pytest.raises(ModelUnavailable, match="the log was tried: True"):
        await made.start()
    await made.stop()
    assert made._opening is not None
    assert made._opening.cancelled()


async def test_a_flood_of_health_checks_is_one_look_that_ends_before_their_patience(tmp_path: Path) -> None:
    within: list[float] = []

    class Log:
        async def ping(self, within_s: float) -> None:
            within.append(within_s)
            await asyncio.sleep(0)

    log: Any = Log()
    made = service.VigilService(Settings(state_dir=tmp_path))
    made._event_log = log
    answers = await asyncio.gather(*(made.readiness() for _ in range(100)))
    assert {answer.checks["clickhouse"].ok for answer in answers} == {True}
    assert len(within) == 1
    assert within[0] < 4  # What the health check of docker-compose.yml waits for.
