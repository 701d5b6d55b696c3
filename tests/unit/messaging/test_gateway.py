"""The way in refuses what a stage could only dead-letter."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest
from nats.errors import ConnectionReconnectingError
from nats.errors import TimeoutError as NatsTimeout
from nats.js.errors import APIError, NoStreamResponseError

from app.access.principal import Principal
from app.contracts import GuardRequest
from app.errors import DecisionTimeout, InvalidRequest, MessagingUnavailable, PayloadTooLarge, RestoreMapRefused
from app.messaging import gateway as gateways
from app.messaging.decisions import MemoryDecisions
from app.messaging.gateway import GuardGateway
from app.messaging.inbox import ReplyInbox
from app.settings import Settings
from app.topology import Header
from tests.support import only_strict


class Stream:
    """Takes everything and tells nobody."""

    def __init__(self) -> None:
        self.published: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.knows_all = False
        self.fails: Exception | None = None

    async def publish(self, subject: str, payload: bytes, *, headers: dict[str, str], **_: Any) -> SimpleNamespace:
        if self.fails is not None:
            raise self.fails
        self.published.append(payload)
        self.headers.append(headers)
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
    assert await gateway._decisions.attempt_after_failure(UUID(int=7)) == "", "the id is free, on every replica"


async def test_a_restore_map_that_the_callers_tenant_cannot_use_is_refused_before_anything_is_published(
    gateway: GuardGateway, stream: Stream
) -> None:
    async def only_acme(sealed: str, tenant: str) -> None:
        if (sealed, tenant) != ("v2.sealed", "acme"):
            raise RestoreMapRefused

    gateway._open_map = only_acme
    for restore_map, tenant in (("v2.sealed", "globex"), ("v2.kappa-omega", "acme")):
        for enter in (gateway.guard, gateway.submit):
            with pytest.raises(RestoreMapRefused) as caught:
                await enter(GuardRequest(text="hello", restore_map=restore_map), Principal(tenant=tenant))
            assert caught.value.faults == (("restore_map", RestoreMapRefused().message),)
    assert stream.published == []
    await gateway.submit(GuardRequest(text="hello", restore_map="v2.sealed"), Principal(tenant="acme"))
    assert b'"restore_map":"v2.sealed"' in stream.published[0]


async def test_a_restore_map_counts_towards_what_a_request_may_take(gateway: GuardGateway, stream: Stream) -> None:
    asked = GuardRequest(text=100_000 * "\x00", restore_map=400_000 * "A")  # Each takes six bytes in JSON.
    with pytest.raises(PayloadTooLarge):
        await gateway.submit(asked)
    assert stream.published == []
    await gateway.submit(asked.model_copy(update={"restore_map": 300_000 * "A"}))
    assert len(stream.published) == 1


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


@pytest.mark.parametrize(("tenant", "told"), [("default", None), ("acme", str(UUID(int=7)))])
async def test_the_callers_own_id_travels_beside_the_one_that_the_request_is_kept_under(
    tenant: str, told: str | None, gateway: GuardGateway, stream: Stream
) -> None:
    request = GuardRequest(text="hello", request_id=UUID(int=7), deadline_ms=1)
    with pytest.raises(DecisionTimeout):
        await gateway.guard(request, Principal(tenant=tenant))
    await gateway.submit(request, Principal(tenant=tenant))
    assert [headers.get(Header.GIVEN_ID) for headers in stream.headers] == [told] * 2


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (NatsTimeout(), "the work queue did not acknowledge the last request in time"),
        (TimeoutError(), "the work queue did not acknowledge the last request in time"),
        (
            APIError(code=503, description="maximum bytes exceeded", err_code=10077),
            "the work queue refused the last request: maximum bytes exceeded",
        ),
        (APIError(code=503), "the work queue did not take the last request: APIError"),
        (NoStreamResponseError(), "the work queue did not take the last request: NoStreamResponseError"),
        (ConnectionReconnectingError(), None),
    ],
)
async def test_what_came_of_the_last_request_is_told_as_it_is_known_until_one_is_taken(
    error: Exception, told: str | None, gateway: GuardGateway, stream: Stream
) -> None:
    stream.fails = error
    with pytest.raises(MessagingUnavailable):
        await gateway.submit(GuardRequest(text="hello"))
    assert gateway.late_refusal == told
    stream.fails = None
    await gateway.submit(GuardRequest(text="hello"))
    assert gateway.late_refusal is None


async def test_a_request_that_was_not_taken_is_told_of_for_a_while(
    gateway: GuardGateway, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream.fails = NatsTimeout()
    with pytest.raises(MessagingUnavailable):
        await gateway.submit(GuardRequest(text="hello"))
    assert gateway.late_refusal is not None
    monkeypatch.setattr(gateways, "REFUSED_FOR_S", 0.0)
    assert gateway.late_refusal is None
