"""Fixtures shared by all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a service of its own: embedded parts in a temporary folder."""
    return Settings(state_dir=tmp_path / "state")
