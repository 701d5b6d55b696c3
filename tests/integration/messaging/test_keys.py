"""Keys, rates and quotas on a real nats-server: seen at once, through outages, and by every replica."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import nats
import pytest
from nats.aio.client import Client
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError
from nats.js.kv import KeyValue

from app.access.control import AccessControl, AccessMode
from app.access.keys import KeyChange, KeyRequest, Peppers, RotationRequest
from app.access.limits import UNLIMITED, Limits
from app.access.metering import Metering
from app.access.principal import Principal, Scope
from app.access.quotas import QuotaBook
from app.errors import (
    InvalidRequest,
    KeyMissing,
    KeyRefused,
    KeysUnread,
    MessagingUnavailable,
    QuotaExceeded,
    RateLimited,
    UnknownKey,
    UnknownResource,
    VigilError,
)
from app.messaging import audit, keys
from app.messaging.declarations import Declarations
from app.messaging.embedded import EmbeddedNats
from app.messaging.keys import KeyStore, KeyWatch
from app.messaging.quotas import QuotaCounts
from app.messaging.usage import UsageExchange
from app.topology import KEYS_BUCKET, QUOTAS_BUCKET
from tests.support import eventually

PEPPERS = Peppers([b"pepper-of-32-characters-or-more-1"])


@dataclass
class Desk:
    """Where an administrator works: the store of keys, on a connection of its own."""

    client: Client
    jetstream: JetStreamContext
    store: KeyStore


async def no_policies() -> list[str]:
    return []


@pytest.fixture
async def desk(server: str) -> AsyncIterator[Desk]:
    client = await nats.connect(server, max_reconnect_attempts=-1, reconnect_time_wait=0.05)
    jetstream = client.jetstream()
    await Declarations(1, 60).reconcile(jetstream)
    yield Desk(client, jetstream, KeyStore(jetstream, lambda: PEPPERS, timedelta(hours=1), no_policies))
    await client.close()


@asynccontextmanager
async def replica(server: str, *companions: Any) -> AsyncIterator[Client]:
    """Run companions on a connection as a service does."""
    client = await nats.connect(server, max_reconnect_attempts=-1, reconnect_time_wait=0.05)
    jetstream = client.jetstream()
    for companion in companions:
        await companion.open(client, jetstream)
    running = [asyncio.create_task(companion.run(client, jetstream)) for companion in companions]
    try:
        yield client
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await client.close()


def control() -> AccessControl:
    return AccessControl(AccessMode.AUTO, PEPPERS, None)


def outcome(access: AccessControl, token: str | None) -> str | type[VigilError]:
    try:
        return access.admit(Scope.GUARD, token, lambda: True).key_id
    except VigilError as error:
        return type(error)


async def seen(condition: Callable[[], bool], *, within_s: float) -> float:
    """Return after how many seconds the condition held."""
    started = time.monotonic()

    async def holds() -> bool:
        return condition()

    await eventually(holds, within_s=within_s)
    return time.monotonic() - started


async def test_no_key_is_unknown_while_the_watch_of_them_begins(
    server: str, desk: Desk, tells_too_early: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.store.create(KeyRequest(name="chat"), actor="cli:test")
    known: list[int] = []
    replace = KeyWatch._replace

    def counted(watch: KeyWatch, entries: list[Any]) -> None:
        known.append(len(entries))
        replace(watch, entries)

    monkeypatch.setattr(KeyWatch, "_replace", counted)
    async with replica(server, KeyWatch(control())):
        await seen(lambda: len(known) == 2, within_s=5)
    assert known == [1, 1]


async def test_a_key_that_has_expired_works_again_only_under_policies_that_are_there(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What only expired keys name can be taken away, so every request of theirs would be refused."""
    policies = ["balanced", "mine", "ours"]

    async def present() -> list[str]:
        return policies

    store = KeyStore(desk.jetstream, lambda: PEPPERS, timedelta(hours=1), present)
    soon, later = datetime.now(UTC) + timedelta(hours=1), datetime.now(UTC) + timedelta(hours=3)
    request = KeyRequest(name="chat", policy="mine", policies=["balanced", "ours"], expires_at=soon)
    key_id = (await store.create(request, actor="cli:test")).description.id
    policies.remove("mine")
    assert (await store.amend(key_id, KeyChange(expires_at=soon), actor="cli:test")).policy == "mine"
    monkeypatch.setattr(keys, "now", lambda: soon + timedelta(hours=1))
    gone = "policy: the expired key names mine, gone since: change it with the end; the policies are balanced, ours"
    for end in (later, None):
        with pytest.raises(InvalidRequest) as refused:
            await store.amend(key_id, KeyChange(expires_at=end), actor="cli:test")
        assert (refused.value.message, refused.value.field) == (gone, "policy")
    policies.remove("ours")
    with pytest.raises(InvalidRequest, match="policies: the expired key names ours, gone since"):
        await store.amend(key_id, KeyChange(expires_at=later, policy=None), actor="cli:test")
    assert (await store.amend(key_id, KeyChange(name="still expired"), actor="cli:test")).policy == "mine"
    change = KeyChange(expires_at=later, policy="balanced", policies=[])
    assert (await store.amend(key_id, change, actor="cli:test")).expires_at == later


