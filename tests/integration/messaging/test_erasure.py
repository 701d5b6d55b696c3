"""Orders to forget on a real server: what they find, how they go on after a crash, and who carries them out."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from nats.js.errors import APIError

from app import tasks
from app.access.principal import Principal
from app.contracts import DEFAULT_TEXT_LIMIT, GuardRequest
from app.errors import EventLogUnavailable, InvalidRequest, MessagingUnavailable, UnknownOrder
from app.identity import new_request_id, now, text_digest
from app.log_contracts import ForgetKind, ForgetOrder, ForgetState, Removed
from app.messaging import erasure
from app.messaging.erasure import Forgetter
from app.messaging.forgetting import Orders
from tests.integration.messaging.conftest import Running
from tests.support import eventually

pytestmark = pytest.mark.integration


@dataclass
class NoRows:
    """An event log that has none of it; away as often as it is told."""

    away: int = 0
    asked: list[ForgetOrder] = field(default_factory=list)

    async def erase(self, order: ForgetOrder) -> Removed:
        self.asked.append(order)
        if self.away > 0:
            self.away -= 1
            raise EventLogUnavailable
        return Removed()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasure, "PAUSES_S", (0.0, 0.05, 0.05))
    monkeypatch.setattr(erasure, "RETRY_S", 0.05)


def forgetter(running: Running, rows: NoRows) -> Forgetter:
    return Forgetter(running.backbone.orders, running.jetstream, rows, b"")


async def done(orders: Orders, worker: Forgetter, order: ForgetOrder) -> ForgetOrder:
    """Work until the order is done."""

    async def is_done() -> bool:
        await worker.work(await orders.refresh())
        return (await orders.find(order.forget_id)).state is ForgetState.DONE

    await eventually(is_done)
    return await orders.find(order.forget_id)


@pytest.mark.parametrize("kind", list(ForgetKind))
async def test_messages_are_found_by_header_and_by_body_in_every_stage(running: Running, kind: ForgetKind) -> None:
    """Nobody consumes these: their subjects are matched by no consumer, or they lie in the dead-letter queue."""
    request_id, digest = str(new_request_id()), text_digest("secret")
    value = {
        ForgetKind.REQUEST: request_id,
        ForgetKind.KEY: "k1",
        ForgetKind.TENANT: "acme",
        ForgetKind.TEXT: digest,
    }[kind]
    headers = {"correlation_id": request_id, "Vigil-Tenant": "acme", "Vigil-Key-Id": "k1"}
    bodies = [
        {"text": "secret", "request_id": request_id},
        {"text": "secret", "subject": {"digest": digest}},
        {"answer": {"request_id": request_id}, "tenant": "acme", "key_id": "k1", "text_digest": digest},
        {"request_id": request_id, "tenant": "acme", "request_key_id": "k1", "text_digest": digest},
    ]
    others = [{"text": "other"}, ["list"], {"tenant": ["acme"], "key_id": {}, "answer": 7, "subject": [], "text": 1}]
    for body in bodies:
        await running.jetstream.publish("vigil.guard.held.back", json.dumps(body).encode(), headers=headers)
        await running.jetstream.publish("vigil.dlq.pii-worker", json.dumps(body).encode(), headers=headers)
    for other in others:
        await running.jetstream.publish("vigil.dlq.pii-worker", json.dumps(other).encode())
    await running.jetstream.publish("vigil.dlq.pii-worker", b"\xff" + b"[" * 5000)
    orders = running.backbone.orders
    order = await orders.give(kind, value)
    finished = await done(orders, forgetter(running, NoRows()), order)
    assert (finished.removed.queued, finished.removed.dead_letters) == (4, 4)
    assert await running.dead_letters() == len(others) + 1
    assert value not in finished.model_dump_json()


@pytest.mark.parametrize("named", ["other", None])
@pytest.mark.parametrize(("headers", "tenant"), [({"Vigil-Tenant": "acme"}, "acme"), (None, "default")])
async def test_a_message_that_was_refused_for_naming_another_tenant_is_found(
    running: Running, headers: dict[str, str] | None, tenant: str, named: str | None
) -> None:
    body = json.dumps({"text": "secret", "tenant": named}).encode()
    await running.jetstream.publish("vigil.dlq.pii-worker", body, headers=headers)
    orders = running.backbone.orders
    finished = await done(orders, forgetter(running, NoRows()), await orders.give(ForgetKind.TENANT, tenant))
    assert (finished.removed.dead_letters, await running.dead_letters()) == (1, 0)


async def test_a_kept_decision_of_another_tenant_than_the_default_stays(running: Running) -> None:
    request = GuardRequest(text="hello", mode="fast", request_id=new_request_id())
    await running.gateway.guard(request, Principal(tenant="acme"))
    orders = running.backbone.orders
    finished = await done(orders, forgetter(running, NoRows()), await orders.give(ForgetKind.TENANT, "default"))
    assert finished.removed.total == 0


@pytest.mark.parametrize("name", ["received_at", "given_at"])
async def test_a_body_that_says_that_it_is_still_to_come_is_found(running: Running, name: str) -> None:
    body = {"text": "secret", name: (now() + timedelta(days=9)).isoformat()}
    await running.jetstream.publish("vigil.dlq.detection-worker", json.dumps(body).encode())
    orders = running.backbone.orders
    order = await orders.give(ForgetKind.TEXT, text_digest("secret"))
    finished = await done(orders, forgetter(running, NoRows()), order)
    assert (finished.removed.dead_letters, await running.dead_letters()) == (1, 0)


async def test_a_chat_longer_than_the_usual_limit_of_a_text_is_found_by_its_digest(running: Running) -> None:
    body = {"messages": [{"role": "user", "content": "a" * (DEFAULT_TEXT_LIMIT + 1)}]}
    chat = GuardRequest.model_validate(body, context={"text_limit": 2 * DEFAULT_TEXT_LIMIT})
    await running.jetstream.publish("vigil.dlq.detection-worker", json.dumps(body).encode())
    orders = running.backbone.orders
    order = await orders.give(ForgetKind.TEXT, text_digest(chat.identity))
    finished = await done(orders, forgetter(running, NoRows()), order)
    assert (finished.removed.dead_letters, await running.dead_letters()) == (1, 0)


@pytest.mark.parametrize(
    "payload",
    [
        b'{"text": "an answer", "source": "output", "original_prompt": "secret"}',
        b'{"text": "an answer", "source": "output", "system_prompt": "secret"}',
        b'{"messages": [{"role": "nobody", "content": "secret"}]}',
        b'{"messages": [{"role": "user", "content": [{"type": "text", "text": "secret"}]}], "unknown": true}',
        b'{"messages": {"0": [["secret"]]}}',
        b'[{"text": "secret"}]',
        b'{"input": {"text": "secret"}}',
        b'"secret"',
        b"secret",
    ],
)
async def test_a_text_is_found_wherever_a_message_holds_it_also_where_it_fits_no_schema(
    running: Running, payload: bytes
) -> None:
    await running.jetstream.publish("vigil.dlq.detection-worker", payload)
    await running.jetstream.publish("vigil.dlq.detection-worker", payload.replace(b"secret", b"Secret"))
    orders = running.backbone.orders
    order = await orders.give(ForgetKind.TEXT, text_digest("secret"))
    finished = await done(orders, forgetter(running, NoRows()), order)
    assert (finished.removed.dead_letters, await running.dead_letters()) == (1, 1)


@pytest.mark.parametrize("kind", list(ForgetKind))
async def test_an_order_is_carried_out_beside_what_no_utf_8_can_say(running: Running, kind: ForgetKind) -> None:
    """JSON can name half of a surrogate pair, and a stranger's does so for 30 days among the dead letters."""
    half = "\ud800"
    body = {"tenant": half, "key_id": half, "request_id": half, "text_digest": half, "text": half, "received_at": half}
    for subject in ("vigil.guard.held.back", "vigil.dlq.pii-worker"):
        await running.jetstream.publish(subject, json.dumps(body).encode())
    orders = running.backbone.orders
    order = await orders.give(kind, str(new_request_id()))
    finished = await done(orders, forgetter(running, NoRows()), order)
    assert (finished.state, finished.removed.total) == (ForgetState.DONE, 0)


