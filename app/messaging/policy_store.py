"""What administrators do to the policies of the running service: apply, roll back, remove, choose; all is recorded."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import (
    APIError,
    BucketNotFoundError,
    KeyNotFoundError,
    KeyWrongLastSequenceError,
    NotFoundError,
)
from nats.js.kv import KeyValue

from app.admin_contracts import AuditEvent
from app.arbiter.documents import canonical_json, parse_json, pin_of, same_but_for_the_version
from app.arbiter.live import Change
from app.arbiter.policy import Policy
from app.contracts import PolicyPin
from app.errors import InvalidRequest, MessagingUnavailable, PolicyConflict, ServerRefusal, UnknownPolicy
from app.messaging import audit
from app.messaging import policy_keys as keys
from app.messaging.buckets import snapshot
from app.topology import POLICIES_BUCKET

WRONG_SEQUENCE: Final = 10071
"""JetStream's error code for `wrong last sequence` (nats-server errors.json)."""
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

    async def applied(self, name: str) -> Policy | None:
        """Return what is applied under a name, None where the file holds.

        Raises:
            PolicyRefused: what is there cannot be read by this program.
        """
        entry = await self._entry(await self._bucket(), keys.live_key(name))
        return parse_json(entry.value or b"") if entry is not None else None

    async def versions(self, name: str) -> list[KeptVersion]:
        """Return the kept versions of a policy, files' included, the newest number first."""
        applied = await self.applied(name)
        in_force = pin_of(applied) if applied is not None else None
        kept = []
        for pin in await self._pins(name):
            stored_at = await self._stored_at(keys.version_key(pin))
            if stored_at is not None:
                kept.append(KeptVersion(pin, stored_at, pin == in_force))
        return sorted(kept, key=lambda each: (each.pin.version, each.stored_at), reverse=True)

    async def version(self, name: str, version: int) -> Policy:
        """Return one kept version.

        Raises:
            UnknownPolicy: there is none of this number.
        """
        bucket = await self._bucket()
        for pin in await self._pins(name):
            if pin.version == version:
                entry = await self._entry(bucket, keys.version_key(pin))
                if entry is not None:
                    return parse_json(entry.value or b"")
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
            MessagingUnavailable, ServerRefusal: it was not stored.
        """
        for _ in range(TRIES):
            bucket = await self._bucket()
            entry = await self._entry(bucket, keys.live_key(policy.name))
            present = parse_json(entry.value or b"") if entry is not None else base
            if expected_version is not None and expected_version != (present.version if present is not None else 0):
                raise PolicyConflict(field="expected_version")
            if present is not None and same_but_for_the_version(present, policy):
                return Applied(present, changed=False)
            numbers = [pin.version for pin in await self._pins(policy.name)]
            version = 1 + max([*numbers, present.version if present is not None else 0])
            numbered = policy.model_copy(update={"version": version})
            if await self._put(bucket, numbered, entry):
                before = f"version {present.version}" if present is not None else "nothing"
                await self._record(actor, "policies.apply", policy.name, f"version {version} after {before}")
                return Applied(numbered, changed=True)
            await asyncio.sleep(0)
        raise PolicyConflict

    async def roll_back(self, name: str, actor: str, *, to: int | None = None, base: Policy | None = None) -> Applied:
        """Put an earlier version into force again, under the next version number.

        Args:
            name: of the policy.
            actor: who does it.
            to: the version to go back to; by default the one before the one in force, a file's included.
            base: the file's policy of this name.

        Raises:
            UnknownPolicy: there is no such version.
        """
        present = await self.applied(name) or base
        if present is None:
            raise UnknownPolicy(f"there is no policy {name}", field="name")
        if to is None:
            to = await self._before(name, present)
        earlier = await self.version(name, to)
        return await self.apply(earlier, actor, base=base, expected_version=present.version)

    async def remove(self, name: str, actor: str, *, base: Policy | None = None) -> None:
        """Take what is applied away, so that the file's policy holds again; without a file the policy is gone.

        Raises:
            UnknownPolicy: nothing is applied under this name.
            PolicyConflict: the policy has no file and is the default, or is tried beside another.
        """
        bucket = await self._bucket()
        entry = await self._entry(bucket, keys.live_key(name))
        if entry is None:
            raise UnknownPolicy(f"nothing is applied as {name}", field="name")
        chosen = [change for change in await self.changes() if change.kind != "policy"] if base is None else []
        for change in chosen:
            if change.value == name.encode():
                raise PolicyConflict(f"{name} is chosen as the {change.label}; choose another first")
        await self._delete(bucket, entry)
        await self._record(actor, "policies.remove", name, "")
        if any(change.kind == "shadow" and change.name == name for change in chosen):
            await self.choose_shadow(name, None, actor)  # Nothing is left that another could be tried beside.

    async def choose_default(self, name: str | None, actor: str) -> None:
        """Let requests that name no policy be judged by this one; None goes back to the setting."""
        await self._choose(keys.DEFAULT, name)
        await self._record(actor, "policies.default", name or "", "" if name else "back to the setting")

    async def choose_shadow(self, beside: str, name: str | None, actor: str) -> None:
        """Try a policy beside another; None ends it."""
        if name == beside:
            raise InvalidRequest("must be another policy than the one it is tried beside", field="shadow")
        await self._choose(keys.shadow_key(beside), name)
        await self._record(actor, "policies.shadow", beside, f"tries {name}" if name else "ended")

    async def _before(self, name: str, present: Policy) -> int:
        """Return the number of the last version whose content differs from the present one."""
        for kept in await self.versions(name):
            if kept.pin.version < present.version:
                earlier = await self.version(name, kept.pin.version)
                if not same_but_for_the_version(earlier, present):
                    return kept.pin.version
        raise UnknownPolicy(f"no version of {name} before {present.version} is kept", field="version")

    async def _put(self, bucket: KeyValue, policy: Policy, entry: KeyValue.Entry | None) -> bool:
        """Keep the version, then put it into force; False when somebody else was faster."""
        document = canonical_json(policy)
        try:
            # First the version: who is pinned to it finds it. Another's of the same number has another fingerprint.
            await bucket.put(keys.version_key(pin_of(policy)), document)
            if entry is None:
                await bucket.create(keys.live_key(policy.name), document)
            else:
                await bucket.update(keys.live_key(policy.name), document, last=entry.revision)
        except KeyWrongLastSequenceError:
            return False
        except (NatsError, TimeoutError) as error:
            raise _unstored(error) from error
        return True

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
        except (BucketNotFoundError, NotFoundError):
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
            return (await self._jetstream.get_last_msg(keys.STREAM, f"{keys.SUBJECT_PREFIX}{key}")).time
        except NotFoundError:
            return None
        except (NatsError, TimeoutError) as error:
            raise _unstored(error) from error

    async def _pins(self, name: str) -> list[PolicyPin]:
        found = [keys.pin_of_key(key) for key in await self._keys(f"version.{name}.")]
        return [pin for pin in found if pin is not None]


def _unstored(error: Exception) -> MessagingUnavailable | ServerRefusal:
    if isinstance(error, APIError) and error.description:
        return ServerRefusal(error.description)
    return MessagingUnavailable(f"no answer from the message server: {type(error).__name__}")