async def test_every_replica_sees_a_key_made_rotated_and_revoked_within_a_second(server: str, desk: Desk) -> None:
    first, second = control(), control()
    async with replica(server, KeyWatch(first)), replica(server, KeyWatch(second)):
        assert outcome(second, None) == ""
        issued = await desk.store.create(KeyRequest(name="chat"), actor="cli:test")
        key_id = issued.description.id
        for access in (first, second):
            assert await seen(lambda access=access: outcome(access, issued.key) == key_id, within_s=1) < 1
            assert outcome(access, None) is KeyMissing
        rotated = await desk.store.rotate(key_id, RotationRequest(grace_s=0), actor="cli:test")
        await seen(lambda: outcome(second, rotated.key) == key_id, within_s=1)
        assert outcome(second, issued.key) is KeyRefused
        await desk.store.revoke(key_id, actor="cli:test")
        await seen(lambda: outcome(second, rotated.key) is KeyRefused, within_s=1)


async def test_the_known_keys_stay_while_the_server_is_away_and_changes_are_seen_after_it(
    server_process: EmbeddedNats, server: str, desk: Desk
) -> None:
    issued = await desk.store.create(KeyRequest(name="chat"), actor="cli:test")
    access = control()
    async with replica(server, KeyWatch(access)) as client:
        assert server_process.record is not None
        os.kill(server_process.record.pid, signal.SIGKILL)
        await seen(lambda: not client.is_connected, within_s=5)
        assert outcome(access, issued.key) == issued.description.id
        await seen(lambda: client.is_connected and desk.client.is_connected, within_s=10)
        await desk.store.revoke(issued.description.id, actor="cli:test")
        await seen(lambda: outcome(access, issued.key) is KeyRefused, within_s=10)


async def test_a_bucket_that_was_deleted_ends_its_keys_and_is_followed_when_it_is_made_anew(
    server: str, desk: Desk
) -> None:
    issued = await desk.store.create(KeyRequest(name="chat"), actor="cli:test")
    access = control()
    async with replica(server, KeyWatch(access)):
        await desk.jetstream.delete_key_value(KEYS_BUCKET.name)
        with pytest.raises(UnknownResource):
            await desk.store.list()
        await Declarations(1, 60).reconcile(desk.jetstream)
        await seen(lambda: outcome(access, issued.key) is KeyRefused, within_s=5)
        assert outcome(access, None) is KeyMissing
        other = await desk.store.create(KeyRequest(name="other"), actor="cli:test")
        await seen(lambda: outcome(access, other.key) == other.description.id, within_s=1)


async def test_nobody_is_let_in_while_the_bucket_cannot_be_read(server: str) -> None:
    client = await nats.connect(server)
    access = control()
    with pytest.raises(NotFoundError):
        await KeyWatch(access).open(client, client.jetstream())
    assert outcome(access, None) is KeysUnread
    await client.close()


