"""Orders to forget: kept as fingerprints in a bucket, known to every process, asked before anything is stored.

An order outlives its execution. What was in work when it was given may come to the event log later, and is dropped
there; only what was received before the order is meant, so the same tenant, key or text may come again.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError
from nats.js.kv import KeyValue
from pydantic import ValidationError

from app.admin_contracts import AuditEvent
from app.contracts import DecisionRecord
from app.errors import MessagingUnavailable, UnknownOrder
from app.identity import fingerprint, new_request_id, now, text_digest
from app.log_contracts import FeedbackRecord, ForgetKind, ForgetOrder, ForgetRequest, LogEntry
from app.messaging import audit
from app.messaging.stored import stored_messages
from app.topology import FORGETTING_BUCKET

logger: Final = logging.getLogger("vigil.forgetting")

POLL_S: Final = 1.0
"""How often a process looks for new orders: one small request to the server."""
SALT_AGE: Final = timedelta(days=7)
"""A salt serves the orders of some days: each record is then compared with all orders by one look for each salt."""


@dataclass(frozen=True, slots=True)
class KeptOrder:
    """An order and its revision in the bucket, which an update must name."""

    order: ForgetOrder
    revision: int


def what_to_forget(request: ForgetRequest, hash_key: bytes) -> tuple[ForgetKind, str]:
    """Return what a request names; a text becomes its digest here and goes no further."""
    if request.request_id is not None:
        return ForgetKind.REQUEST, str(request.request_id)
    if request.key_id is not None:
        return ForgetKind.KEY, request.key_id
    if request.tenant is not None:
        return ForgetKind.TENANT, request.tenant
    if request.text_hash is not None:
        return ForgetKind.TEXT, request.text_hash
    return ForgetKind.TEXT, text_digest(request.text or "", hash_key)


async def give_order(
    jetstream: JetStreamContext, orders: Orders, kind: ForgetKind, value: str, actor: str
) -> ForgetOrder:
    """Record in the audit who wants what forgotten, and keep the order.

    A tenant and a key are named there, a request id and a text's digest are not: nothing is to be left of those.

    Raises:
        MessagingUnavailable: it is not known that both were stored.
    """
    named = f"{kind} {value}" if kind in (ForgetKind.TENANT, ForgetKind.KEY) else str(kind)
    await audit.record(jetstream, AuditEvent(actor=actor, action="forget.ask", target=named))
    return await orders.give(kind, value)


class Orders:
    """All orders of the last 30 days, as this process knows them."""

    def __init__(self) -> None:
        self.jetstream: JetStreamContext | None = None
        """Set once the server is reached."""
        self._orders: dict[UUID, KeptOrder] = {}
        self._by_salt: dict[str, dict[tuple[ForgetKind, str], datetime]] = {}
        self._seen: tuple[int, int] | None = None
        """Last sequence and number of messages when the bucket was read last."""

    def forgets(self, *, request_id: UUID, tenant: str, key_id: str, digest: str, received_at: datetime) -> bool:
        """Whether an order means a request that was received at that time."""
        for salt, orders in self._by_salt.items():
            named = (
                (ForgetKind.REQUEST, str(request_id)),
                (ForgetKind.KEY, key_id),
                (ForgetKind.TENANT, tenant),
                (ForgetKind.TEXT, digest),
            )
            for kind, value in named:
                until = orders.get((kind, fingerprint(salt, value)))
                if until is not None and received_at <= until:
                    return True
        return False

    def forget_entry(self, entry: LogEntry) -> bool:
        """Whether an order means what an entry of the event log is about."""
        if not self._by_salt:
            return False
        named = entry.answer.request_id if isinstance(entry, DecisionRecord) else entry.request_id
        received_at = entry.given_at if isinstance(entry, FeedbackRecord) else entry.received_at
        keys = {entry.key_id, entry.request_key_id} if isinstance(entry, FeedbackRecord) else {entry.key_id}
        return any(
            self.forgets(
                request_id=named, tenant=entry.tenant, key_id=key, digest=entry.text_digest, received_at=received_at
            )
            for key in keys
        )

    async def give(self, kind: ForgetKind, value: str) -> ForgetOrder:
        """Keep a new order; return once the server has stored it.

        Raises:
            MessagingUnavailable: it is not known that it was stored.
        """
        salt = self._salt()
        order = ForgetOrder(
            forget_id=new_request_id(), kind=kind, salt=salt, fingerprint=fingerprint(salt, value), asked_at=now()
        )
        try:
            revision = await (await self._bucket()).create(str(order.forget_id), order.model_dump_json().encode())
        except (NatsError, TimeoutError) as error:
            raise MessagingUnavailable("the order was not kept: the message server did not take it") from error
        self._note(KeptOrder(order, revision))
        return order

    async def find(self, forget_id: UUID) -> ForgetOrder:
        """Return an order as it stands now.

        Raises:
            UnknownOrder: there is none of this id, or only a later version can read it.
            MessagingUnavailable: the bucket cannot be read.
        """
        try:
            entry = await (await self._bucket()).get(str(forget_id))
        except NotFoundError:
            raise UnknownOrder(field="forget_id") from None
        except (NatsError, TimeoutError) as error:
            raise MessagingUnavailable from error
        try:
            # It is told how far the order is; by the fields that this version does not know only others may go.
            return ForgetOrder.model_validate_json(entry.value or b"", extra="ignore")
        except ValidationError:
            raise UnknownOrder(field="forget_id") from None

    async def update(self, kept: KeptOrder, order: ForgetOrder) -> KeptOrder:
        """Store a new state of an order.

        Raises:
            nats.js.errors.APIError: somebody else has stored one meanwhile.
        """
        bucket = await self._bucket()
        revision = await bucket.update(str(order.forget_id), order.model_dump_json().encode(), last=kept.revision)
        updated = KeptOrder(order, revision)
        self._note(updated)
        return updated

    async def refresh(self) -> list[KeptOrder]:
        """Read the orders again where the bucket has changed, and return them all.

        Raises:
            nats.errors.Error, TimeoutError: the server cannot be asked; what is known stays.
        """
        if self.jetstream is None:
            raise MessagingUnavailable
        try:
            state = (await self.jetstream.stream_info(FORGETTING_BUCKET.stream)).state
        except NotFoundError:  # Deleted with all that it held, or not made yet.
            self._seen = None
            return list(self._orders.values())
        if (state.last_seq, state.messages) != self._seen:
            found: dict[UUID, KeptOrder] = {}
            async for message in stored_messages(self.jetstream, FORGETTING_BUCKET.stream):
                try:
                    order = ForgetOrder.model_validate_json(message.payload)
                except ValidationError:
                    logger.error("an order to forget cannot be read", extra={"sequence": message.sequence})
                    continue
                found[order.forget_id] = KeptOrder(order, message.sequence)
            self._orders, self._by_salt = {}, {}
            for kept in found.values():
                self._note(kept)
            self._seen = (state.last_seq, state.messages)
        return list(self._orders.values())

    async def watch(self) -> None:
        """Keep the orders known, until cancelled."""
        while True:
            try:
                await self.refresh()
            except (NatsError, TimeoutError, MessagingUnavailable) as error:
                logger.warning("orders to forget not read: %s", type(error).__name__)
            await asyncio.sleep(POLL_S)

    def _note(self, kept: KeptOrder) -> None:
        order = kept.order
        self._orders[order.forget_id] = kept
        named = (order.kind, order.fingerprint)
        orders = self._by_salt.setdefault(order.salt, {})
        orders[named] = max(order.asked_at, orders.get(named, order.asked_at))

    def _salt(self) -> str:
        newest = max((kept.order for kept in self._orders.values()), key=lambda order: order.asked_at, default=None)
        if newest is not None and now() - newest.asked_at < SALT_AGE:
            return newest.salt
        return secrets.token_hex(16)

    async def _bucket(self) -> KeyValue:
        if self.jetstream is None:
            raise MessagingUnavailable
        try:
            return await self.jetstream.key_value(FORGETTING_BUCKET.name)
        except (NatsError, TimeoutError) as error:
            raise MessagingUnavailable(f"the bucket {FORGETTING_BUCKET.name} cannot be reached") from error