async def test_what_was_received_after_the_order_stays(running: Running) -> None:
    orders = running.backbone.orders
    order = await orders.give(ForgetKind.TENANT, "acme")
    late = {"Vigil-Tenant": "acme", "Vigil-Received-At": (now() + timedelta(seconds=1)).isoformat()}
    early = {"Vigil-Tenant": "acme", "Vigil-Received-At": (order.asked_at - timedelta(seconds=1)).isoformat()}
    await running.jetstream.publish("vigil.dlq.pii-worker", b"{}", headers=late)
    await running.jetstream.publish("vigil.dlq.pii-worker", b"{}", headers=early)
    finished = await done(orders, forgetter(running, NoRows()), order)
    assert (finished.removed.dead_letters, await running.dead_letters()) == (1, 1)


async def test_a_kept_decision_is_removed_without_a_trace_of_its_key(running: Running) -> None:
    request = GuardRequest(text="hello", mode="fast", request_id=new_request_id())
    await running.gateway.guard(request)
    await running.gateway.guard(GuardRequest(text="other", mode="fast"))
    orders = running.backbone.orders
    finished = await done(
        orders, forgetter(running, NoRows()), await orders.give(ForgetKind.REQUEST, str(request.request_id))
    )
    assert finished.removed.decisions == 1
    state = (await running.jetstream.stream_info("KV_VIGIL_DECISIONS", subjects_filter=">")).state
    assert len(state.subjects or {}) == 1
    assert str(request.request_id) not in repr(state.subjects)