async def test_what_others_wrote_into_the_bucket_is_no_key_and_closes_the_door(server: str, desk: Desk) -> None:
    issued = await desk.store.create(KeyRequest(name="chat"), actor="cli:test")
    bucket = await desk.jetstream.key_value(KEYS_BUCKET.name)
    entry = await bucket.get(issued.description.id)
    assert entry.value is not None
    widened = entry.value.replace(b'"guard"', b'"admin","guard"')
    assert widened != entry.value
    await bucket.put(issued.description.id, widened)
    await bucket.put("aaaaaaaaaaaa", b"not json")
    access = control()
    async with replica(server, KeyWatch(access)):
        assert outcome(access, issued.key) is KeyRefused
        assert outcome(access, None) is KeyMissing


async def test_every_action_is_in_the_audit_record_without_a_secret(desk: Desk) -> None:
    issued = await desk.store.create(KeyRequest(name="chat"), actor="cli:test")
    await desk.store.rotate(issued.description.id, RotationRequest(), actor="abc")
    await desk.store.revoke(issued.description.id, actor="abc")
    page = await audit.entries(desk.jetstream, limit=10)
    assert [(each.actor, each.action) for each in page.entries] == [
        ("abc", "keys.revoke"),
        ("abc", "keys.rotate"),
        ("cli:test", "keys.create"),
    ]
    assert issued.key.rpartition("_")[2] not in page.model_dump_json()


@pytest.mark.parametrize("key_id", ["000000000000", "a.b", ">", "*", "", "ż"])
async def test_a_key_that_does_not_exist_is_unknown(desk: Desk, key_id: str) -> None:
    with pytest.raises(UnknownKey):
        await desk.store.revoke(key_id, actor="cli:test")


async def test_a_revoked_key_is_not_rotated_back_to_life(desk: Desk) -> None:
    issued = await desk.store.create(KeyRequest(name="chat"), actor="cli:test")
    await desk.store.revoke(issued.description.id, actor="cli:test")
    with pytest.raises(UnknownKey, match="revoked"):
        await desk.store.rotate(issued.description.id, RotationRequest(), actor="cli:test")


