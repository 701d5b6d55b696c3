"""Carries out orders to forget: in the work queue, the dead letters, the kept decisions and the event log.

One look would miss what a worker has in hand: its message is gone from the queue, its result not published yet. So
everything is searched again after seconds and after minutes; what reaches the event log in between is dropped there
(`Orders.forgets`). Each look can be repeated, so a process that dies in the middle is succeeded by any other.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final, Protocol
from uuid import UUID, uuid4

from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import APIError, NotFoundError
from pydantic import ValidationError

from app.admin_contracts import AuditEvent
from app.contracts import GuardRequest
from app.errors import MessagingUnavailable, VigilError
from app.identity import fingerprint, now, text_digest
from app.log_contracts import ForgetKind, ForgetOrder, ForgetState, Removed
from app.messaging import audit
from app.messaging import envelope as envelopes
from app.messaging.forgetting import POLL_S, KeptOrder, Orders
from app.messaging.stored import StoredMessage, stored_messages
from app.topology import DECISIONS_BUCKET, DETECTION_STREAM, DLQ_STREAM

logger: Final = logging.getLogger("vigil.forgetting")

PAUSES_S: Final = (0.0, 2.0, 13.0, 45.0, 240.0)
"""How long after the one before each look comes. The second one says whether the order counts as done; the last ones
take in what a worker had in hand for long, or what waited for a redelivery."""
LOOKS_UNTIL_DONE: Final = 2
LEASE: Final = timedelta(seconds=15)
"""How long a process that has died keeps others from its order."""
RENEWAL_S: Final = 5.0
RETRY_S: Final = 10.0
"""Pause after a look that broke off, as all do while the event log is away; each further one doubles it."""
LAST_RETRY_S: Final = 300.0
"""Longest of these pauses: a look that breaks off at its end has searched the whole log until then."""
OWN_FIELDS: Final = frozenset({"subject", "answer"})
"""One of these is in what a stage has written, whose texts stand beside it: hundreds of thousands of decisions are
kept, and what lies deeper in them are names and numbers."""


class Rows(Protocol):
    """The event log, as far as it can forget."""

    async def erase(self, order: ForgetOrder) -> Removed: ...


class Forgetter:
    """Works off the orders of a process that has the event log open."""

    def __init__(self, orders: Orders, jetstream: JetStreamContext, rows: Rows, hash_key: bytes) -> None:
        self._orders = orders
        self._jetstream = jetstream
        self._rows = rows
        self._hash_key = hash_key
        self._name = uuid4().hex
        self._paused_until: dict[UUID, float] = {}
        self._broken_off: dict[UUID, int] = {}
        """Looks in a row that broke off."""

    async def watch(self) -> None:
        """Work off orders as they come, until cancelled. Not by `Orders.watch`, which knows of new ones meanwhile."""
        while True:
            with contextlib.suppress(NatsError, TimeoutError, MessagingUnavailable):
                await self.work(await self._orders.refresh())
            await asyncio.sleep(POLL_S)

    async def work(self, known: list[KeptOrder]) -> None:
        """Take the next look of every order that is due and in nobody else's hands."""
        for kept in known:
            if is_due(kept.order, now()) and self._may_take(kept.order):
                try:
                    await self._take_a_look(kept)
                except (NatsError, TimeoutError, VigilError) as error:
                    forget_id = kept.order.forget_id
                    self._broken_off[forget_id] = in_a_row = self._broken_off.get(forget_id, 0) + 1
                    pause_s = pause_after(in_a_row)
                    logger.warning("forgetting broke off, again in %g s: %s", pause_s, type(error).__name__)
                    self._paused_until[forget_id] = time.monotonic() + pause_s
                else:
                    self._paused_until.pop(kept.order.forget_id, None)
                    self._broken_off.pop(kept.order.forget_id, None)

    def _may_take(self, order: ForgetOrder) -> bool:
        if time.monotonic() < self._paused_until.get(order.forget_id, 0.0):
            return False
        return order.worker == self._name or order.leased_until is None or order.leased_until < now()

    async def _take_a_look(self, kept: KeptOrder) -> None:
        async with self._leased(kept) as lease:
            # Messages first, because they would become rows.
            messages = await self.remove_messages(lease.kept.order)
            if messages.total:
                # Now: while the event log is away the look ends here, and the next one does not find them again.
                await lease.count(messages)
            rows = await self._rows.erase(lease.kept.order)
        kept = lease.kept
        order = kept.order
        quiet = order.quiet + 1 if not messages.total + rows.total else 0
        looks = order.looks + 1
        done = order.state is ForgetState.DONE or (quiet > 0 and looks >= LOOKS_UNTIL_DONE)
        state = ForgetState.DONE if done else ForgetState.PENDING
        total = order.removed.plus(rows)
        changes = {"looks": looks, "quiet": quiet, "looked_at": now(), "removed": total, "state": state}
        if done and order.state is not ForgetState.DONE:
            counts = ", ".join(f"{name}: {count}" for name, count in total.model_dump().items())
            event = AuditEvent(actor="service", action="forget.done", target=str(order.forget_id), detail=counts)
            await audit.record(self._jetstream, event)
        await self._orders.update(kept, kept.order.model_copy(update=changes | {"worker": "", "leased_until": None}))

    async def remove_messages(self, order: ForgetOrder) -> Removed:
        """Look once through all that the message server keeps."""
        queued = await self._remove_messages(order, DETECTION_STREAM.name)
        dead_letters = await self._remove_messages(order, DLQ_STREAM.name)
        decisions = await self._remove_decisions(order)
        return Removed(queued=queued, dead_letters=dead_letters, decisions=decisions)

    async def _remove_messages(self, order: ForgetOrder, stream: str) -> int:
        removed = 0
        for message in await self._meant(order, stream):
            # Written over on the disk at once; an acknowledged message's bytes stay until the server compacts.
            with contextlib.suppress(APIError):
                removed += await self._jetstream.delete_msg(stream, message.sequence)
        return removed

    async def _remove_decisions(self, order: ForgetOrder) -> int:
        removed = 0
        for message in await self._meant(order, DECISIONS_BUCKET.stream):
            # Not KeyValue.purge, which leaves a marker with the key, and the key is the request id.
            removed += await self._jetstream.purge_stream(DECISIONS_BUCKET.stream, subject=message.subject)
        return removed

    async def _meant(self, order: ForgetOrder, stream: str) -> list[StoredMessage]:
        try:
            return [
                replace(message, payload=b"")  # Of a tenant's it may be all that the stream holds.
                async for message in stored_messages(self._jetstream, stream)
                if is_meant(order, message, stream, self._hash_key)
            ]
        except NotFoundError:
            return []

    @contextlib.asynccontextmanager
    async def _leased(self, kept: KeptOrder) -> AsyncIterator[_Lease]:
        """Keep other processes from the order meanwhile."""
        lease = _Lease(self._orders, kept, self._name)
        await lease.renew()
        renewing = asyncio.create_task(lease.go_on_renewing(), name="forget-lease")
        try:
            yield lease
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)


