"""What administrators do to the policies of the running service: apply, roll back, remove, choose; all is recorded."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import (
    APIError,
    KeyNotFoundError,
    KeyWrongLastSequenceError,
    NotFoundError,
)
from nats.js.kv import KeyValue

from app.admin_contracts import AuditEvent
from app.arbiter.documents import canonical_json, parse_json, pin_of, pin_of_document, same_but_for_the_version
from app.arbiter.live import Change
from app.arbiter.policy import Policy
from app.contracts import PolicyPin
from app.errors import (
    InvalidRequest,
    MessagingUnavailable,
    PolicyConflict,
    PolicyRefused,
    PolicyUnreadable,
    ServerRefusal,
    UnknownPolicy,
    VigilError,
)
from app.messaging import audit
from app.messaging import policy_keys as keys
from app.messaging.buckets import snapshot
from app.messaging.keys import count_naming
from app.topology import POLICIES_BUCKET

logger: Final = logging.getLogger("vigil.policies")

WRONG_SEQUENCE: Final = 10071
"""JetStream's error code for `wrong last sequence` (nats-server errors.json)."""
LAST_VERSION: Final = 2**32 - 1
TRIES: Final = 5
"""How often a change is tried that others make at the same time."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of an applied policy."""

    policy: Policy
    changed: bool
    """False when the same was in force already."""


@dataclass(frozen=True, slots=True)
class KeptVersion:
    """One version of a policy that can be gone back to."""

    pin: PolicyPin
    stored_at: datetime
    in_force: bool
    """Whether it is what is applied now."""


@dataclass(frozen=True, slots=True)
class _Present:
    """What is applied under a name, or the file's policy where nothing is."""

    entry: KeyValue.Entry | None
    """None for the file's, or where there is none either."""
    policy: Policy | None
    """None also for a document that is no policy of this name to this program: it may be a newer release's, or written
    by hand."""
    pin: PolicyPin | None

    @property
    def version(self) -> int:
        """Its number, 0 where it has none."""
        return self.pin.version if self.pin is not None else 0


