"""The first decision of each request id, kept for a while so that a repeated id gets it again on any replica."""

from __future__ import annotations

import asyncio
import time
from typing import Final, Protocol
from uuid import UUID

from nats.errors import Error as NatsError
from nats.js.errors import APIError, KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue

from app.contracts import DecisionRecord, Verdict
from app.errors import DecisionTimeout, MessagingUnavailable
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
        first = DecisionRecord.model_validate_json(entry.value or b"")
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
        except (NatsError, APIError, TimeoutError) as error:
            raise MessagingUnavailable from error
        return DecisionRecord.model_validate_json(entry.value or b"")

    @property
    def _bucket(self) -> KeyValue:
        if self.bucket is None:
            raise MessagingUnavailable
        return self.bucket


class MemoryDecisions:
    """Decisions in this process alone, for running the chain without a server."""

    def __init__(self) -> None:
        self._records: dict[UUID, DecisionRecord] = {}

    async def keep_first(self, record: DecisionRecord) -> DecisionRecord:
        first = self._records.get(record.answer.request_id)
        if first is None or first.answer.decision is Verdict.EXPIRED:
            self._records[record.answer.request_id] = record
        return self._records[record.answer.request_id]

    async def find(self, request_id: UUID) -> DecisionRecord | None:
        return self._records.get(request_id)


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
