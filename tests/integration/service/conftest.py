"""One running service for all tests of the HTTP contract, and a way to start others."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.running_service import RunningService

PARTICULAR_CANARY = "kappa-omega-7319-of-the-process"
PARTICULAR_ORIGIN = "https://app.example.com"


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    running = RunningService(tmp_path_factory.mktemp("service"))
    try:
        yield running.start()
    finally:
        running.end()


@pytest.fixture(scope="session")
def particular(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """A service with settings that one test each needs, and that none of the others of these tests meets."""
    running = RunningService(
        tmp_path_factory.mktemp("particular"),
        {
            "VIGIL_ACCESS__MODE": "open",
            "VIGIL_CANARIES": PARTICULAR_CANARY,
            "VIGIL_GATEWAYS__DEADLINE_MS": "1",
            "VIGIL_HTTP__CORS_ORIGINS": json.dumps([PARTICULAR_ORIGIN]),
            "VIGIL_STREAM__IDLE_TIMEOUT_S": "1",
            "VIGIL_STREAM__MAX_OPEN": "1",
        },
    )
    try:
        yield running.start()
        running.stop()
        assert PARTICULAR_CANARY not in running.log
    finally:
        running.end()


@pytest.fixture
def client(service: RunningService) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, timeout=30) as client:
        yield client


@pytest.fixture
def new_service(tmp_path: Path) -> Iterator[Callable[..., RunningService]]:
    """Make services that are ended with the test."""
    made: list[RunningService] = []

    def make(**options: object) -> RunningService:
        made.append(RunningService(tmp_path / "state", **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for each in made:
        each.end()
