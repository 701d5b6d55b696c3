"""The composition root: with which keys maps are sealed."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from app import service
from app.pii.sealing import process_key
from app.settings import PrivacySettings, Settings

KEY = "kappa-omega-secret-of-32-characters"


@pytest.mark.parametrize(
    ("nats_url", "key", "warns"),
    [(None, None, False), ("nats://server:4222", None, True), ("nats://server:4222", KEY, False), (None, KEY, False)],
)
def test_replicas_without_a_common_key_are_warned_of(
    nats_url: str | None, key: str | None, warns: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warned: list[str] = []
    monkeypatch.setattr(service.logger, "warning", warned.append)
    privacy = PrivacySettings(restore_key=SecretStr(key) if key else None)
    made = service.VigilService(Settings(nats_url=nats_url, state_dir=tmp_path, privacy=privacy))
    assert made._sealer.keys == ((key.encode() if key else process_key()),)
    assert [KEY in line for line in warned] == [False] * warns
