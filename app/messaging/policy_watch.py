"""Keeps this process's policies equal to the bucket: what is applied anywhere is in force here within a second."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final

from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import APIError, KeyNotFoundError, KeyWrongLastSequenceError, NotFoundError
from nats.js.kv import KeyValue

from app.arbiter.documents import canonical_json, pin_of_document
from app.arbiter.live import Change, LivePolicies
from app.contracts import PolicyPin
from app.errors import MessagingUnavailable
from app.messaging import buckets
from app.messaging import policy_keys as keys
from app.topology import POLICIES_BUCKET

logger: Final = logging.getLogger("vigil.policies")

LOOK_S: Final = 1.0
"""How often a quiet watch is checked against the bucket: a watch that has died says nothing either."""
RETRY_S: Final = 0.5
SNAPSHOT_TIMEOUT_S: Final = 5.0


class BucketArchive:
    """Versions and documents read from the bucket."""

    def __init__(self, bucket: KeyValue) -> None:
        self._bucket = bucket

    async def version(self, pin: PolicyPin) -> bytes | None:
        """Return the document of a version, also of one that has just come into force and is about to be kept.

        Raises:
            MessagingUnavailable: the bucket cannot be read.
        """
        if (kept := await self._read(keys.version_key(pin))) is not None:
            return kept
        present = await self.applied(pin.name)
        if present is not None and pin_of_document(pin.name, present) == pin:
            return present
        return await self._read(keys.version_key(pin))  # What was replaced in between was kept first.

    async def applied(self, name: str) -> bytes | None:
        return await self._read(keys.live_key(name))

    async def _read(self, key: str) -> bytes | None:
        """Return a value.

        Raises:
            MessagingUnavailable: the bucket cannot be read.
        """
        try:
            return (await self._bucket.get(key)).value
        except KeyNotFoundError:
            return None
        except (NatsError, TimeoutError) as error:
            raise MessagingUnavailable from error


class PolicyWatch:
    """Follows the bucket through lost connections, restarted servers and a bucket that was deleted.

    nats-py's watch ends without a word when its server loses the consumer, so a quiet one is compared with the bucket.
    """

    def __init__(self, policies: LivePolicies) -> None:
        self._policies = policies
        self._watcher: KeyValue.KeyWatcher | None = None
        self._made: datetime | None = None
        """When the bucket that is followed was made."""
        self._seen = 0
        """Revision of the last change that came."""
        self._checked = 0
        """Revision of the bucket up to which nothing was missed."""

    async def open(self, jetstream: JetStreamContext) -> KeyValue.KeyWatcher:
        """Put all that the bucket holds into force and begin to follow it; write what it lacks.

        Raises:
            nats.errors.Error, nats.js.errors.NotFoundError, TimeoutError: it cannot be read; NotFoundError without it.
        """
        await self._close()
        state = await jetstream.stream_info(POLICIES_BUCKET.stream)
        bucket = await jetstream.key_value(POLICIES_BUCKET.name)
        self._policies.archive = BucketArchive(bucket)
        expected = await buckets.held(jetstream, POLICIES_BUCKET.name, keys.LIVE)
        watcher = self._watcher = await bucket.watch(keys.LIVE, include_history=True)
        self._made, self._seen, self._checked = state.created, 0, 0
        async with asyncio.timeout(SNAPSHOT_TIMEOUT_S):
            entries = await buckets.present(watcher, expected, history=True)
        self._seen = max((entry.revision or 0 for entry in entries), default=0)
        changes = [change for entry in entries if (change := _change(entry)) is not None]
        lost = self._policies.replay(changes)
        for change in lost:
            await self._write_back(bucket, change)
        await self._archive(bucket)
        return watcher

    async def follow(self, jetstream: JetStreamContext, on_missing: Callable[[], Awaitable[None]]) -> None:
        """Take changes as they come, until cancelled; have a bucket that is missing made anew."""
        faulty = False
        while True:
            try:
                watcher = self._watcher or await self.open(jetstream)
                if faulty:
                    logger.warning("the bucket of policies is followed again")
                    faulty = False
                await self._next(watcher, jetstream)
            except (NatsError, TimeoutError) as error:
                if not faulty:
                    logger.warning("the bucket of policies is not followed: %s", type(error).__name__)
                    faulty = True
                await self._close()
                if isinstance(error, NotFoundError):
                    await on_missing()
                await asyncio.sleep(RETRY_S)

    async def _next(self, watcher: KeyValue.KeyWatcher, jetstream: JetStreamContext) -> None:
        try:
            entry = await watcher.updates(timeout=LOOK_S)  # type: ignore[no-untyped-call]
        except TimeoutError:
            entry = None
        if entry is None:
            await self._look(jetstream)
        elif isinstance(entry, KeyValue.Entry):
            self._seen = entry.revision or self._seen
            change = _change(entry)
            if change is not None:
                self._policies.take(change)
        else:
            await self._close()

    async def _look(self, jetstream: JetStreamContext) -> None:
        """Begin anew when the bucket is another one, or has a change that did not come."""
        info = await jetstream.stream_info(POLICIES_BUCKET.stream)
        if info.created != self._made:
            await self._close()
            return
        if info.state.last_seq <= self._checked:
            return
        try:
            newest = await jetstream.get_last_msg(POLICIES_BUCKET.stream, f"{keys.SUBJECT_PREFIX}{keys.LIVE}")
        except NotFoundError:
            missed = False
        else:
            missed = (newest.seq or 0) > self._seen
        if missed:
            await self._close()
        else:
            self._checked = info.state.last_seq

    async def _close(self) -> None:
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            try:
                await watcher.stop()  # type: ignore[no-untyped-call]
            except (NatsError, TimeoutError) as error:
                logger.debug("a watch did not end cleanly: %s", type(error).__name__)

    async def _write_back(self, bucket: KeyValue, change: Change) -> None:
        """Put back what was in force before the bucket was lost, unless another replica or an operator was faster."""
        try:
            # With nothing before it, a removal included: that would be an operator's.
            await bucket.update(keys.key_of(change), change.value or b"", last=0)
        except KeyWrongLastSequenceError:
            return
        logger.warning("%s was lost with its bucket and is put back", change.label)

    async def _archive(self, bucket: KeyValue) -> None:
        """Write every version that is in force here, so that replicas with other files can read it."""
        for pin, policy in self._policies.versions():
            try:
                await bucket.update(keys.version_key(pin), canonical_json(policy), last=0)
            except KeyWrongLastSequenceError:
                continue  # It is there already.
            except APIError as error:
                logger.error("version %d of policy %s cannot be kept: %s", pin.version, pin.name, error.description)


def _change(entry: KeyValue.Entry) -> Change | None:
    gone = entry.operation is not None
    return keys.change_of(entry.key or "", None if gone else entry.value)
