"""The composition root: with which keys maps are sealed, and what a start does at the same time."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import subprocess
import sys
import threading
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydantic import SecretStr

from app import service
from app.access.limits import Limits
from app.access.principal import Principal
from app.arbiter.book import load_policies
from app.arbiter.live import LivePolicies
from app.contracts import GuardRequest
from app.errors import (
    ConfigurationError,
    DecisionTimeout,
    EventLogUnavailable,
    MessagingUnavailable,
    ModelUnavailable,
    Overloaded,
    PolicyUnavailable,
    ProblemReply,
    RequestIdConflict,
)
from app.events.log import EventLog
from app.identity import now
from app.lifecycle import StopSignals
from app.pii.engine import PiiEngine
from app.pii.sealing import process_key
from app.problems import to_problem
from app.settings import PrivacySettings, Settings
from tests.running_service import CHECKOUT

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


def test_a_setting_that_ends_the_start_is_told_in_one_line(tmp_path: Path) -> None:
    environment = os.environ | {"VIGIL_STATE_DIR": str(tmp_path), "VIGIL_ACCESS__ADMIN_KEY": "kappa"}
    command = [sys.executable, "-c", "import app; app.main"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    said = "vigil: not started: settings cannot be used: access.admin_key: number 1 must have at least 32 characters"
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", f"{said}, not 5\n")


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"VIGIL_ACCESS__ADMIN_KEY": "kappa"}, "settings cannot be used: access.admin_key: "),
        ({"VIGIL_STATE_DIR": "/dev/null/state"}, "/dev/null/state/metrics: Not a directory"),
    ],
)
def test_what_no_worker_can_start_with_ends_uvicorns_parent_too(
    environment: dict[str, str], said: str, tmp_path: Path
) -> None:
    """In place of a parent that starts its workers again for ever."""
    settings = os.environ | {"VIGIL_STATE_DIR": str(tmp_path)} | environment
    command = [sys.executable, "-m", "uvicorn", "app:main", "--workers", "2", "--port", "0"]
    ended = subprocess.run(command, env=settings, capture_output=True, text=True, check=False, timeout=60, cwd=CHECKOUT)
    told = [line for line in ended.stderr.splitlines() if line.startswith("vigil: ")]
    assert 1 <= len(told) <= 2, "each worker once at most"
    assert all(line.startswith(f"vigil: not started: {said}") for line in told)
    assert "Traceback" not in ended.stderr


def test_variables_that_look_like_settings_and_are_none_are_named_without_their_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One underscore in place of two leaves the service open, or its digests without a key."""
    monkeypatch.setenv("VIGIL_ACCESS_MODE", "keys")
    monkeypatch.setenv("VIGIL_PRIVACY_HASH_KEY", KEY)
    monkeypatch.setattr(service, "load_settings", lambda: Settings(state_dir=tmp_path))
    monkeypatch.setattr(service.logs, "configure", lambda _: None)
    service.create_app()
    assert [line.partition(":")[0] for line in caplog.messages] == ["VIGIL_ACCESS_MODE, VIGIL_PRIVACY_HASH_KEY"]
    assert KEY not in caplog.text


async def test_the_event_log_is_opened_while_the_models_are_loaded_and_what_ends_the_start_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
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
    assert caplog.messages == ["not started: the log was tried: True"]


async def test_a_state_folder_that_cannot_be_written_to_is_named_when_it_ends_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)

    def fails(_: Settings) -> PiiEngine:
        raise OSError(errno.ENOSPC, "No space left on device", "state/nats/server.conf")

    monkeypatch.setattr(service, "_warm_detector", lambda _: None)
    monkeypatch.setattr(service, "_warm_pii_engine", fails)
    monkeypatch.setattr(StopSignals, "install", lambda _: None)
    made = service.VigilService(Settings(state_dir=tmp_path))
    with pytest.raises(OSError, match="No space"):
        await made.start()
    await made.stop()
    assert caplog.messages == ["not started: state/nats/server.conf: No space left on device"]


async def test_an_event_log_that_came_late_and_cannot_be_used_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As a database that a newer version has changed, while an older one waited for its server."""
    found: list[Exception] = [EventLogUnavailable("away"), ConfigurationError("the database is newer")]

    async def is_opened(_: Settings) -> EventLog:
        raise found.pop(0)

    monkeypatch.setattr(EventLog, "open", is_opened)
    monkeypatch.setattr(service, "EVENT_LOG_RETRY_S", 0)
    made = service.VigilService(Settings(state_dir=tmp_path))
    with pytest.raises(ConfigurationError):
        await made._open_event_log(asyncio.get_running_loop().create_future())
    assert "the event log is not opened: the database is newer" in caplog.messages
    assert (await made.readiness()).checks["clickhouse"].reason == "the database is newer"


@pytest.mark.parametrize(
    ("failure", "used"),
    [
        (MessagingUnavailable(), 0),
        (Overloaded(), 0),
        (RequestIdConflict(), 0),
        (ProblemReply(to_problem(PolicyUnavailable())), 0),
        (DecisionTimeout(), 1),
        (None, 1),
    ],
)
async def test_a_text_that_is_not_accepted_is_not_charged(failure: Exception | None, used: int, tmp_path: Path) -> None:
    class Gateway:
        async def guard(self, *_: object) -> bytes:
            if failure is not None:
                raise failure
            return b"{}"

        async def prepare(self, *_: object) -> object:
            return lambda: self.guard()

    made = service.VigilService(Settings(state_dir=tmp_path))
    made._backbone = cast("Any", SimpleNamespace(gateway=Gateway()))
    caller = Principal(key_id="0123456789ab", limits=Limits(requests_per_month=1))
    month = f"0123456789ab.month.{now():%Y-%m}"
    with nullcontext() if failure is None else pytest.raises(type(failure)):
        await made.guard(GuardRequest(text="hello"), caller)
    assert made.metering.quotas.used(month) == used
    made.metering.quotas.add(month, -used)
    with nullcontext() if failure is None else pytest.raises(type(failure)):
        await (await made.prepare(GuardRequest(text="hello"), caller))()
    assert made.metering.quotas.used(month) == used


@pytest.mark.parametrize(
    ("listed", "judging"),
    [((), "balanced"), (("strict", "balanced"), "balanced"), (("strict", "permissive"), "strict")],
)
def test_the_default_judges_what_names_no_policy_only_where_the_key_may_name_it(
    listed: tuple[str, ...], judging: str, tmp_path: Path
) -> None:
    made = service.VigilService(Settings(state_dir=tmp_path))
    made._policies = LivePolicies(load_policies(made.settings.config_dir))
    assert made.on_timeout(GuardRequest(text="x"), Principal(policies=listed))[0] == judging


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
