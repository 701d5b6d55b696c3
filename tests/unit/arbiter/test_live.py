"""Policies that change while requests are under way: what is in force, what a request is pinned to, what is refused."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from app.arbiter.book import PolicyBook
from app.arbiter.documents import canonical_json, pin_of
from app.arbiter.live import Change, LivePolicies
from app.arbiter.policy import Policy
from app.contracts import GuardedText, GuardRequest, Mode, PolicyPin, Source
from app.errors import ConfigurationError, InvalidRequest, PolicyRefused, PolicyUnavailable
from tests.unit.arbiter.jobs import policy


def live(**files: dict[str, Any]) -> LivePolicies:
    book = {name: policy(**{"name": name, **changes}) for name, changes in {"test": {}, **files}.items()}
    return LivePolicies(PolicyBook(book, "test"))


def applied(name: str = "test", **changes: Any) -> Change:
    return Change("policy", name, canonical_json(policy(**{"name": name, **changes})))


def subject(pin: PolicyPin | None, name: str | None = None) -> GuardedText:
    return GuardedText(digest="", length=1, mode=Mode.FULL, source=Source.INPUT, pin=pin, policy=name)


class Kept:
    """An archive with the given policies."""

    def __init__(self, *policies: Policy) -> None:
        self.policies = policies
        self.asked = 0

    async def version(self, pin: PolicyPin) -> bytes | None:
        self.asked += 1
        return next((canonical_json(each) for each in self.policies if pin_of(each) == pin), None)

    async def applied(self, name: str) -> bytes | None:
        self.asked += 1
        return next((canonical_json(each) for each in self.policies if each.name == name), None)


async def test_an_applied_policy_takes_the_place_of_the_files_until_it_is_removed() -> None:
    policies = live()
    policies.take(applied(version=2, block_at=77))
    assert (policies.get().block_at, policies.get("test").version) == (77, 2)
    assert policies.is_applied("test")
    policies.take(Change("policy", "test", None))
    assert (policies.get().block_at, policies.is_applied("test")) == (50, False)


async def test_a_request_is_judged_to_its_end_by_the_version_it_was_pinned_to() -> None:
    policies = live()
    pinned = (await policies.pin(GuardRequest(text="x"))).pin
    policies.take(applied(version=2, block_at=77, redaction={"default": "remove"}))
    assert (await policies.judging(subject(pinned))).block_at == 50
    assert (await policies.scanning(subject(pinned))).table.default.action == "replace"
    fresh = (await policies.pin(GuardRequest(text="x"))).pin
    assert fresh.version == 2
    assert (await policies.scanning(subject(fresh))).table.default.action == "remove"


async def test_a_version_that_is_not_known_here_is_read_from_the_archive_once() -> None:
    policies, elsewhere = live(), policy(version=9, block_at=91)
    archive = policies.archive = Kept(elsewhere)
    for _ in range(2):
        assert (await policies.judging(subject(pin_of(elsewhere)))).block_at == 91
    assert archive.asked == 1
    assert policies.get().block_at == 50


async def test_a_version_that_cannot_be_read_can_be_tried_again_and_is_never_replaced_by_another() -> None:
    policies = live()
    for archive in (None, Kept()):
        policies.archive = archive
        with pytest.raises(PolicyUnavailable) as caught:
            await policies.judging(subject(pin_of(policy(version=9))))
        assert caught.value.retryable


async def test_a_policy_that_was_just_applied_elsewhere_is_asked_for_by_its_name() -> None:
    policies = live()
    policies.archive = Kept(policy(name="new"))
    assert (await policies.pin(GuardRequest(text="x", policy="new"))).pin.name == "new"
    with pytest.raises(
        InvalidRequest, match="no policy nowhere, which the request or its key names: it must be one of new, test"
    ):
        await policies.pin(GuardRequest(text="x", policy="nowhere"))


async def test_a_policy_that_is_removed_while_it_is_asked_for_stays_removed() -> None:
    policies = live()

    class Passing(Kept):
        async def applied(self, name: str) -> bytes | None:
            document = await super().applied(name)
            policies.take(Change("policy", name, document))
            policies.take(Change("policy", name, None))
            self.policies = ()
            return document

    archive = policies.archive = Passing(policy(name="new"))
    with pytest.raises(InvalidRequest, match="one of test"):
        await policies.pin(GuardRequest(text="x", policy="new"))
    assert (policies.names, archive.asked) == (["test"], 2)


async def test_a_policy_that_is_asked_for_while_others_change_is_found() -> None:
    policies = live()

    class Changing(Kept):
        async def applied(self, name: str) -> bytes | None:
            if not self.asked:
                policies.take(applied(version=2, block_at=77))
            return await super().applied(name)

    policies.archive = Changing(policy(name="new"))
    assert (await policies.pin(GuardRequest(text="x", policy="new"))).pin.name == "new"


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b"{", "is not JSON"),
        (b"[]", r"\(document\)"),
        (canonical_json(policy(version=3)).replace(b'"block_at":50', b'"block_at":500'), "block_at: "),
        (canonical_json(policy(version=3, name="other")), "name: must be test"),
        (canonical_json(policy(version=2, block_at=51)), "version: must be above 2"),
    ],
)
async def test_a_bad_policy_is_refused_and_what_was_in_force_stays(
    document: bytes, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    policies = live()
    good = applied(version=2, block_at=60)
    policies.take(good)
    with caplog.at_level(logging.ERROR):
        policies.take(Change("policy", "test", document))
    assert (policies.get().version, policies.get().block_at) == (2, 60)
    (refusal,) = policies.refusals
    assert refusal.name == "test"
    assert any(record.levelno == logging.ERROR for record in caplog.records)
    with pytest.raises(PolicyRefused, match=reason):
        raise PolicyRefused(refusal.reason)
    again = live()
    again.replay([good, Change("policy", "test", document)])
    assert again.get().block_at == 60, "a process that starts later falls back to the last good one too"
    policies.take(applied(version=4))
    assert policies.refusals == []


async def test_what_the_process_cannot_carry_out_is_refused_too() -> None:
    def check(candidate: Policy) -> None:
        if candidate.block_at == 66:
            raise PolicyRefused("redaction: hash needs a key", field="redaction")

    policies = LivePolicies(PolicyBook({"test": policy()}, "test"), check)
    policies.take(applied(version=2, block_at=66))
    assert (policies.get().block_at, policies.refusals[0].reason) == (50, "redaction: hash needs a key")
    with pytest.raises(ConfigurationError, match="policy test: redaction: hash"):
        LivePolicies(PolicyBook({"test": policy(block_at=66)}, "test"), check)


async def test_the_default_can_be_chosen_and_falls_back_when_it_is_gone() -> None:
    policies = live(strict={"block_at": 40})
    policies.take(Change("default", "", b"strict"))
    assert policies.get().name == "strict"
    policies.take(Change("default", "", b"nowhere"))
    assert (policies.get().name, policies.refusals[0].reason) == ("test", "there is no policy nowhere")
    policies.take(Change("default", "", b"\xff not a name"))
    policies.take(Change("default", "", None))
    assert (policies.get().name, policies.refusals) == ("test", [])


async def test_a_choice_is_refused_no_longer_once_its_policy_is_there() -> None:
    policies = live()
    policies.take(Change("default", "", b"next"))
    policies.take(Change("shadow", "test", b"next"))
    assert [each.name for each in policies.refusals] == ["default", "shadow of test"]
    policies.take(applied("next"))
    assert (policies.default, policies.shadows, policies.refusals) == ("next", {"test": "next"}, [])


async def test_a_policy_called_default_is_not_taken_for_the_choice_of_one() -> None:
    policies = live(strict={})
    policies.take(Change("policy", "default", b"{"))
    policies.take(Change("default", "", b"strict"))
    assert [(each.name, each.reason) for each in policies.refusals] == [("default", "(document): is not JSON")]
    policies.take(Change("default", "", None))
    assert len(policies.refusals) == 1
    policies.take(applied("default"))
    assert policies.refusals == []


async def test_a_policy_is_tried_beside_another_and_a_request_is_pinned_to_both() -> None:
    policies = live(next={"deny_list": [{"rule": "r", "phrases": ["falcon"]}]})
    policies.take(Change("shadow", "test", b"next"))
    rules = await policies.pin(GuardRequest(text="x"))
    assert rules.shadow == pin_of(policies.get("next"))
    assert [each.rule for each in rules.shadow_deny] == ["r"]
    assert (await policies.pin(GuardRequest(text="x", policy="next"))).shadow is None
    policies.take(Change("shadow", "test", b"test"))
    assert (await policies.pin(GuardRequest(text="x"))).shadow is None


async def test_a_policy_that_judges_by_more_branches_than_run_is_not_tried_until_it_does_not() -> None:
    policies = live(next={})
    policies.take(Change("shadow", "test", b"next"))
    assert policies.shadows == {"test": "next"}
    policies.take(applied(version=2, branches={"semantic": False}))
    ((name, reason),) = [(each.name, each.reason) for each in policies.refusals]
    assert (name, policies.shadows) == ("shadow of test", {})
    assert reason.startswith("next judges by a branch that test does not run")
    assert (await policies.pin(GuardRequest(text="x"))).shadow is None
    policies.take(applied("next", version=2, branches={"semantic": False, "classifier": False}))
    assert (policies.shadows, policies.refusals) == ({"test": "next"}, [])


async def test_what_a_lost_bucket_held_stays_and_is_told_to_be_put_back() -> None:
    policies = live()
    kept = [applied(version=2, block_at=60), Change("default", "", b"test")]
    policies.replay(kept)
    assert policies.replay([]) == kept
    assert policies.get().block_at == 60
    assert policies.replay([Change("policy", "test", None)]) == [kept[1]]
    assert policies.get().block_at == 50, "what an operator removed is not lost but gone"


async def test_old_versions_are_given_up_and_never_one_in_force() -> None:
    policies = live()
    first = (await policies.pin(GuardRequest(text="x"))).pin
    for version in range(2, 400):
        policies.take(applied(version=version))
    assert policies.get().version == 399
    policies.archive = archive = Kept(policy())
    assert (await policies.judging(subject(first))).version == 1
    assert archive.asked == 1


async def test_text_without_a_pin_is_judged_by_the_name_it_carries() -> None:
    policies = live(strict={"block_at": 40, "redaction": {"default": "remove"}})
    assert (await policies.judging(subject(None, "strict"))).block_at == 40
    assert (await policies.scanning(subject(None, "strict"))).table.default.action == "remove"
    assert (await policies.scanning(subject(None, "nowhere"))).table.default.action == "replace"
    with pytest.raises(InvalidRequest):
        await policies.judging(subject(None, "nowhere"))
