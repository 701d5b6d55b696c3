"""One running service for all tests of the HTTP contract, and a way to start others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.running_service import RunningService


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    running = RunningService(tmp_path_factory.mktemp("service"))
    try:
        yield running.start()
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
