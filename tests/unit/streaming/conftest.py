"""One engine for all tests of streams: loading the model takes seconds."""

from __future__ import annotations

import pytest

from app.pii.engine import PiiEngine


@pytest.fixture(scope="session")
def engine() -> PiiEngine:
    return PiiEngine.load()
