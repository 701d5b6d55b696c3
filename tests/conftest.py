"""Fixtures shared by all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.settings import Settings


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--generated", type=int, default=2000, help="texts that each test with made-up texts tries")


@pytest.fixture
def generated(request: pytest.FixtureRequest) -> int:
    """How many texts a test makes up."""
    return int(request.config.getoption("--generated"))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a service of its own: embedded parts in a temporary folder."""
    return Settings(state_dir=tmp_path / "state")
