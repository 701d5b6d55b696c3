"""The bucket of keys: how they are made and ended there, and how every process sees it at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeout
from nats.js import JetStreamContext
from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError, NotFoundError
from nats.js.kv import KeyValue
from pydantic import ValidationError

from app.access.control import AccessControl
from app.access.keys import (
    IssuedKey,
    KeyChange,
    KeyDescription,
    KeyRecord,
    KeyRequest,
    Peppers,
    RotationRequest,
    amend,
    issue,
    revoke,
    rotate,
)
from app.admin_contracts import AuditEvent
from app.errors import (
    InvalidRequest,
    MessagingUnavailable,
    RequestIdConflict,
    UnknownKey,
    UnknownResource,
    VigilError,
)
from app.identity import now
from app.messaging import audit, buckets
from app.topology import KEYS_BUCKET

logger: Final = logging.getLogger("vigil.access")

LOOK_INTERVAL_S: Final = 0.5
"""How long a watch may be silent before the bucket is asked whether something was missed."""
AGAIN_S: Final = 0.5
ANSWER_TIMEOUT_S: Final = 1.0
"""A server that comes back is asked again soon."""
TRIES: Final = 5
"""Two administrators who change one key at once are served one after the other."""


class KeyStore:
    """Keys as administrators see them; every action is in the audit record before it is told as done."""

    def __init__(
        self,
        jetstream: JetStreamContext,
        peppers: Callable[[], Peppers],
        grace: timedelta,
        policies: Callable[[], Awaitable[Sequence[str]]],
    ) -> None:
        """Begin.

        Args:
            jetstream: a connection's context.
            peppers: called when a key is made or changed; raises ConfigurationError where there are none.
            grace: how long the old secret of a rotated key works, unless a rotation says otherwise.
            policies: returns the names of the policies that a key may name.
        """
        self._jetstream = jetstream
        self._peppers = peppers
        self._grace = grace
        self._policies = policies

    async def create(self, request: KeyRequest, *, actor: str) -> IssuedKey:
        """Make a key and return its secret, this once.

        Raises:
            InvalidRequest: a policy that it names does not exist, or the end has passed.
            MessagingUnavailable: the bucket cannot be reached; there may be a key whose secret nobody has.
        """
        _check_end(request.expires_at)
        await self._check_policies({"policy": request.policy, "policies": request.policies})
        token, record = issue(request, self._peppers(), created_by=actor)
        scopes = " ".join(sorted(record.scopes))
        await self._record(actor, "keys.create", record, f"tenant {record.tenant}, scopes {scopes}")
        try:
            await (await self._bucket()).create(record.id, _content(record))
        except (NatsError, TimeoutError) as error:
            raise MessagingUnavailable(f"the key was not stored: {type(error).__name__}") from None
        return IssuedKey(key=token, description=record.public())

    async def list(self) -> list[KeyDescription]:
        """Return all keys, the newest first."""
        try:
            await self._bucket()
            entries = await buckets.snapshot(self._jetstream, KEYS_BUCKET.name)
        except (NatsError, TimeoutError) as error:
            raise MessagingUnavailable(f"the keys cannot be read: {type(error).__name__}") from None
        records = [record for entry in entries if (record := read(entry)) is not None]
        return [record.public() for record in sorted(records, key=lambda each: each.created_at, reverse=True)]

    async def get(self, key_id: str) -> KeyDescription:
        """Return one key.

        Raises:
            UnknownKey: there is none of this id.
        """
        return (await self._find(key_id))[0].public()

    async def rotate(self, key_id: str, request: RotationRequest, *, actor: str) -> IssuedKey:
        """Give a key a new secret and return it, this once.

        Raises:
            UnknownKey: there is none of this id that this service made, or it was revoked.
        """
        grace = self._grace if request.grace_s is None else timedelta(seconds=request.grace_s)
        peppers = self._peppers()
        token = ""

        def change(record: KeyRecord) -> KeyRecord:
            nonlocal token
            _check_changeable(record, peppers)
            token, changed = rotate(record, peppers, grace=grace)
            return changed

        record = await self._change(key_id, change, actor, "keys.rotate", f"old secret works for {grace}")
        return IssuedKey(key=token, description=record.public())

    async def amend(self, key_id: str, change: KeyChange, *, actor: str) -> KeyDescription:
        """Change a key's limits, policies, name or end; every replica goes by them within a second.

        Raises:
            InvalidRequest: nothing is to be changed, a policy does not exist, the end has passed, or a key that has
                expired would work again under a policy that is gone.
            UnknownKey: there is none of this id that this service made, or it was revoked.
        """
        changes = change.changes()
        if not changes:
            raise InvalidRequest("must name something to change", field="body")
        _check_end(change.expires_at)
        await self._check_policies(changes)
        if "expires_at" in changes:
            await self._check_policies_kept(key_id, changes)
        peppers = self._peppers()

        def amended(record: KeyRecord) -> KeyRecord:
            _check_changeable(record, peppers)
            return amend(record, change, peppers)

        detail = ", ".join(f"{name} {_written(value)}" for name, value in changes.items())
        return (await self._change(key_id, amended, actor, "keys.set", detail)).public()

    async def revoke(self, key_id: str, *, actor: str) -> KeyDescription:
        """End a key; every replica refuses it within a second."""
        peppers = self._peppers()
        return (await self._change(key_id, lambda record: revoke(record, peppers), actor, "keys.revoke", "")).public()

    async def _check_policies(self, asked: Mapping[str, Any]) -> None:
        """Refuse a key whose holder could send no request: every one would be judged by a policy that is not there.

        Args:
            asked: what is to be set, by the names of the fields; `policy` and `policies` are looked at.

        Raises:
            InvalidRequest: names the field and the policies that exist.
        """
        policy, policies = asked.get("policy"), asked.get("policies")
        named = {"policy": [policy] if policy is not None else [], "policies": policies or []}
        if not any(named.values()):
            return
        known = await self._policies()
        for field, names in named.items():
            if not set(known).issuperset(names):
                raise InvalidRequest(f"{field}: the policies are {', '.join(known)}", field=field)

    async def _check_policies_kept(self, key_id: str, changes: Mapping[str, Any]) -> None:
        """Refuse to let a key that has expired work again under a policy that is gone: what none but expired keys name
        can be taken away.

        Raises:
            InvalidRequest: names the field, what is gone and the policies that exist.
        """
        record, _ = await self._find(key_id)
        if record.public().state(now()) != "expired":
            return
        known = await self._policies()
        named = {"policy": [record.policy] if record.policy is not None else [], "policies": record.policies}
        for field, names in named.items():
            gone = sorted({*names} - {*known})
            if field not in changes and gone:
                reason = f"{field}: the expired key names {', '.join(gone)}, gone since: change it with the end"
                raise InvalidRequest(f"{reason}; the policies are {', '.join(known)}", field=field)

    async def _change(
        self, key_id: str, change: Callable[[KeyRecord], KeyRecord], actor: str, action: str, detail: str
    ) -> KeyRecord:
        for _ in range(TRIES):
            record, revision = await self._find(key_id)
            changed = change(record)
            await self._record(actor, action, record, detail)
            try:
                await (await self._bucket()).update(key_id, _content(changed), last=revision)
            except KeyWrongLastSequenceError:
                continue
            except (NatsError, TimeoutError) as error:
                # Where the acknowledgement alone was lost, a second rotation would end the secret that is in use.
                if not await self._holds(changed):
                    raise MessagingUnavailable(f"the key was not changed: {type(error).__name__}") from None
            return changed
        raise RequestIdConflict("The key is being changed by someone else; try again.")

    async def _holds(self, record: KeyRecord) -> bool:
        """Return whether the bucket is known to have a record."""
        try:
            return (await self._find(record.id))[0] == record
        except VigilError:
            return False

    async def _find(self, key_id: str) -> tuple[KeyRecord, int]:
        if not key_id.isascii() or not key_id.isalnum():
            raise UnknownKey
        try:
            entry = await (await self._bucket()).get(key_id)
        except KeyNotFoundError:
            raise UnknownKey from None
        except (NatsError, TimeoutError) as error:
            raise MessagingUnavailable(f"the keys cannot be read: {type(error).__name__}") from None
        record = read(entry)
        if record is None or entry.revision is None:
            raise UnknownKey
        return record, entry.revision

    async def _record(self, actor: str, action: str, record: KeyRecord, detail: str) -> None:
        await audit.record(
            self._jetstream, AuditEvent(actor=actor, action=action, target=f"{record.id} {record.name}", detail=detail)
        )

    async def _bucket(self) -> KeyValue:
        try:
            return await self._jetstream.key_value(KEYS_BUCKET.name)
        except NotFoundError:
            raise UnknownResource(
                f"the bucket {KEYS_BUCKET.name} does not exist: start the service, or run `vigil streams apply`"
            ) from None
        except (NatsError, TimeoutError) as error:
            raise MessagingUnavailable(f"the bucket of keys cannot be reached: {type(error).__name__}") from None


class KeyWatch:
    """Keeps one process's keys equal to the bucket; while NATS is away, the last known ones stay."""

    def __init__(self, access: AccessControl) -> None:
        self._access = access

    async def open(self, connection: Client, jetstream: JetStreamContext) -> None:
        """Read the bucket once.

        Raises:
            nats.errors.Error, TimeoutError: it cannot be read; nobody is let in until it is.
        """
        entries = await buckets.snapshot(jetstream, KEYS_BUCKET.name)
        self._replace(entries)

    async def run(self, connection: Client, jetstream: JetStreamContext) -> None:
        """Follow the bucket until cancelled, also when it is deleted and made anew."""
        impatient = connection.jetstream(timeout=ANSWER_TIMEOUT_S)
        while True:
            try:
                await self._follow(impatient)
                logger.info("the watch of the keys is opened anew")
            except (NatsError, TimeoutError) as error:
                logger.warning("keys not read, the known ones stay: %s", type(error).__name__)
                await asyncio.sleep(AGAIN_S)

    async def _follow(self, jetstream: JetStreamContext) -> None:
        """Watch until the bucket says that the watch missed something."""
        before = await jetstream.stream_info(KEYS_BUCKET.stream)
        bucket = await jetstream.key_value(KEYS_BUCKET.name)
        expected = await buckets.held(jetstream, KEYS_BUCKET.name)
        watcher: Any = await bucket.watchall()  # Its methods have no types.
        try:
            entries = await buckets.present(watcher, expected, timeout_s=LOOK_INTERVAL_S * 10)
            self._replace(entries)
            seen = max([before.state.last_seq, *(entry.revision or 0 for entry in entries)])
            while True:
                try:
                    entry = await watcher.updates(timeout=LOOK_INTERVAL_S)
                except NatsTimeout:
                    present = await jetstream.stream_info(KEYS_BUCKET.stream)
                    if present.created != before.created or (
                        present.state.last_seq != seen and watcher._updates.empty()
                    ):
                        return
                    continue
                if entry is not None:
                    self._apply(entry)
                    seen = max(seen, entry.revision or 0)
        finally:
            await watcher.stop()

    def _replace(self, entries: list[KeyValue.Entry]) -> None:
        present = [entry for entry in entries if entry.operation is None]
        records = [record for entry in present if (record := read(entry)) is not None]
        self._access.replace(records, unreadable=len(present) - len(records))

    def _apply(self, entry: KeyValue.Entry) -> None:
        record = read(entry)
        if record is not None:
            self._access.put(record)
        else:
            self._access.remove(entry.key, deleted=entry.operation is not None)


