"""Readers of key-value buckets on a real server."""

from __future__ import annotations

import nats
import pytest

from app.arbiter.book import load_policies
from app.arbiter.live import LivePolicies
from app.messaging.buckets import snapshot
from app.messaging.declarations import Declarations
from app.messaging.policy_store import PolicyStore
from app.messaging.policy_watch import PolicyWatch
from app.settings import Settings

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]


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


async def test_all_applied_policies_are_in_force_when_the_watch_of_them_is_open(
    server: str, tells_too_early: None
) -> None:
    book = load_policies(Settings().config_dir)
    client = await nats.connect(server)
    try:
        jetstream = client.jetstream()
        await Declarations(1, 60).reconcile(jetstream)
        for threshold in (91, 92, 93):
            changed = book.policies["balanced"].model_copy(update={"description": f"threshold {threshold}"})
            applied = await PolicyStore(jetstream).apply(changed, "test", base=book.policies["balanced"])
        policies = LivePolicies(book)
        watch = PolicyWatch(policies)
        await watch.open(jetstream)
        assert policies.get("balanced") == applied.policy
        await watch._close()
    finally:
        await client.close()
