"""The envelope in headers: request id, arrival, deadline and reply inbox travel beside every message."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID, uuid5

from app.contracts import DEFAULT_TENANT, KEY_ID_PATTERN, TENANT_PATTERN, Envelope
from app.telemetry import correlation
from app.topology import DETECTION_STREAM, DLQ_STREAM, INBOX_PREFIX, Header

SEQUENCE_NAMESPACE: Final = UUID("6f2d1c1e-6a55-5a0e-9d3b-0d5b7c1f4a10")
"""Namespace of ids made from a stream sequence: a redelivery of the same message gets the same id."""


TENANT: Final = re.compile(TENANT_PATTERN, re.ASCII)
KEY_ID: Final = re.compile(KEY_ID_PATTERN, re.ASCII)
ATTEMPT: Final = re.compile(r"[A-Za-z0-9-]{0,64}", re.ASCII)
LONGEST_JOURNEY: Final = DETECTION_STREAM.max_age + DLQ_STREAM.max_age
"""No message is older: the work queue keeps none for longer, nor the dead-letter queue one that is replayed."""


def message_id(envelope: Envelope, stage: str) -> str:
    """Return the Nats-Msg-Id of a request at a stage: the same for every repeat of one attempt."""
    return f"{envelope.request_id}:{stage}" + (f":{envelope.attempt}" if envelope.attempt else "")


def to_headers(envelope: Envelope, message_id: str) -> dict[str, str]:
    headers = {
        str(Header.MESSAGE_ID): message_id,
        str(Header.CORRELATION_ID): str(envelope.request_id),
        str(Header.CONTENT_TYPE): "application/json",
        str(Header.RECEIVED_AT): envelope.received_at.isoformat(),
    }
    if envelope.deadline is not None:
        headers[str(Header.DEADLINE)] = envelope.deadline.isoformat()
    if envelope.attempt:
        headers[str(Header.ATTEMPT)] = envelope.attempt
    if envelope.given_id is not None:
        headers[str(Header.GIVEN_ID)] = str(envelope.given_id)
    if envelope.tenant != DEFAULT_TENANT:
        headers[str(Header.TENANT)] = envelope.tenant
    if envelope.key_id:
        headers[str(Header.KEY_ID)] = envelope.key_id
    if envelope.traceparent:
        headers[str(Header.TRACEPARENT)] = envelope.traceparent
    if envelope.reply_to is not None:
        headers[str(Header.REPLY_TO)] = envelope.reply_to
    return headers


def from_headers(headers: Mapping[str, str], *, stream: str, sequence: int, stored_at: datetime) -> Envelope:
    """Read the envelope of a delivery; headers are written by strangers too, so what is unusable counts as absent.

    Args:
        headers: the delivery's headers.
        stream: the stream's name and
        sequence: its sequence, which identify the message when it carries no id.
        stored_at: when the stream stored the message (UTC), the arrival of a message that does not say.
    """
    reply_to, attempt = headers.get(Header.REPLY_TO), headers.get(Header.ATTEMPT, "")
    # With the time, in whole seconds, since a stream that was made anew counts its sequences from 1 again.
    place = f"{stream}:{sequence}:{int(stored_at.timestamp())}"
    return Envelope(
        request_id=_uuid(headers.get(Header.CORRELATION_ID)) or uuid5(SEQUENCE_NAMESPACE, place),
        received_at=_arrival(headers.get(Header.RECEIVED_AT), stored_at),
        deadline=_time(headers.get(Header.DEADLINE)),
        reply_to=reply_to if reply_to and is_inbox(reply_to) else None,
        traceparent=correlation.usable(headers.get(Header.TRACEPARENT)),
        attempt=attempt if ATTEMPT.fullmatch(attempt) else "",
        given_id=_uuid(headers.get(Header.GIVEN_ID)),
        tenant=tenant_of(headers),
        key_id=key_id_of(headers),
    )


def tenant_of(headers: Mapping[str, str]) -> str:
    """Return the tenant a message names; NATS' permissions decide who may publish."""
    tenant = headers.get(Header.TENANT, "")
    return tenant if TENANT.fullmatch(tenant) else DEFAULT_TENANT


def key_id_of(headers: Mapping[str, str]) -> str:
    key_id = headers.get(Header.KEY_ID, "")
    return key_id if KEY_ID.fullmatch(key_id) else ""


def is_inbox(subject: str) -> bool:
    """Whether a reply may be sent to this subject: an inbox, without wildcards, spaces or empty tokens."""
    return (
        len(subject) <= 256
        and subject.startswith(INBOX_PREFIX)
        and subject.isascii()
        and subject.isprintable()
        and not any(character in subject for character in " *>")
        and all(subject.split("."))
    )


def _arrival(value: str | None, stored_at: datetime) -> datetime:
    """Return the stated arrival where it can be true: before the message was stored, but not long before."""
    stated = _time(value)
    return stated if stated is not None and timedelta(0) <= stored_at - stated <= LONGEST_JOURNEY else stored_at


def _uuid(value: str | None) -> UUID | None:
    try:
        return UUID(value) if value else None
    except ValueError:
        return None


def _time(value: str | None) -> datetime | None:
    try:
        time = datetime.fromisoformat(value) if value else None
    except ValueError:
        return None
    return time if time is None or time.tzinfo else time.replace(tzinfo=UTC)