def read(entry: KeyValue.Entry) -> KeyRecord | None:
    """Return the record of an entry; None for one that was deleted, or that this program did not write."""
    if entry.operation is not None or entry.value is None:
        return None
    try:
        record = KeyRecord.model_validate_json(entry.value)
    except ValidationError:
        logger.error("an entry of the bucket of keys cannot be read and is left out")
        return None
    return record if record.id == entry.key else None


async def count_naming(jetstream: JetStreamContext, policy: str) -> int:
    """Return how many keys name a policy, as theirs or among those that requests may name; revoked and expired ones are
    left out.

    Raises:
        MessagingUnavailable: the bucket of keys cannot be read.
    """
    try:
        entries = await buckets.snapshot(jetstream, KEYS_BUCKET.name)
    except NotFoundError:
        return 0  # Without the bucket there is no key.
    except (NatsError, TimeoutError) as error:
        raise MessagingUnavailable(f"the keys cannot be read: {type(error).__name__}") from None
    at = now()
    records = [record for entry in entries if (record := read(entry)) is not None]
    return sum(
        policy in (record.policy, *record.policies) and record.public().state(at) == "active" for record in records
    )


def _content(record: KeyRecord) -> bytes:
    return record.model_dump_json().encode()


def _check_changeable(record: KeyRecord, peppers: Peppers) -> None:
    if record.revoked_at is not None:
        raise UnknownKey("This key was revoked; make a new one.")
    # Sealed anew, whatever somebody wrote into the bucket would hold: other scopes, another tenant.
    if not peppers.is_authentic(record):
        raise UnknownKey("This key was not made with this service's pepper; revoke it and make a new one.")


def _check_end(expires_at: datetime | None) -> None:
    if expires_at is not None and expires_at <= now():
        raise InvalidRequest("must lie in the future", field="expires_at")


def _written(value: object) -> str:
    """Return a value as the audit record has it."""
    if isinstance(value, list):
        return " ".join(value) or "every one"
    return "none" if value is None else str(value)
