"""The audit record: what administrators did, in a stream that the server lets nobody delete from."""

from __future__ import annotations

from collections import deque
from typing import Final
from uuid import uuid4

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import NotFoundError

from app.admin_contracts import AuditEntry, AuditEvent, AuditPage
from app.errors import InvalidRequest, MessagingUnavailable
from app.topology import AUDIT_STREAM, Header, audit_subject

FETCH: Final = 500
FIRST_LOOK: Final = 256
"""Sequences that the first look back takes in where a filter leaves some out; each further look takes four times as
many."""
IDLE_S: Final = 30.0
"""Seconds after which the server forgets the consumer of a read that broke off."""


async def record(jetstream: JetStreamContext, event: AuditEvent) -> None:
    """Record an action; return once the server has stored it.

    Record it before the action is reported as done, so that no action goes unrecorded.

    Raises:
        MessagingUnavailable: it is not known that it was stored.
    """
    try:
        await jetstream.publish(
            audit_subject(event.action),
            event.model_dump_json().encode(),
            headers={str(Header.MESSAGE_ID): str(uuid4()), str(Header.CONTENT_TYPE): "application/json"},
            stream=AUDIT_STREAM.name,
        )
    except (NatsError, TimeoutError) as error:
        raise MessagingUnavailable("the action was not recorded: the message server did not take it") from error


async def entries(
    jetstream: JetStreamContext, *, limit: int, cursor: str | None = None, action: str | None = None
) -> AuditPage:
    """Return the newest entries, or those before a cursor.

    Args:
        jetstream: a connection's context.
        limit: most entries of the page.
        cursor: `next_cursor` of the page before.
        action: only this action, or all actions on a subject (`keys` finds `keys.create`).

    Raises:
        InvalidRequest: the cursor is none.
        MessagingUnavailable: the record cannot be read.
    """
    try:
        state = (await jetstream.stream_info(AUDIT_STREAM.name)).state
        last = state.last_seq if cursor is None else min(_before(cursor), state.last_seq)
        # One more than asked for tells whether there is a next page.
        found: deque[AuditEntry] = deque(maxlen=limit + 1)
        reach = limit + 1 if action is None else max(FIRST_LOOK, limit + 1)
        while last >= max(state.first_seq, 1) and len(found) <= limit:
            first = max(last - reach + 1, state.first_seq, 1)
            wanted = limit + 1 - len(found)
            found.extendleft(reversed((await _range(jetstream, first, last, action))[-wanted:]))
            last, reach = first - 1, reach * 4
    except NotFoundError:
        raise MessagingUnavailable(f"the stream {AUDIT_STREAM.name} does not exist") from None
    except (NatsError, TimeoutError) as error:
        raise MessagingUnavailable(f"the audit record cannot be read: {type(error).__name__}") from None
    newest = list(reversed(found))[:limit]
    return AuditPage(entries=newest, next_cursor=str(newest[-1].sequence) if len(found) > limit else None)


async def _range(jetstream: JetStreamContext, first: int, last: int, action: str | None) -> list[AuditEntry]:
    """Return the entries of a range of sequences, oldest first."""
    config = ConsumerConfig(
        name=f"vigil-audit-{uuid4().hex}",
        filter_subjects=[audit_subject(action), audit_subject(f"{action}.>")] if action else None,
        deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
        opt_start_seq=first,
        ack_policy=AckPolicy.NONE,
        mem_storage=True,
        inactive_threshold=IDLE_S,
    )
    pending = (await jetstream.add_consumer(AUDIT_STREAM.name, config)).num_pending or 0
    reader = await jetstream.pull_subscribe_bind(consumer=config.name, stream=AUDIT_STREAM.name)
    found: list[AuditEntry] = []
    try:
        while pending:
            for message in await reader.fetch(min(FETCH, pending)):
                pending = message.metadata.num_pending
                if message.metadata.sequence.stream > last:
                    return found
                found.append(_entry(message))
    finally:
        await reader.unsubscribe()
        await jetstream.delete_consumer(AUDIT_STREAM.name, config.name or "")
    return found


def _entry(message: Msg) -> AuditEntry:
    """Read one message; one that this program did not write is shown by its subject alone."""
    stored = message.metadata
    try:
        event = AuditEvent.model_validate_json(message.data, extra="ignore")
    except ValueError:
        event = AuditEvent(actor="unknown", action="unreadable", detail=message.subject)
    return AuditEntry(**event.model_dump(), sequence=stored.sequence.stream, at=stored.timestamp)


def _before(cursor: str) -> int:
    if not cursor.isascii() or not cursor.isdecimal() or len(cursor) > 18:
        raise InvalidRequest("must be the next_cursor of a page", field="cursor")
    return int(cursor) - 1
