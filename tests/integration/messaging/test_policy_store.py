"""What is kept of policies on a real server: what was in force, under its number, whatever else the bucket holds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

import nats
import pytest
from nats.js.kv import KeyValue

from app.access.keys import KeyChange, KeyRequest, Peppers
from app.arbiter.book import PolicyBook, load_policies
from app.arbiter.documents import parse_json, pin_of
from app.arbiter.live import LivePolicies
from app.arbiter.policy import BranchSwitches, Policy
from app.contracts import PolicyPin
from app.errors import InvalidRequest, PolicyConflict, PolicyRefused, UnknownPolicy
from app.messaging import policy_keys as keys
from app.messaging.declarations import Declarations
from app.messaging.keys import KeyStore
from app.messaging.policy_desk import PolicyDesk
from app.messaging.policy_store import PolicyStore
from app.messaging.policy_watch import BucketArchive, PolicyWatch
from app.pii.worker import Redactors
from app.policy_checks import checks_of
from app.redaction import RedactionTable
from app.settings import Settings
from app.topology import KEYS_BUCKET, POLICIES_BUCKET

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

BOOK = load_policies(Settings().config_dir)
BALANCED = BOOK.policies["balanced"]


def changed(number: int) -> Policy:
    return BALANCED.model_copy(update={"description": f"number {number}"})


@dataclass
class Kept:
    store: PolicyStore
    bucket: KeyValue

    async def apply(self, number: int) -> Policy:
        return (await self.store.apply(changed(number), "test", base=BALANCED)).policy

    async def pins(self) -> set[PolicyPin]:
        """Return the versions that are kept, the files' left out."""
        kept = {each.pin for each in await self.store.versions("balanced")}
        return kept - {pin_of(BALANCED)}

    async def lose(self, pin: PolicyPin) -> None:
        """Leave the bucket as a process does that is killed between its two writes."""
        subject = f"{keys.SUBJECT_PREFIX}{keys.version_key(pin)}"
        await self.store._jetstream.purge_stream(POLICIES_BUCKET.stream, subject=subject)

    async def follow(self) -> LivePolicies:
        """Return what a process that starts now has in force."""
        policies = LivePolicies(BOOK)
        watch = PolicyWatch(policies)
        await watch.open(self.store._jetstream)
        await watch._close()
        return policies


@pytest.fixture
async def kept(server: str) -> AsyncIterator[Kept]:
    client = await nats.connect(server)
    jetstream = client.jetstream()
    await Declarations(1, 60).reconcile(jetstream)
    yield Kept(PolicyStore(jetstream), await jetstream.key_value("VIGIL_POLICIES"))
    await client.close()


async def test_of_two_who_apply_at_once_only_what_was_in_force_is_kept_under_a_number(kept: Kept) -> None:
    await asyncio.gather(*(kept.apply(number) for number in range(4)))
    in_force = {
        pin_of(parse_json(entry.value or b"")) for entry in await kept.bucket.history(keys.live_key("balanced"))
    }
    assert len({pin.version for pin in in_force}) == 4
    assert await kept.pins() == in_force
    for pin in in_force:
        assert pin_of(await kept.store.version("balanced", pin.version)) == pin


async def test_a_version_in_force_that_is_not_kept_yet_can_be_read_and_is_kept_before_it_is_replaced(
    kept: Kept,
) -> None:
    first = pin_of(await kept.apply(1))
    await kept.lose(first)
    document = await BucketArchive(kept.bucket).version(first)
    assert document is not None
    assert pin_of(parse_json(document)) == first
    assert await BucketArchive(kept.bucket).version(first.model_copy(update={"fingerprint": "0" * 16})) is None
    second = pin_of(await kept.apply(2))
    assert await kept.pins() == {first, second}
    await kept.lose(second)
    await kept.store.remove("balanced", "test", base=BALANCED)
    assert await kept.pins() == {first, second}


@pytest.mark.parametrize(
    ("written", "version"),
    [
        (b"{", 0),
        (b"[7]", 0),
        (json.dumps({"name": "balanced", "version": 90, "of_a_newer_release": 1}).encode(), 90),
        (BOOK.policies["strict"].model_dump_json().encode(), 0),
        (json.dumps({"version": 10**30}).encode(), 0),
    ],
    ids=["no JSON", "no object", "newer", "another name", "no number"],
)
async def test_what_this_program_cannot_read_can_be_replaced_and_gone_back_from(
    kept: Kept, written: bytes, version: int
) -> None:
    earlier = await kept.apply(1)
    await kept.bucket.put(keys.live_key("balanced"), written)
    assert [each.in_force for each in await kept.store.versions("balanced")] == [False]
    back = (await kept.store.roll_back("balanced", "test", base=BALANCED)).policy
    assert back == earlier.model_copy(update={"version": 1 + max(version, earlier.version)})
    assert (await kept.follow()).get("balanced") == back

    await kept.bucket.put(keys.live_key("balanced"), written)
    with pytest.raises(PolicyConflict):
        await kept.store.apply(changed(2), "test", expected_version=version + 1)
    applied = (await kept.store.apply(changed(2), "test", expected_version=version)).policy
    assert applied.version > back.version
    assert (await kept.follow()).get("balanced") == applied


