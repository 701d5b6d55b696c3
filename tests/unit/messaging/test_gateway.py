"""The way in refuses what a stage could only dead-letter."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest

from app.access.principal import Principal
from app.contracts import GuardRequest
from app.errors import DecisionTimeout, InvalidRequest
from app.messaging.decisions import MemoryDecisions
from app.messaging.gateway import GuardGateway
from app.messaging.inbox import ReplyInbox
from app.settings import Settings
from tests.support import only_strict


class Stream:
    """Takes everything and tells nobody."""

    def __init__(self) -> None:
        self.published: list[bytes] = []
        self.knows_all = False

    async def publish(self, subject: str, payload: bytes, **_: Any) -> SimpleNamespace:
        self.published.append(payload)
        return SimpleNamespace(duplicate=self.knows_all)


@pytest.fixture
def stream() -> Stream:
    return Stream()


@pytest.fixture
def gateway(stream: Stream) -> GuardGateway:
    inbox = ReplyInbox()
    inbox._prefix = "_INBOX.test"
    made = GuardGateway(cast("Any", None), inbox, MemoryDecisions(), Settings(), pin=only_strict)
    made.jetstream = cast("Any", stream)
    return made


async def test_an_unknown_policy_is_refused_before_anything_is_published(gateway: GuardGateway, stream: Stream) -> None:
    request = GuardRequest(text="hello", policy="nope", request_id=UUID(int=7))
    for enter in (gateway.guard, gateway.submit):
        with pytest.raises(InvalidRequest) as caught:
            await enter(request)
        assert caught.value.faults[0][0] == "policy"
    assert stream.published == []
    assert gateway._refused == {}, "the id is free, on every replica"


@pytest.mark.parametrize("policy", ["strict", None])
async def test_a_policy_that_exists_and_none_go_in(policy: str | None, gateway: GuardGateway, stream: Stream) -> None:
    with pytest.raises(DecisionTimeout):
        await gateway.guard(GuardRequest(text="hello", policy=policy, deadline_ms=1))
    assert len(stream.published) == 1


@pytest.mark.parametrize("tenant", ["default", "acme"])
async def test_a_repeat_that_waits_in_vain_is_told_its_id(tenant: str, gateway: GuardGateway, stream: Stream) -> None:
    stream.knows_all = True
    with pytest.raises(DecisionTimeout) as caught:
        await gateway.guard(GuardRequest(text="hello", request_id=UUID(int=7), deadline_ms=1), Principal(tenant=tenant))
    assert caught.value.request_id == UUID(int=7)