class _Lease:
    def __init__(self, orders: Orders, kept: KeptOrder, worker: str) -> None:
        self._orders = orders
        self._worker = worker
        self._changing = asyncio.Lock()
        self.kept = kept

    async def renew(self) -> None:
        await self._change(worker=self._worker, leased_until=now() + LEASE)

    async def count(self, removed: Removed) -> None:
        """Add to what the order has removed."""
        await self._change(removed=self.kept.order.removed.plus(removed))

    async def _change(self, **changes: Any) -> None:
        async with self._changing:  # A change names the revision that the one before it made.
            self.kept = await self._orders.update(self.kept, self.kept.order.model_copy(update=changes))

    async def go_on_renewing(self) -> None:
        while True:
            await asyncio.sleep(RENEWAL_S)
            await self.renew()


def pause_after(broken_off: int) -> float:
    """Return how many seconds pass before the next look after so many in a row that broke off, one at least."""
    return min(RETRY_S * 2.0 ** min(broken_off - 1, 10), LAST_RETRY_S)


def is_due(order: ForgetOrder, at: datetime) -> bool:
    """Whether the next look of an order is to be taken."""
    if order.looks >= len(PAUSES_S):
        # As long as something was found, there is one more.
        return order.state is ForgetState.PENDING and at >= _after(order, PAUSES_S[-1])
    return at >= _after(order, PAUSES_S[order.looks])