async def test_a_rotation_whose_acknowledgement_is_lost_is_told_as_done(
    server: str, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    issued = await desk.store.create(KeyRequest(name="rotated"), actor="cli:test")
    update = KeyValue.update

    async def unheard(*arguments: Any, **named: Any) -> int:
        await update(*arguments, **named)
        raise NatsTimeoutError

    async def unsent(*arguments: Any, **named: Any) -> int:
        raise NatsTimeoutError

    monkeypatch.setattr(KeyValue, "update", unheard)
    rotated = await desk.store.rotate(issued.description.id, RotationRequest(), actor="cli:test")
    access = control()
    async with replica(server, KeyWatch(access)):
        assert [outcome(access, token) for token in (issued.key, rotated.key)] == [issued.description.id] * 2
    monkeypatch.setattr(KeyValue, "update", unsent)
    with pytest.raises(MessagingUnavailable, match="not changed"):
        await desk.store.rotate(issued.description.id, RotationRequest(), actor="cli:test")


async def test_replicas_spend_one_bucket_together(server: str, desk: Desk) -> None:
    limits = Limits(rate_per_s=0.001, burst=100)
    caller = Principal(key_id="0123456789ab", limits=limits)
    one, other = (Metering(name * 32, UNLIMITED, lambda _: limits) for name in "12")
    async with replica(server, UsageExchange(one.rates)), replica(server, UsageExchange(other.rates)):
        await seen(lambda: one.rates.replicas() == other.rates.replicas() == 2, within_s=5)
        for _ in range(60):
            one.enter(caller, judges=False)
        bucket = other.rates.bucket(caller.key_id, limits)
        assert bucket is not None
        await seen(lambda: bucket.level(time.monotonic()) < 41, within_s=1)
        for _ in range(40):
            other.enter(caller, judges=False)
        with pytest.raises(RateLimited):
            other.enter(caller, judges=False)


async def test_quotas_are_added_up_over_replicas_and_outlast_them(server: str, desk: Desk) -> None:
    name = "0123456789ab.day.2026-11-26"

    def clock() -> datetime:
        return datetime(2026, 11, 26, tzinfo=UTC)

    one, other = QuotaBook(clock), QuotaBook(clock)
    async with replica(server, QuotaCounts(one)), replica(server, QuotaCounts(other)):
        for book in (one, other):
            book.add(name, 30)
        await seen(lambda: not one.pending() and not other.pending(), within_s=5)
        one.add(name, 5)  # Written when it stops.
    later = QuotaBook(clock)
    async with replica(server, QuotaCounts(later)):
        assert later.used(name) == 65


async def test_room_that_another_replica_gives_back_is_found_by_who_is_refused(server: str, desk: Desk) -> None:
    caller = Principal(key_id="0123456789ab", limits=Limits(requests_per_day=10))

    def clock() -> datetime:
        return datetime(2026, 11, 26, tzinfo=UTC)

    one, other = (Metering(name * 32, UNLIMITED, lambda _: caller.limits, wall_clock=clock) for name in "12")

    def has_room() -> bool:
        try:
            one.check_room(caller, 1)
        except QuotaExceeded:
            return False
        return True

    async with replica(server, QuotaCounts(one.quotas)), replica(server, QuotaCounts(other.quotas)):
        charges = [other.count(caller) for _ in range(9)]
        await seen(lambda: not other.quotas.pending(), within_s=5)
        one.count(caller)
        await seen(lambda: not one.quotas.pending(), within_s=5)
        for charge in charges:
            other.give_back(charge)
        await seen(lambda: not other.quotas.pending(), within_s=5)
        assert not has_room()
        await seen(has_room, within_s=5)
        assert one.quotas.used("0123456789ab.day.2026-11-26") == 1


class LosesAcknowledgements:
    """A JetStream whose next acknowledgement is lost, though the stream has the message."""

    def __init__(self, jetstream: JetStreamContext) -> None:
        self._jetstream = jetstream
        self.lost = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._jetstream, name)

    async def publish(self, *arguments: Any, **options: Any) -> Any:
        acknowledgement = await self._jetstream.publish(*arguments, **options)
        if not self.lost:
            self.lost += 1
            raise NatsTimeoutError
        return acknowledgement


@pytest.mark.parametrize("meanwhile", ["nothing", "others add"])
async def test_an_addition_whose_acknowledgement_is_lost_counts_once(meanwhile: str, desk: Desk) -> None:
    name = "0123456789ab.day.2026-11-26"
    book, other = QuotaBook(), QuotaBook()
    counts, lossy = QuotaCounts(book), LosesAcknowledgements(desk.jetstream)
    book.add(name, 3)
    await counts._write(cast("Any", lossy))
    assert book.pending() == {name: 3}
    if meanwhile == "others add":
        for texts in (10, 20):
            other.add(name, texts)
            await QuotaCounts(other)._write(desk.jetstream)
    book.add(name, 4)
    await counts._write(cast("Any", lossy))
    assert book.pending() == {name: 4}
    await counts._write(cast("Any", lossy))
    bucket = await desk.jetstream.key_value(QUOTAS_BUCKET.name)
    assert (await bucket.get(name)).value == (b"37" if meanwhile == "others add" else b"7")
    assert (book.pending(), other.pending()) == ({}, {})


async def test_what_is_given_back_is_taken_out_of_the_count_that_is_kept(server: str, desk: Desk) -> None:
    name = "0123456789ab.day.2026-11-26"

    def clock() -> datetime:
        return datetime(2026, 11, 26, tzinfo=UTC)

    book = QuotaBook(clock)
    async with replica(server, QuotaCounts(book)):
        for texts, total in ((3, 3), (-1, 2), (-9, 0)):
            book.add(name, texts)
            await seen(lambda: not book.pending(), within_s=5)
            assert book.used(name) == total
