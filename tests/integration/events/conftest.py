"""One running service that stores full texts, shared by the tests of its event log."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.running_service import CHECKOUT, RunningService

HASH_KEY = "a key of this test"
Vigil = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
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
def vigil(service: RunningService) -> Vigil:
    """Run the command beside the service."""

    def run(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "app.cli", *arguments]
        environment = os.environ | {"VIGIL_STATE_DIR": str(service.state_dir), "VIGIL_PRIVACY__HASH_KEY": HASH_KEY}
        return subprocess.run(
            command, cwd=CHECKOUT, env=environment, input=stdin, capture_output=True, text=True, check=False
        )

    return run


def guarded(client: httpx.Client, service: RunningService, text: str, **fields: Any) -> dict[str, Any]:
    """Guard a text and wait until its row can be read."""
    answer: dict[str, Any] = client.post("/guard", json={"text": text, **fields}).raise_for_status().json()
    service.wait_for(lambda http: http.get(f"/events/{answer['request_id']}").status_code == 200)
    return answer


def parsed(result: subprocess.CompletedProcess[str]) -> Any:
    assert result.returncode in (0, 1), result.stderr
    return json.loads(result.stdout)
