"""What administrators ask of a running process about policies: what is in force, and changes, which are checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.admin_contracts import PolicyApplied, PolicyList, PolicyRefusal, PolicySummary, PolicyVersion, PolicyVersions
from app.arbiter.documents import parse_json
from app.arbiter.live import LivePolicies
from app.arbiter.policy import Policy
from app.arbiter.shadow import why_not_beside
from app.errors import InvalidRequest, PolicyConflict, PolicyRefused, UnknownPolicy
from app.messaging.policy_store import Applied, PolicyStore


@dataclass(frozen=True, slots=True)
class PolicyDesk:
    live: LivePolicies
    store: PolicyStore

    def list(self) -> PolicyList:
        shadows = self.live.shadows
        return PolicyList(
            policies=[
                PolicySummary(
                    name=name,
                    version=policy.version,
                    origin="applied" if self.live.is_applied(name) else "file",
                    default=name == self.live.default,
                    shadow=shadows.get(name),
                    description=policy.description,
                )
                for name, policy in sorted(self.live.policies.items())
            ],
            refused=[PolicyRefusal(policy=each.name, reason=each.reason) for each in self.live.refusals],
        )

    async def names(self) -> Sequence[str]:
        """Return the names of all policies, those that were applied a moment ago elsewhere among them."""
        return await self.store.names(self.live.names)

    async def show(self, name: str, version: int | None = None) -> Policy:
        """Return a policy as it is in force here, or one of its kept versions.

        Raises:
            UnknownPolicy: there is none.
        """
        return self._known(name) if version is None else await self.store.version(name, version)

    async def versions(self, name: str) -> PolicyVersions:
        """Return the kept versions of a policy.

        Raises:
            UnknownPolicy: there are none, and no policy of this name.
        """
        kept = await self.store.versions(name)
        if not kept:
            self._known(name)
        return PolicyVersions(
            versions=[
                PolicyVersion(
                    version=each.pin.version,
                    fingerprint=each.pin.fingerprint,
                    stored_at=each.stored_at,
                    in_force=each.in_force,
                )
                for each in kept
            ]
        )

    async def apply(
        self, name: str, document: bytes, actor: str, *, expected_version: int | None, check_only: bool
    ) -> PolicyApplied:
        """Put a document, as JSON, into force on all processes.

        Raises:
            PolicyRefused: it does not fit, or this process cannot carry it out; names each field.
            PolicyConflict: another version than the expected one is in force.
        """
        policy = parse_json(document, version=1)
        if policy.name != name:
            raise PolicyRefused("name: must be the name in the address", field="name")
        self.live.check(policy)
        if check_only:
            return PolicyApplied(name=name, version=0, changed=False)
        base = self.live.file(name)
        return _told(await self.store.apply(policy, actor, base=base, expected_version=expected_version))

    async def roll_back(self, name: str, actor: str, *, to: int | None) -> PolicyApplied:
        """Put an earlier version into force on all processes, under the next number.

        Raises:
            UnknownPolicy: there is no such version.
            PolicyRefused: it cannot be read, or this process cannot carry it out.
        """
        base = self.live.file(name)
        return _told(await self.store.roll_back(name, actor, to=to, base=base, check=self.live.check))

    async def remove(self, name: str, actor: str) -> None:
        await self.store.remove(name, actor, base=self.live.file(name))

    async def choose_default(self, name: str, actor: str) -> None:
        self._known(name)
        await self.store.choose_default(name, actor)

    async def end_default(self, name: str, actor: str) -> None:
        """Go back to the setting's default in place of a chosen one.

        Raises:
            UnknownPolicy: there is no policy of this name.
            PolicyConflict: another one is the default.
        """
        try:
            await self.store.end_default(name, actor, setting=self.live.default_of_the_setting)
        except PolicyConflict:
            self._known(name)
            raise

    async def choose_shadow(self, beside: str, name: str | None, actor: str) -> None:
        """Try a policy beside another; None ends it, also beside one that is gone with its file: as long as it is
        chosen, what is tried cannot be taken away.

        Raises:
            UnknownPolicy: there is no policy of the name `beside`.
            InvalidRequest: there is none of the name `name`, it is the same, or it judges by more branches.
        """
        if name is not None or await self.store.shadow(beside) is None:
            self._known(beside)
        if name is not None and name not in self.live.policies:
            raise InvalidRequest(f"must be one of {', '.join(self.live.names)}", field="policy")
        unfit = why_not_beside(self._known(beside), self._known(name)) if name is not None else None
        if unfit is not None:
            raise InvalidRequest(unfit, field="policy")
        await self.store.choose_shadow(beside, name, actor)

    def _known(self, name: str) -> Policy:
        policy = self.live.policies.get(name)
        if policy is None:
            raise UnknownPolicy(f"the policies are {', '.join(self.live.names)}", field="name")
        return policy


def _told(applied: Applied) -> PolicyApplied:
    return PolicyApplied(name=applied.policy.name, version=applied.policy.version, changed=applied.changed)
