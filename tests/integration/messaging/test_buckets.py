"""Readers of key-value buckets on a real server."""

from __future__ import annotations

from typing import Any

import nats
import pytest
from nats.js.kv import KeyValue

from app.messaging.buckets import snapshot

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]


@pytest.fixture
def tells_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch that says that it has seen everything before its first entry, as nats-py's does when the server was
    quicker than the reader."""
    watch = KeyValue.watch

    async def early(self: KeyValue, *arguments: Any, **options: Any) -> Any:
        watcher: Any = await watch(self, *arguments, **options)
        entries = []
        while (entry := await watcher.updates(timeout=5)) is not None:
            entries.append(entry)
        for told in (None, *entries):
            watcher._updates.put_nowait(told)
        return watcher

    monkeypatch.setattr(KeyValue, "watch", early)


@pytest.mark.parametrize("early", [False, True])
async def test_a_snapshot_holds_every_key_that_matches(
    server: str, early: bool, request: pytest.FixtureRequest
) -> None:
    client = await nats.connect(server)
    try:
        jetstream = client.jetstream()
        bucket = await jetstream.create_key_value(bucket="SOME")
        assert await snapshot(jetstream, "SOME") == []
        await bucket.put("a.1", b"one")
        await bucket.put("a.1", b"two")
        await bucket.put("a.2", b"three")
        await bucket.delete("a.2")
        await bucket.put("b.1", b"four")
        if early:
            request.getfixturevalue("tells_too_early")
        found = {entry.key: (entry.value, entry.operation) for entry in await snapshot(jetstream, "SOME", "a.>")}
        assert found == {"a.1": (b"two", None), "a.2": (b"", "DEL")}
        assert sorted(entry.key for entry in await snapshot(jetstream, "SOME", meta_only=True)) == ["a.1", "a.2", "b.1"]
        assert await snapshot(jetstream, "SOME", "c.>") == []
    finally:
        await client.close()