async def test_an_order_waits_for_the_event_log_and_goes_on_where_it_broke_off(running: Running) -> None:
    orders, rows = running.backbone.orders, NoRows(away=3)
    order = await orders.give(ForgetKind.KEY, "k1")
    await forgetter(running, rows).work(await orders.refresh())
    assert (await orders.find(order.forget_id)).state is ForgetState.PENDING
    # The process that had it in hand is gone; another one, which knows nothing of it, takes over.
    kept = next(each for each in await orders.refresh() if each.order.forget_id == order.forget_id)
    held = kept.order.model_copy(update={"worker": "gone", "leased_until": now() + timedelta(seconds=0.2)})
    await orders.update(kept, held)
    successor = Orders()
    successor.jetstream = running.jetstream
    worker = Forgetter(successor, running.jetstream, rows, b"")
    asked = len(rows.asked)
    await worker.work(await successor.refresh())
    assert len(rows.asked) == asked  # It is still in somebody's hands.
    finished = await done(successor, worker, order)
    assert finished.removed.total == 0
    assert finished.looks >= erasure.LOOKS_UNTIL_DONE


async def test_what_was_removed_before_a_look_broke_off_is_counted(running: Running) -> None:
    await running.jetstream.publish("vigil.dlq.pii-worker", b"{}", headers={"Vigil-Tenant": "acme"})
    orders = running.backbone.orders
    order = await orders.give(ForgetKind.TENANT, "acme")
    finished = await done(orders, forgetter(running, NoRows(away=2)), order)
    assert (finished.removed.dead_letters, finished.removed.total) == (1, 1)


@pytest.mark.parametrize(("broken_off", "pause_s"), [(1, 10.0), (2, 20.0), (5, 160.0), (6, 300.0), (5000, 300.0)])
def test_a_look_that_breaks_off_again_is_repeated_later(
    monkeypatch: pytest.MonkeyPatch, broken_off: int, pause_s: float
) -> None:
    monkeypatch.setattr(erasure, "RETRY_S", 10.0)
    assert erasure.pause_after(broken_off) == pause_s