class PolicyStore:
    """Changes the bucket; every process of the service follows it."""

    def __init__(self, jetstream: JetStreamContext) -> None:
        self._jetstream = jetstream

    async def changes(self) -> list[Change]:
        """Return all that is applied at present."""
        bucket = await self._bucket()
        found = []
        for key in await self._keys("live."):
            entry = await self._entry(bucket, key)
            change = keys.change_of(key, entry.value) if entry is not None else None
            if change is not None:
                found.append(change)
        return found

    async def names(self, files: Iterable[str]) -> list[str]:
        """Return the names of all policies: of the files, and of what is applied at present."""
        live = [keys.change_of(key, b"") for key in await self._keys(keys.live_key(""))]
        return sorted({*files, *(change.name for change in live if change is not None)})

    async def applied(self, name: str) -> Policy | None:
        """Return what is applied under a name, None where the file holds.

        Raises:
            PolicyUnreadable: what is there is no policy of this name to this program; tells its version and revision.
        """
        entry = await self._entry(await self._bucket(), keys.live_key(name))
        if entry is None:
            return None
        document = entry.value or b""
        try:
            return _policy(name, document)
        except PolicyRefused as refused:
            pin = pin_of_document(name, document)
            version = f"version {pin.version}" if pin is not None else "no version"
            where = f"what is applied as {name} ({version}, revision {entry.revision})"
            raise PolicyUnreadable(f"{where} cannot be read by this release: {refused.message}") from None

    async def versions(self, name: str) -> list[KeptVersion]:
        """Return the kept versions of a policy, files' included, the newest number first."""
        present = await self._present(await self._bucket(), name, None)
        kept = []
        for pin in await self._pins(name):
            stored_at = await self._stored_at(keys.version_key(pin))
            if stored_at is not None:
                kept.append(KeptVersion(pin, stored_at, pin == present.pin))
        return sorted(kept, key=lambda each: (each.pin.version, each.stored_at), reverse=True)

    async def version(self, name: str, version: int) -> Policy:
        """Return one kept version.

        Raises:
            UnknownPolicy: there is none of this number.
            PolicyUnreadable: it cannot be read by this program.
        """
        bucket = await self._bucket()
        for pin in await self._pins(name):
            if pin.version == version:
                entry = await self._entry(bucket, keys.version_key(pin))
                if entry is not None:
                    return _read(pin, entry)
        raise UnknownPolicy(f"no version {version} of policy {name} is kept", field="version")

    async def apply(
        self, policy: Policy, actor: str, *, base: Policy | None = None, expected_version: int | None = None
    ) -> Applied:
        """Put a policy into force everywhere, under the next version number.

        Args:
            policy: checked already.
            actor: who does it, for the audit record.
            base: the file's policy of this name, which holds where nothing is applied.
            expected_version: the version that the change was made from.

        Raises:
            PolicyConflict: another version is in force than expected, or others change it all the time.
            PolicyRefused: no number is left for it.
            MessagingUnavailable, ServerRefusal: it was not stored.
        """
        for _ in range(TRIES):
            bucket = await self._bucket()
            present = await self._present(bucket, policy.name, base)
            if expected_version is not None and expected_version != present.version:
                raise PolicyConflict(field="expected_version")
            if present.policy is not None and same_but_for_the_version(present.policy, policy):
                return Applied(present.policy, changed=False)
            numbers = await self._keep_present(bucket, policy.name, present)
            version = 1 + max(*numbers, present.version, 0)
            if version > LAST_VERSION:
                raise PolicyRefused(f"version: there is no number after {LAST_VERSION}", field="version")
            numbered = policy.model_copy(update={"version": version})
            if await self._put(bucket, numbered, present.entry):
                before = f"version {present.version}" if present.version else "what has no number"
                before = before if present.entry is not None or present.policy is not None else "nothing"
                await self._record(actor, "policies.apply", policy.name, f"version {version} after {before}")
                return Applied(numbered, changed=True)
            await asyncio.sleep(0)
        raise PolicyConflict

    async def roll_back(
        self,
        name: str,
        actor: str,
        *,
        to: int | None = None,
        base: Policy | None = None,
        check: Callable[[Policy], None] = lambda _: None,
    ) -> Applied:
        """Put an earlier version into force again, under the next version number.

        Args:
            name: of the policy.
            actor: who does it.
            to: the version to go back to; by default the one before the one in force, a file's included, or the newest
                that this program can read where it cannot read what is applied.
            base: the file's policy of this name.
            check: raises PolicyRefused for a policy that cannot be carried out: what could be when it was applied may
                need something that is gone since, as the key of hashes.

        Raises:
            UnknownPolicy: there is no such version.
            PolicyUnreadable: it cannot be read by this program.
            PolicyRefused: it cannot be carried out; nothing is changed.
        """
        present = await self._present(await self._bucket(), name, base)
        if present.entry is None and present.policy is None:
            raise UnknownPolicy(f"there is no policy {name}", field="name")
        if to is None:
            to = await self._before(name, present)
        earlier = await self.version(name, to)
        check(earlier)
        return await self.apply(earlier, actor, base=base, expected_version=present.version)

    async def remove(self, name: str, actor: str, *, base: Policy | None = None) -> None:
        """Take what is applied away, so that the file's policy holds again; without a file the policy is gone.

        Raises:
            UnknownPolicy: nothing is applied under this name.
            PolicyConflict: the policy has no file and is the default, is tried beside another, or is named by keys,
                whose requests could not be judged any more.
            MessagingUnavailable: the keys cannot be read, or it is not known that it was taken away.
        """
        bucket = await self._bucket()
        entry = await self._entry(bucket, keys.live_key(name))
        if entry is None:
            raise UnknownPolicy(f"nothing is applied as {name}", field="name")
        await self._keep_present(bucket, name, _present(name, entry))
        chosen = [change for change in await self.changes() if change.kind != "policy"] if base is None else []
        for change in chosen:
            if change.value == name.encode():
                raise PolicyConflict(f"{name} is chosen as the {change.label}; choose another first")
        naming = await count_naming(self._jetstream, name) if base is None else 0
        if naming:
            raise PolicyConflict(f"keys that name {name}: {naming}; give them another policy or revoke them first")
        await self._delete(bucket, entry)
        await self._record(actor, "policies.remove", name, "")
        if any(change.kind == "shadow" and change.name == name for change in chosen):
            await self.choose_shadow(name, None, actor)  # Nothing is left that another could be tried beside.

    async def choose_default(self, name: str | None, actor: str) -> None:
        """Let requests that name no policy be judged by this one; None goes back to the setting."""
        await self._choose(keys.DEFAULT, name)
        await self._record(actor, "policies.default", name or "", "" if name else "back to the setting")

    async def end_default(self, name: str, actor: str, *, setting: str) -> None:
        """Go back to the setting's default in place of a chosen one.

        Args:
            name: of the policy that is the default.
            actor: who does it.
            setting: the default where none is chosen.

        Raises:
            PolicyConflict: another policy is the default, or becomes it at the same time.
        """
        bucket = await self._bucket()
        entry = await self._entry(bucket, keys.DEFAULT)
        if name.encode() != (entry.value if entry is not None else setting.encode()):
            raise PolicyConflict(f"{name} is not the default", field="name")
        if entry is not None:
            await self._delete(bucket, entry)
            await self._record(actor, "policies.default", "", "back to the setting")

    async def choose_shadow(self, beside: str, name: str | None, actor: str) -> None:
        """Try a policy beside another; None ends it."""
        if name == beside:
            raise InvalidRequest("must be another policy than the one it is tried beside", field="policy")
        await self._choose(keys.shadow_key(beside), name)
        await self._record(actor, "policies.shadow", beside, f"tries {name}" if name else "ended")

    async def shadow(self, beside: str) -> str | None:
        """Return the name of the policy that is chosen to be tried beside another; None where none is."""
        entry = await self._entry(await self._bucket(), keys.shadow_key(beside))
        return (entry.value or b"").decode("ascii", "replace") if entry is not None else None

    async def _before(self, name: str, present: _Present) -> int:
        """Return the number of the last version whose content differs from the present one."""
        for kept in await self.versions(name):
            if present.policy is not None and kept.pin.version >= present.version:
                continue
            try:
                earlier = await self.version(name, kept.pin.version)
            except PolicyRefused:
                continue  # A newer release's: this program cannot go back to it.
            if present.policy is None or not same_but_for_the_version(earlier, present.policy):
                return kept.pin.version
        raise UnknownPolicy(f"no version of {name} before {present.version} is kept", field="version")

    async def _present(self, bucket: KeyValue, name: str, base: Policy | None) -> _Present:
        entry = await self._entry(bucket, keys.live_key(name))
        if entry is None:
            return _Present(None, base, pin_of(base) if base is not None else None)
        return _present(name, entry)

    async def _put(self, bucket: KeyValue, policy: Policy, entry: KeyValue.Entry | None) -> bool:
        """Put a policy into force, then keep the version; False when somebody else was faster.

        In this order, since of two who give out the same number only one comes into force. Who is pinned to a version
        that is not kept yet finds it in force, and who replaces it keeps it first.
        """
        document = canonical_json(policy)
        try:
            if entry is None:
                await bucket.create(keys.live_key(policy.name), document)
            else:
                await bucket.update(keys.live_key(policy.name), document, last=entry.revision)
        except KeyWrongLastSequenceError:
            return False
        except (NatsError, TimeoutError) as error:
            raise _unstored(error) from error
        try:
            await self._keep(bucket, pin_of(policy), document)
        except VigilError as error:
            kept = "version %d of policy %s is kept with the next change: %s"
            logger.warning(kept, policy.version, policy.name, error.message)
        return True

    async def _keep_present(self, bucket: KeyValue, name: str, present: _Present) -> list[int]:
        """Keep what is about to be replaced, where that was not done yet, and return the numbers of all that is kept.

        Raises:
            MessagingUnavailable, ServerRefusal: it was not stored.
        """
        numbers = [pin.version for pin in await self._pins(name)]
        policy = present.policy if present.entry is not None else None
        if policy is not None and policy.version not in numbers:
            await self._keep(bucket, pin_of(policy), canonical_json(policy))
        return numbers

    @staticmethod
    async def _keep(bucket: KeyValue, pin: PolicyPin, document: bytes) -> None:
        try:
            await bucket.update(keys.version_key(pin), document, last=0)
        except KeyWrongLastSequenceError:
            return  # A process that follows the bucket was faster.
        except (NatsError, TimeoutError) as error:
            raise _unstored(error) from error

    async def _choose(self, key: str, name: str | None) -> None:
        bucket = await self._bucket()
        try:
            if name is not None:
                await bucket.put(key, name.encode())
            elif await self._entry(bucket, key) is not None:
                await bucket.delete(key)
        except (NatsError, TimeoutError) as error:
            raise _unstored(error) from error

    async def _delete(self, bucket: KeyValue, entry: KeyValue.Entry) -> None:
        try:
            await bucket.delete(entry.key or "", last=entry.revision)
        except APIError as error:
            raise (PolicyConflict() if error.err_code == WRONG_SEQUENCE else _unstored(error)) from None
        except (NatsError, TimeoutError) as error:
            raise _unstored(error) from error

    async def _record(self, actor: str, action: str, target: str, detail: str) -> None:
        await audit.record(self._jetstream, AuditEvent(actor=actor, action=action, target=target, detail=detail))

    async def _bucket(self) -> KeyValue:
        """Return the bucket.

        Raises:
            ServerRefusal: there is none.
            MessagingUnavailable: the server does not answer.
        """
        try:
            return await self._jetstream.key_value(POLICIES_BUCKET.name)
        except NotFoundError:
            raise ServerRefusal(f"the bucket {POLICIES_BUCKET.name} is missing: `vigil streams apply`") from None
        except (NatsError, TimeoutError) as error:
            raise _unstored(error) from error

    @staticmethod
    async def _entry(bucket: KeyValue, key: str) -> KeyValue.Entry | None:
        try:
            return await bucket.get(key)
        except KeyNotFoundError:
            return None
        except (NatsError, TimeoutError) as error:
            raise _unstored(error) from error

    async def _keys(self, prefix: str) -> list[str]:
        try:
            entries = await snapshot(self._jetstream, POLICIES_BUCKET.name, f"{prefix}>", meta_only=True)
        except (NatsError, TimeoutError) as error:
            raise _unstored(error) from error
        return sorted(entry.key for entry in entries if entry.operation is None)

    async def _stored_at(self, key: str) -> datetime | None:
        """Return when a value was stored, which nats-py's KeyValue leaves out."""
        try:
            return (await self._jetstream.get_last_msg(POLICIES_BUCKET.stream, f"{keys.SUBJECT_PREFIX}{key}")).time
        except NotFoundError:
            return None
        except (NatsError, TimeoutError) as error:
            raise _unstored(error) from error

    async def _pins(self, name: str) -> list[PolicyPin]:
        found = [keys.pin_of_key(key) for key in await self._keys(f"version.{name}.")]
        return [pin for pin in found if pin is not None]


def _read(pin: PolicyPin, entry: KeyValue.Entry) -> Policy:
    try:
        return parse_json(entry.value or b"")
    except PolicyRefused as refused:
        reason = f"version {pin.version} of policy {pin.name} cannot be read by this release: {refused.message}"
        raise PolicyUnreadable(reason, field="version") from None


def _present(name: str, entry: KeyValue.Entry) -> _Present:
    document = entry.value or b""
    try:
        policy = _policy(name, document)
    except PolicyRefused:
        policy = None
    return _Present(entry, policy, pin_of_document(name, document))


def _policy(name: str, document: bytes) -> Policy:
    policy = parse_json(document)
    if policy.name != name:
        raise PolicyRefused(f"name: must be {name}, as its key says", field="name")
    return policy


def _unstored(error: Exception) -> MessagingUnavailable | ServerRefusal:
    if isinstance(error, APIError) and error.description:
        return ServerRefusal(error.description)
    return MessagingUnavailable(f"no answer from the message server: {type(error).__name__}")
