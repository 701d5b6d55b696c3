"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from app.settings import Settings

# Tests start a hundred processes: without bytecode on disk each would compile the whole checkout anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


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
