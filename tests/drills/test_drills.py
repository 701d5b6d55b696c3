"""Every drill in its short version: what was accepted is decided or dead-lettered, once, whatever breaks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.drills.catalogue import DRILLS

pytestmark = [pytest.mark.integration, pytest.mark.timeout(480)]


@pytest.mark.parametrize("name", DRILLS)
async def test_nothing_is_lost_and_nothing_comes_twice(name: str, tmp_path: Path) -> None:
    entry = DRILLS[name]
    account = await entry.account(tmp_path, entry.short)
    assert account.faults() == [], account.as_dict()
    assert account.sent >= entry.short.requests
    assert account.answered > 0
