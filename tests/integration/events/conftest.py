"""One running service that stores full texts, shared by the tests of its event log, and the command beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from app.cli.commands import vigil as command
from app.settings import load_settings
from tests.running_service import RunningService

HASH_KEY = "a key of this test"
Vigil = Callable[..., Result]


@pytest.fixture(scope="package")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    running = RunningService(
        tmp_path_factory.mktemp("service"),
        {
            "VIGIL_PRIVACY__STORE": "full",
            "VIGIL_PRIVACY__FULL_TEXT_DAYS": "1",
            "VIGIL_PRIVACY__HASH_KEY": HASH_KEY,
            "VIGIL_EVENT_LOG__BATCH_WAIT_S": "0.1",
        },
    )
    try:
        yield running.start()
    finally:
        running.end()


@pytest.fixture
def client(service: RunningService) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=30) as client:
        yield client


@pytest.fixture
def vigil(service: RunningService, monkeypatch: pytest.MonkeyPatch) -> Iterator[Vigil]:
    """Run the command beside the service, with the service's settings."""
    monkeypatch.setenv("VIGIL_STATE_DIR", str(service.state_dir))
    monkeypatch.setenv("VIGIL_PRIVACY__HASH_KEY", HASH_KEY)
    load_settings.cache_clear()
    yield lambda *arguments, stdin=None: CliRunner().invoke(command, arguments, input=stdin)
    load_settings.cache_clear()


def guarded(client: httpx.Client, service: RunningService, text: str, **fields: Any) -> dict[str, Any]:
    """Guard a text and wait until its row can be read."""
    answer: dict[str, Any] = client.post("/guard", json={"text": text, **fields}).raise_for_status().json()
    service.wait_for(lambda http: http.get(f"/events/{answer['request_id']}").status_code == 200)
    return answer


def parsed(result: Result) -> Any:
    assert result.exit_code in (0, 1), result.output
    return json.loads(result.stdout)
