"""Keys: what is kept of them, who is let in with them, and what a thief of the bucket can do."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import pytest
from pydantic import ValidationError

from app.access import keys
from app.access.keys import KeyChange, KeyRecord, KeyRequest, Keyring, Peppers, amend, issue, revoke, rotate
from app.access.limits import UNLIMITED, Limits
from app.access.principal import ANONYMOUS, Principal, Scope
from app.contracts import GuardRequest
from app.errors import InvalidRequest, KeyRefused, PolicyNotAllowed
from app.identity import now

PEPPERS = Peppers([b"pepper-of-32-characters-or-more-1"])


def made(**fields: object) -> tuple[str, KeyRecord]:
    return issue(KeyRequest(**{"name": "test", **fields}), PEPPERS, created_by="cli:test")  # type: ignore[arg-type]


def ring(*records: KeyRecord, peppers: Peppers = PEPPERS) -> Keyring:
    keyring = Keyring(peppers)
    keyring.replace(records)
    return keyring


def test_a_key_has_a_form_that_scanners_know_and_no_two_are_alike() -> None:
    (first, record), (second, _) = made(), made()
    assert re.fullmatch(r"vgk_[0-9a-f]{12}_[0-9a-f]{64}", first)
    assert first.split("_")[1] == record.id
    assert first != second


def test_nothing_that_is_kept_or_listed_holds_the_secret() -> None:
    token, record = made()
    secret = token.rpartition("_")[2]
    assert secret not in record.model_dump_json()
    assert record.secrets[0].digest not in record.public().model_dump_json()
    assert secret not in repr(record)
    assert secret not in repr(keys.IssuedKey(key=token, description=record.public()))


def test_a_key_stands_for_what_it_was_made_for() -> None:
    token, record = made(
        tenant="acme", scopes=["guard", "events"], policy="strict", policies=["strict"], limits={"rate_per_s": 5}
    )
    caller = ring(record).check(token)
    assert caller == Principal(
        key_id=record.id,
        tenant="acme",
        scopes=frozenset({Scope.GUARD, Scope.EVENTS}),
        policy="strict",
        policies=("strict",),
        limits=Limits(rate_per_s=5),
    )
    assert ring(made()[1]).limits_of("absent") is None


@pytest.mark.parametrize("prefix", ["vg_live_", "vg_test_"])
def test_a_key_may_begin_as_the_clients_of_another_product_demand(prefix: str) -> None:
    token, record = made()
    written = prefix + token.removeprefix("vgk_")
    assert ring(record).check(written).key_id == record.id
    assert re.fullmatch(r"vg_(live|test)_[a-zA-Z0-9_-]{32,}", written), "what their SDK takes for a key"


@pytest.mark.parametrize(
    "token",
    ["", "vgk_", "Bearer x", "vgk_0123456789ab_" + "0" * 64, "vgk_0123456789ab_" + "0" * 63, "ż" * 40, "vgk_" * 99],
)
def test_what_is_no_key_of_this_service_is_refused_without_a_reason(token: str) -> None:
    with pytest.raises(KeyRefused) as caught:
        ring(made()[1]).check(token)
    assert caught.value.message == "This key is not known here."


def test_a_wrong_secret_is_refused_in_the_words_of_an_unknown_id() -> None:
    token, record = made()
    wrong = token[:-1] + ("0" if token[-1] != "0" else "1")
    with pytest.raises(KeyRefused) as caught:
        ring(revoke(record, PEPPERS)).check(wrong)
    assert caught.value.message == "This key is not known here."


def test_an_unknown_id_costs_a_digest_like_a_known_one(monkeypatch: pytest.MonkeyPatch) -> None:
    digests = []
    monkeypatch.setattr(keys, "_digest", lambda *given: digests.append(given) or "0")
    token, record = made()
    for tried in (token, "vgk_0123456789ab_" + "0" * 64):
        digests.clear()
        with pytest.raises(KeyRefused):
            ring(record.model_copy(update={"secrets": [keys.StoredSecret(salt="0", digest="f")]})).check(tried)
        assert len(digests) == 1


def test_a_revoked_key_is_refused_and_its_holder_is_told() -> None:
    token, record = made()
    with pytest.raises(KeyRefused, match="revoked"):
        ring(revoke(record, PEPPERS)).check(token)


def test_a_key_ends_with_its_time() -> None:
    token, record = made(expires_at=now() + timedelta(hours=1))
    keyring = ring(record)
    assert keyring.check(token).key_id == record.id
    expired = PEPPERS.sealed(record.model_copy(update={"expires_at": now() - timedelta(seconds=1)}))
    with pytest.raises(KeyRefused, match="expired"):
        ring(expired).check(token)


def test_after_a_rotation_both_secrets_work_until_the_grace_is_over_and_the_one_before_does_not() -> None:
    oldest, record = made()
    old, record = rotate(record, PEPPERS, grace=timedelta(hours=1))
    new, record = rotate(record, PEPPERS, grace=timedelta(hours=1))
    keyring = ring(record)
    assert keyring.check(new).key_id == keyring.check(old).key_id == record.id
    with pytest.raises(KeyRefused):
        keyring.check(oldest)
    past = [record.secrets[0], record.secrets[1].model_copy(update={"expires_at": now() - timedelta(seconds=1)})]
    with pytest.raises(KeyRefused, match="rotated"):
        ring(record.model_copy(update={"secrets": past})).check(old)


def test_a_rotation_without_grace_ends_the_old_secret_at_once() -> None:
    old, record = made()
    new, record = rotate(record, PEPPERS, grace=timedelta(0))
    assert ring(record).check(new)
    with pytest.raises(KeyRefused):
        ring(record).check(old)


def test_who_can_write_the_bucket_cannot_widen_a_key_or_make_one() -> None:
    _, record = made()
    assert PEPPERS.is_authentic(record)
    assert PEPPERS.is_authentic(KeyRecord.model_validate_json(record.model_dump_json()))
    for change in (
        {"scopes": frozenset({Scope.ADMIN})},
        {"tenant": "other"},
        {"limits": Limits(rate_per_s=1e6)},
        {"expires_at": now()},
        {"seal": ""},
    ):
        assert not PEPPERS.is_authentic(record.model_copy(update=change))
    _, foreign = issue(KeyRequest(name="x"), Peppers([b"another"]), created_by="x")
    assert not PEPPERS.is_authentic(foreign)


def test_a_second_pepper_keeps_old_keys_working() -> None:
    token, record = made()
    both = Peppers([b"the-new-pepper-of-32-characters-..", *PEPPERS.values])
    assert both.is_authentic(record)
    assert ring(record, peppers=both).check(token)
    assert not PEPPERS.is_authentic(both.sealed(record))


def test_the_policy_of_the_key_is_that_of_requests_that_name_none() -> None:
    caller = Principal(policy="strict", policies=("balanced",))
    assert caller.bound(GuardRequest(text="x")).policy == "strict"
    assert caller.bound(GuardRequest(text="x", policy="strict")).policy == "strict"
    assert caller.bound(GuardRequest(text="x", policy="balanced")).policy == "balanced"
    with pytest.raises(PolicyNotAllowed):
        caller.bound(GuardRequest(text="x", policy="permissive"))


def test_without_a_policy_of_the_key_a_request_stays_as_it_is() -> None:
    request = GuardRequest(text="x")
    assert ANONYMOUS.bound(request) is request
    assert Principal(policy="strict").bound(GuardRequest(text="x", policy="any")).policy == "any"


def test_a_request_that_names_no_policy_is_judged_by_none_but_those_of_the_keys_list() -> None:
    token, record = made(policies=["strict", "balanced"])
    caller = ring(record).check(token)
    request = GuardRequest(text="x")
    assert caller.bound(request, "permissive").policy == "strict"
    assert caller.bound(request).policy == "strict"
    assert caller.bound(request, "balanced").policy == "balanced"
    assert caller.bound(GuardRequest(text="x", policy="balanced"), "permissive").policy == "balanced"
    assert ANONYMOUS.bound(request, "permissive") is request


def test_a_text_longer_than_the_keys_is_refused_without_being_repeated() -> None:
    caller = Principal(limits=Limits(text_length=3))
    assert caller.bound(GuardRequest(text="abc"))
    with pytest.raises(InvalidRequest) as caught:
        caller.bound(GuardRequest(text="kappa"))
    assert caught.value.faults[0][0] == "text"
    assert "kappa" not in caught.value.message


def test_keys_without_limits_share_one_object() -> None:
    token, record = made()
    assert ring(KeyRecord.model_validate_json(record.model_dump_json())).check(token).limits is UNLIMITED


def test_what_a_change_does_not_name_stays_and_null_takes_away() -> None:
    token, record = made(tenant="acme", policy="strict", policies=["strict"], limits={"rate_per_s": 5, "burst": 9})
    change = KeyChange.model_validate({"limits": {"rate_per_s": 50, "burst": None}, "policy": None})
    changed = amend(record, change, PEPPERS)
    caller = ring(changed).check(token)
    assert (caller.tenant, caller.policy, caller.policies) == ("acme", None, ("strict",))
    assert caller.limits == Limits(rate_per_s=50)
    assert (changed.name, changed.secrets, changed.scopes) == (record.name, record.secrets, record.scopes)
    assert change.changes() == {"policy": None, "limits.rate_per_s": 50, "limits.burst": None}
    assert PEPPERS.is_authentic(changed)
    freed = amend(changed, KeyChange.model_validate({"limits": {"rate_per_s": None}}), PEPPERS)
    assert ring(freed).check(token).limits is UNLIMITED


@pytest.mark.parametrize(
    "change", [{"name": ""}, {"name": None}, {"limits": None}, {"limits": {"rate_per_s": 0}}, {"tenant": "other"}]
)
def test_a_change_that_cannot_be_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        KeyChange.model_validate(change)


def test_a_key_that_a_later_version_wrote_works_and_keeps_what_it_says_beyond_this_one() -> None:
    token, record = made(limits={"rate_per_s": 5})
    content = json.loads(record.model_dump_json())
    content["limits"]["words_per_day"] = 7
    content |= {"region": {"allowed": ["eu", 1.5]}}
    later = PEPPERS.sealed(KeyRecord.model_validate(content))
    read = KeyRecord.model_validate_json(later.model_dump_json())
    assert PEPPERS.is_authentic(read)
    assert ring(read).check(token).limits == Limits(rate_per_s=5)
    assert read.public().limits == Limits(rate_per_s=5)
    changed = amend(read, KeyChange.model_validate({"limits": {"burst": 9}}), PEPPERS)
    for each in (changed, rotate(changed, PEPPERS, grace=timedelta(0))[1], revoke(changed, PEPPERS)):
        kept = json.loads(each.model_dump_json())
        assert (kept["region"], kept["limits"]["words_per_day"]) == (content["region"], 7)
        assert (kept["limits"]["rate_per_s"], kept["limits"]["burst"]) == (5, 9)
    without = content | {"region": None, "seal": later.seal}
    assert not PEPPERS.is_authentic(KeyRecord.model_validate(without)), "what is beyond this version is sealed too"