def _after(order: ForgetOrder, pause_s: float) -> datetime:
    return (order.looked_at or order.asked_at) + timedelta(seconds=pause_s)


def is_meant(order: ForgetOrder, message: StoredMessage, stream: str, hash_key: bytes) -> bool:
    """Whether a message belongs to what is to be forgotten: by its headers, and by its body where that can be read."""
    envelope = envelopes.from_headers(
        message.headers, stream=stream, sequence=message.sequence, stored_at=message.stored_at
    )
    content = _content(message.payload)
    body = content if isinstance(content, dict) else {}
    match order.kind:
        case ForgetKind.REQUEST:
            stated = (body.get("request_id"), _inner(body, "answer", "request_id"))
            named: list[object] = [str(envelope.request_id), *map(_uuid, stated)]
        case ForgetKind.KEY:
            named = [envelope.key_id, body.get("key_id"), body.get("request_key_id")]
        case ForgetKind.TENANT:
            # The header also where the body names another, as that of a request which was refused for it; without one
            # it is the default tenant's. A kept decision has no headers.
            named = [body.get("tenant")]
            named += [envelope.tenant] if stream != DECISIONS_BUCKET.stream else []
        case ForgetKind.TEXT:
            named = [body.get("text_digest"), _inner(body, "subject", "digest")]
            named += [text_digest(text, hash_key) for text in _texts(content)]
    if not any(isinstance(each, str) and fingerprint(order.salt, each) == order.fingerprint for each in named):
        return False
    return _received_at(body, envelope.received_at) <= order.asked_at


def _texts(content: object) -> Iterator[str]:
    """Yield every string that a message holds, also one that fits no schema and lies among the dead letters, and what
    the digest of a chat is made of."""
    waiting = [content]
    if isinstance(content, dict):
        if (identity := _identity_of_chat(content)) is not None:
            yield identity
        if not content.keys().isdisjoint(OWN_FIELDS):
            waiting = [each for each in content.values() if isinstance(each, str)]
    while waiting:
        held = waiting.pop()
        if isinstance(held, str):
            yield held
        elif isinstance(held, dict):
            waiting += held.values()
        elif isinstance(held, list):
            waiting += held


def _identity_of_chat(body: Mapping[str, Any]) -> str | None:
    if "messages" not in body:
        return None
    try:
        # Whatever limit of a text was in force when it came.
        return GuardRequest.model_validate(body, context={"text_limit": DETECTION_STREAM.max_message_bytes}).identity
    except ValidationError:
        return None


def _received_at(body: Mapping[str, Any], by_headers: datetime) -> datetime:
    """Return when the request or report came; the record of one says so in its body.

    Not what a body says that is later than its headers: a stranger's may, and would lie here beyond every order.
    """
    stated = body.get("received_at", body.get("given_at"))
    try:
        received_at = datetime.fromisoformat(stated) if isinstance(stated, str) else by_headers
    except ValueError:
        return by_headers
    return min(received_at, by_headers) if received_at.tzinfo is not None else by_headers


def _content(payload: bytes) -> object:
    """Return what a payload says; one that is no JSON is a text itself."""
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):
        return payload.decode("utf-8", "replace")


def _inner(body: Mapping[str, Any], outer: str, inner: str) -> object:
    found = body.get(outer)
    return found.get(inner) if isinstance(found, dict) else None


def _uuid(value: object) -> str | None:
    try:
        return str(UUID(value)) if isinstance(value, str) else None
    except ValueError:
        return None