async def test_each_look_that_breaks_off_is_paused_after_for_longer(
    running: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(erasure, "pause_after", float)  # As many seconds as looks broke off, on a clock of our own.
    orders, rows = running.backbone.orders, NoRows(away=3)
    order = await orders.give(ForgetKind.KEY, "k1")
    worker, at = forgetter(running, rows), 0.0
    monkeypatch.setattr(erasure.time, "monotonic", lambda: at)
    asked = []
    for at in (0.0, 0.9, 1.1, 2.9, 3.2, 6.1, 6.3):  # noqa: B007 - read by the clock
        await worker.work(await orders.refresh())
        asked.append(len(rows.asked))
    assert asked == [1, 1, 2, 2, 3, 3, 4]
    assert (await orders.find(order.forget_id)).looks == 1


async def test_orders_become_known_while_one_is_carried_out(running: Running) -> None:
    orders, began, may = running.backbone.orders, asyncio.Event(), asyncio.Event()

    class HeldRows(NoRows):
        async def erase(self, order: ForgetOrder) -> Removed:
            began.set()
            await may.wait()
            return await super().erase(order)

    watching = asyncio.create_task(forgetter(running, HeldRows()).watch())
    first = await orders.give(ForgetKind.TENANT, "acme")
    await began.wait()
    other = Orders()
    other.jetstream = running.jetstream
    second = await other.give(ForgetKind.TENANT, "other")
    about = {"request_id": new_request_id(), "key_id": "", "digest": "00"}

    async def known() -> bool:
        return orders.forgets(tenant="other", received_at=second.asked_at, **about)

    await eventually(known)
    may.set()

    async def both_done() -> bool:
        return {(await orders.find(each.forget_id)).state for each in (first, second)} == {ForgetState.DONE}

    await eventually(both_done)
    await tasks.end([watching])


async def test_a_request_in_work_leaves_no_decision_behind(running: Running) -> None:
    """The order comes while a worker has the text in hand: its message is gone, and its result is dropped."""
    request_id = new_request_id()
    orders = running.backbone.orders

    async def ordered_meanwhile(_: GuardRequest) -> None:
        await orders.give(ForgetKind.REQUEST, str(request_id))

    running.plain.before_detect = ordered_meanwhile
    await running.gateway.submit(GuardRequest(text="hello", mode="fast", request_id=request_id))
    running_too = GuardRequest(text="other", mode="fast")

    async def both_through() -> bool:
        return len(orders._orders) == 1 and await running.idle()

    await eventually(both_through)
    running.plain.before_detect = None
    await running.gateway.guard(running_too)
    assert await running.backbone.decisions.find(request_id) is None
    assert request_id not in {record.answer.request_id for record in running.plain.records}


async def test_a_request_in_work_leaves_no_dead_letter_behind(running: Running) -> None:
    """Its worker fails when its message is gone already: what is buried then came before the order all the same."""
    orders, given = running.backbone.orders, []

    async def ordered_meanwhile(_: GuardRequest) -> None:
        given.append(await orders.give(ForgetKind.TENANT, "acme"))
        raise InvalidRequest

    running.plain.before_detect = ordered_meanwhile
    await running.jetstream.publish("vigil.guard.input", b'{"text": "hello"}', headers={"Vigil-Tenant": "acme"})

    async def buried() -> bool:
        return await running.dead_letters() == 1

    await eventually(buried)
    finished = await done(orders, forgetter(running, NoRows()), given[0])
    assert (finished.removed.dead_letters, await running.dead_letters()) == (1, 0)


async def test_every_process_knows_an_order_and_forgets_it_after_its_time(running: Running) -> None:
    other = Orders()
    other.jetstream = running.jetstream
    order = await other.give(ForgetKind.TENANT, "acme")
    about = {"request_id": new_request_id(), "key_id": "", "digest": "00"}

    async def known() -> bool:
        return running.backbone.orders.forgets(tenant="acme", received_at=order.asked_at, **about)

    await eventually(known)
    assert not running.backbone.orders.forgets(tenant="other", received_at=order.asked_at, **about)
    after = order.asked_at + timedelta(microseconds=1)
    assert not running.backbone.orders.forgets(tenant="acme", received_at=after, **about)
    await running.jetstream.purge_stream("KV_VIGIL_FORGETTING")

    async def forgotten() -> bool:
        return not await known()

    await eventually(forgotten)
    with pytest.raises(UnknownOrder):
        await other.find(order.forget_id)


async def test_an_order_that_is_not_kept_is_an_error(running: Running) -> None:
    with pytest.raises(MessagingUnavailable):
        await Orders().give(ForgetKind.TENANT, "acme")
    kept = None
    order = await running.backbone.orders.give(ForgetKind.TENANT, "acme")
    for each in await running.backbone.orders.refresh():
        kept = each
    assert kept is not None
    await running.backbone.orders.update(kept, order)
    with pytest.raises(APIError):  # Somebody else was faster.
        await running.backbone.orders.update(kept, order)
