"""The first decision of each request id, kept for a while so that a repeated id gets it again on any replica."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from typing import Final, Protocol, Self
from uuid import UUID

from nats.errors import Error as NatsError
from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue

from app.contracts import DecisionRecord, Envelope, Message, Verdict
from app.errors import DecisionTimeout, MessagingUnavailable, RequestExpired, RequestIdConflict
from app.identity import now
from app.messaging.jetstream import refusing_too_large

DRY_RUN_CONFLICT: Final = "this request id was used for a dry run, or the other way round: a text needs one for each"
"""A dry run lets every text pass: it must not be the answer to a request that counts."""
FIRST_POLL_S: Final = 0.01
LAST_POLL_S: Final = 0.25
"""A repeated id is rare and usually waits a few milliseconds: polling with doubling pauses beats a consumer each."""


class DecisionStore(Protocol):
    async def keep_first(self, record: DecisionRecord) -> DecisionRecord:
        """Store the record unless its request id has one, and return the one that is stored.

        Raises:
            PayloadTooLarge: it does not fit the store.
        """
        ...

    async def find(self, request_id: UUID) -> DecisionRecord | None: ...

    async def note_failure(self, failed: FailedAttempt) -> None:
        """Keep that a request came to nothing: JetStream would drop the next one under its id as a repeat.

        Raises:
            nats.errors.Error, TimeoutError, MessagingUnavailable: it is not known that this was kept.
        """
        ...

    async def attempt_after_failure(self, request_id: UUID) -> str:
        """Return what the attempt after the last failed one is called; empty where none failed.

        Raises:
            MessagingUnavailable: the bucket cannot be read.
        """
        ...


class FailedAttempt(Message):
    """That a request became a dead letter, beside the decisions: what forgetting looks for, and when it was."""

    request_id: UUID
    tenant: str
    key_id: str
    received_at: datetime
    failed_at: datetime

    @classmethod
    def of(cls, envelope: Envelope) -> Self:
        return cls(
            request_id=envelope.request_id,
            tenant=envelope.tenant,
            key_id=envelope.key_id,
            received_at=envelope.received_at,
            failed_at=now(),
        )


class BucketDecisions:
    """Decisions in a JetStream key-value bucket; `bucket` is set once the server is reached."""

    def __init__(self) -> None:
        self.bucket: KeyValue | None = None

    async def keep_first(self, record: DecisionRecord) -> DecisionRecord:
        key = str(record.answer.request_id)
        try:
            with refusing_too_large():
                await self._bucket.create(key, record.model_dump_json().encode())
        except KeyWrongLastSequenceError:
            return await self._keep_beside(record)
        return record

    async def _keep_beside(self, record: DecisionRecord) -> DecisionRecord:
        """Return the decision that is there; one that expired gives way.

        Also to one that expired later: the next attempt takes its name from that.
        """
        key = str(record.answer.request_id)
        entry = await self._bucket.get(key)
        first = _read(entry)
        if first.answer.decision is not Verdict.EXPIRED:
            return first
        with refusing_too_large():
            await self._bucket.update(key, record.model_dump_json().encode(), last=entry.revision)
        return record

    async def find(self, request_id: UUID) -> DecisionRecord | None:
        """Return the kept decision.

        Raises:
            MessagingUnavailable: the bucket cannot be read.
        """
        try:
            entry = await self._bucket.get(str(request_id))
        except KeyNotFoundError:
            return None
        except (NatsError, TimeoutError) as error:
            raise MessagingUnavailable from error
        return _read(entry)

    async def note_failure(self, failed: FailedAttempt) -> None:
        await self._bucket.put(_failure_key(failed.request_id), failed.model_dump_json().encode())

    async def attempt_after_failure(self, request_id: UUID) -> str:
        try:
            entry = await self._bucket.get(_failure_key(request_id))
        except KeyNotFoundError:
            return ""
        except (NatsError, TimeoutError) as error:
            raise MessagingUnavailable from error
        return _again(FailedAttempt.model_validate_json(entry.value or b"", extra="ignore"))

    @property
    def _bucket(self) -> KeyValue:
        if self.bucket is None:
            raise MessagingUnavailable
        return self.bucket


class MemoryDecisions:
    """Decisions in this process alone, for running the chain without a server."""

    def __init__(self) -> None:
        self._records: dict[UUID, DecisionRecord] = {}
        self._failed: dict[UUID, FailedAttempt] = {}

    async def keep_first(self, record: DecisionRecord) -> DecisionRecord:
        first = self._records.get(record.answer.request_id)
        if first is None or first.answer.decision is Verdict.EXPIRED:
            self._records[record.answer.request_id] = record
        return self._records[record.answer.request_id]

    async def find(self, request_id: UUID) -> DecisionRecord | None:
        return self._records.get(request_id)

    async def note_failure(self, failed: FailedAttempt) -> None:
        self._failed[failed.request_id] = failed

    async def attempt_after_failure(self, request_id: UUID) -> str:
        failed = self._failed.get(request_id)
        return "" if failed is None else _again(failed)


def _read(entry: KeyValue.Entry) -> DecisionRecord:
    """Return a kept decision, also one of a later version: what it says beyond this one's fields goes no further."""
    # Not "ignore": parts of a chat's messages have fields of their callers, which come back to them.
    return DecisionRecord.model_validate_json(entry.value or b"", extra="allow")


def _failure_key(request_id: UUID) -> str:
    return f"{request_id}.failed"


def _again(failed: FailedAttempt) -> str:
    return f"again-{int(failed.failed_at.timestamp() * 1000)}"


def attempt_after(expired: DecisionRecord) -> str:
    """Return what the next attempt is called under the id of a request that expired."""
    return f"after-{int(expired.decided_at.timestamp() * 1000)}"


async def wait_for(store: DecisionStore, request_id: UUID, timeout_s: float, attempt: str = "") -> DecisionRecord:
    """Return the decision of a request that is under way elsewhere.

    Args:
        store: where it will be.
        request_id: its id.
        timeout_s: seconds to wait.
        attempt: what this attempt is called; the one before it that expired is not waited for.

    Raises:
        DecisionTimeout: none came within `timeout_s` seconds.
    """
    until = time.monotonic() + timeout_s
    pause = FIRST_POLL_S
    while True:
        record = await store.find(request_id)
        if record is not None and not (record.answer.decision is Verdict.EXPIRED and attempt_after(record) == attempt):
            return record
        if time.monotonic() + pause > until:
            raise DecisionTimeout(request_id=request_id)
        await asyncio.sleep(pause)
        pause = min(2 * pause, LAST_POLL_S)


def check_repeat(first: DecisionRecord, *, tenant: str, digest: str, dry_run: bool) -> None:
    """Check that a request may have the decision that its id has.

    Args:
        first: that decision.
        tenant: whose request it is.
        digest: of its text.
        dry_run: whether it is one.

    Raises:
        RequestIdConflict: that is the decision of another text, or of a dry run, or the other way round.
        RequestExpired: nothing was judged.
    """
    if first.tenant != tenant:
        raise RequestIdConflict(field="request_id")
    if first.answer.decision is Verdict.EXPIRED:
        raise RequestExpired
    if first.text_digest != digest:
        raise RequestIdConflict(field="request_id")
    if first.answer.dry_run != dry_run:
        raise RequestIdConflict(DRY_RUN_CONFLICT, field="request_id")