async def test_going_back_passes_over_a_kept_version_of_a_newer_release(kept: Kept) -> None:
    earlier = await kept.apply(1)
    newer = json.dumps({"name": "balanced", "version": 90, "of_a_newer_release": 1}).encode()
    pin = PolicyPin(name="balanced", version=90, fingerprint="0" * 16)
    await kept.bucket.put(keys.version_key(pin), newer)
    await kept.bucket.put(keys.live_key("balanced"), newer)
    with pytest.raises(PolicyRefused, match="version 90 of policy balanced cannot be read by this release") as caught:
        await kept.store.roll_back("balanced", "test", to=90)
    assert [field for field, _ in caught.value.faults] == ["version"]
    back = (await kept.store.roll_back("balanced", "test")).policy
    assert (back.description, back.version) == (earlier.description, 91)


async def test_after_the_last_number_nothing_is_applied(kept: Kept) -> None:
    last = BALANCED.model_copy(update={"version": 2**32 - 1})
    with pytest.raises(PolicyRefused, match="no number after 4294967295"):
        await kept.store.apply(changed(1), "test", base=last)
    assert await kept.store.applied("balanced") is None


async def test_what_cannot_be_carried_out_any_more_is_not_gone_back_to(kept: Kept) -> None:
    hashing = changed(1).model_copy(update={"redaction": RedactionTable(default="hash")})
    earlier = (await kept.store.apply(hashing, "test", base=BALANCED)).policy
    present = await kept.apply(2)
    keyless = LivePolicies(BOOK, checks_of(Redactors(None)))
    keyless.replay(await kept.store.changes())
    desk = PolicyDesk(keyless, kept.store)
    for to in (None, earlier.version):
        with pytest.raises(PolicyRefused, match="VIGIL_PRIVACY__HASH_KEY"):
            await desk.roll_back("balanced", "test", to=to)
    assert await kept.store.applied("balanced") == present


async def test_a_trial_beside_a_policy_that_is_gone_with_its_file_can_be_ended(kept: Kept) -> None:
    await kept.store.apply(changed(1).model_copy(update={"name": "next"}), "test")
    await kept.store.choose_shadow("gone", "next", "test")
    policies = await kept.follow()
    desk = PolicyDesk(policies, kept.store)
    with pytest.raises(PolicyConflict, match="shadow of gone"):
        await desk.remove("next", "test")
    with pytest.raises(UnknownPolicy):
        await desk.choose_shadow("gone", "strict", "test")
    await desk.choose_shadow("gone", None, "test")
    await desk.remove("next", "test")
    with pytest.raises(UnknownPolicy):
        await desk.choose_shadow("gone", None, "test")


async def test_a_policy_that_judges_by_more_branches_is_not_tried_beside_another(kept: Kept) -> None:
    fewer = BALANCED.model_copy(update={"branches": BranchSwitches(classifier=False)})
    desk = PolicyDesk(LivePolicies(PolicyBook({**BOOK.policies, "balanced": fewer}, "balanced")), kept.store)
    with pytest.raises(InvalidRequest, match="strict judges by a branch that balanced does not run") as caught:
        await desk.choose_shadow("balanced", "strict", "test")
    assert caught.value.faults[0][0] == "policy"
    await desk.choose_shadow("strict", "balanced", "test")
    assert [change.name for change in await kept.store.changes()] == ["strict"]


async def test_a_policy_that_keys_name_is_not_taken_away_where_nothing_else_holds_under_its_name(kept: Kept) -> None:
    async def known() -> list[str]:
        return await kept.store.names(BOOK.policies)

    store = KeyStore(kept.store._jetstream, lambda: Peppers([b"p" * 32]), timedelta(hours=1), known)
    desk = PolicyDesk(LivePolicies(BOOK), kept.store)
    await kept.store.apply(changed(1).model_copy(update={"name": "ours"}), "test")
    owner = await store.create(KeyRequest(name="owner", policy="ours"), actor="test")
    lister = await store.create(KeyRequest(name="lister", policies=["strict", "ours"]), actor="test")
    await store.create(KeyRequest(name="other", policy="strict"), actor="test")
    with pytest.raises(PolicyConflict, match="keys that name ours: 2;"):
        await desk.remove("ours", "test")
    await store.revoke(owner.description.id, actor="test")
    with pytest.raises(PolicyConflict, match="keys that name ours: 1;"):
        await desk.remove("ours", "test")
    await store.amend(lister.description.id, KeyChange(policies=["strict"]), actor="test")
    await desk.remove("ours", "test")
    await kept.apply(2)
    await store.create(KeyRequest(name="of a file", policy="balanced"), actor="test")
    await desk.remove("balanced", "test")
    await kept.store.apply(changed(3).model_copy(update={"name": "ours"}), "test")
    await kept.store._jetstream.delete_stream(KEYS_BUCKET.stream)
    await desk.remove("ours", "test")


async def test_only_the_default_can_be_ended_as_the_default(kept: Kept) -> None:
    desk = PolicyDesk(LivePolicies(PolicyBook(BOOK.policies, "balanced")), kept.store)
    await desk.end_default("balanced", "test")  # The setting's own: it stays.
    for name, refusal in (("strict", PolicyConflict), ("nobody", UnknownPolicy)):
        with pytest.raises(refusal):
            await desk.end_default(name, "test")
    await desk.choose_default("strict", "test")
    for name in ("balanced", "permissive"):
        with pytest.raises(PolicyConflict, match=f"{name} is not the default"):
            await desk.end_default(name, "test")
    assert (await kept.bucket.get(keys.DEFAULT)).value == b"strict"
    await desk.end_default("strict", "test")
    assert await kept.store.changes() == []
