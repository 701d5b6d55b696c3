"""Fixtures of integration tests: settings of event logs, embedded and behind a server's HTTP interface."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import pytest
from pydantic import SecretStr

from app.settings import EventLogSettings, Settings
from tests.integration.clickhouse_http import PASSWORD, USER


@pytest.fixture(scope="session")
def clickhouse_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a ClickHouse server: VIGIL_TEST_CLICKHOUSE_URL, or the HTTP interface over the embedded engine."""
    named = os.environ.get("VIGIL_TEST_CLICKHOUSE_URL")
    if named:
        yield named
        return
    command = [sys.executable, "-m", "tests.integration.clickhouse_http", str(tmp_path_factory.mktemp("clickhouse"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        yield f"http://{USER}:{quote(PASSWORD, safe='')}@127.0.0.1:{port}"
        server.kill()


@pytest.fixture
def embedded_log_settings(tmp_path: Path) -> Settings:
    """Settings of an embedded event log in a folder of its own."""
    return Settings(state_dir=tmp_path / "state", clickhouse_url=None)


@pytest.fixture
def server_log_settings(tmp_path: Path, clickhouse_url: str) -> Settings:
    """Settings of an event log on a server, in a database of its own."""
    return Settings(
        state_dir=tmp_path / "state",
        clickhouse_url=SecretStr(clickhouse_url),
        event_log=EventLogSettings(database=f"test_{uuid4().hex}"),
    )


@pytest.fixture(params=["embedded", "server"])
def event_log_settings(request: pytest.FixtureRequest) -> Settings:
    """Settings of an empty event log of either kind."""
    settings: Settings = request.getfixturevalue(f"{request.param}_log_settings")
    return settings
