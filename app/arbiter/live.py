"""The policies in force in this process: those of the files, and over them what was applied to the running service."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from app.arbiter.book import PolicyBook
from app.arbiter.documents import parse_json, pin_of
from app.arbiter.policy import Policy
from app.arbiter.shadow import why_not_beside
from app.contracts import POLICY_NAME_PATTERN, GuardedText, GuardRequest, Mode, PolicyPin
from app.errors import ConfigurationError, InvalidRequest, PolicyRefused, PolicyUnavailable, VigilError
from app.pinned import DetectionRules, ScanRules
from app.telemetry import metrics

logger: Final = logging.getLogger("vigil.policies")

KEPT_VERSIONS: Final = 256
"""Versions held in memory for requests that are under way; older ones are read from the bucket."""
NAME: Final = re.compile(POLICY_NAME_PATTERN, re.ASCII)
ChangeKind = Literal["policy", "default", "shadow"]
DEFAULT: Final[tuple[ChangeKind, str]] = ("default", "")


@dataclass(frozen=True, slots=True)
class Change:
    """One change of what is in force, as the bucket tells it."""

    kind: ChangeKind
    name: str
    """The policy; for `shadow` the one that another is tried beside; empty for `default`."""
    value: bytes | None
    """The document of a policy, or the name of one; None when it was taken away."""

    @property
    def key(self) -> tuple[ChangeKind, str]:
        return self.kind, self.name

    @property
    def label(self) -> str:
        """What it is called in refusals."""
        return {"policy": self.name, "default": "default", "shadow": f"shadow of {self.name}"}[self.kind]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something that was applied is not in force here."""

    name: str
    """Of the policy; or `default`, or `shadow of` and a policy."""
    reason: str


class Archive(Protocol):
    """Where every version of every policy is kept."""

    async def version(self, pin: PolicyPin) -> bytes | None:
        """Return the document of a version."""
        ...

    async def applied(self, name: str) -> bytes | None:
        """Return the document that is applied under a name at present."""
        ...


@dataclass(slots=True)
class _Overlay:
    """What was applied to the running service."""

    policies: dict[str, Policy] = field(default_factory=dict)
    choices: dict[tuple[ChangeKind, str], str] = field(default_factory=dict)
    """The default policy, and those that are tried beside others."""
    documents: dict[tuple[ChangeKind, str], bytes] = field(default_factory=dict)
    """All of that as the bucket holds it."""
    refusals: dict[tuple[ChangeKind, str], Refusal] = field(default_factory=dict)
    """By the key of the change, since a policy may be called `default`."""
    unfit: dict[tuple[ChangeKind, str], Refusal] = field(default_factory=dict)
    """Those of them that end by themselves, once a policy fits the choice."""


class LivePolicies:
    """Which policy decides, changed between two requests and never within one.

    All changes happen on the event loop, each in one go: whoever reads sees the state before or after it.
    """

    def __init__(self, files: PolicyBook, check: Callable[[Policy], None] = lambda _: None) -> None:
        """Take the policies of the files.

        Args:
            files: what holds where nothing was applied.
            check: raises PolicyRefused for a policy that this process cannot carry out.

        Raises:
            ConfigurationError: one of the files' policies cannot be carried out; the message names it and the field.
        """
        for policy in files.policies.values():
            try:
                check(policy)
            except PolicyRefused as refused:
                raise ConfigurationError(f"policy {policy.name}: {refused.message}", field=refused.field) from None
        self._files = files
        self._check = check
        self._overlay = _Overlay()
        self._versions: dict[str, Policy] = {}
        self._rules: dict[str, DetectionRules] = {}
        self._told: set[tuple[str, str]] = set()
        self._taken = 0
        """How often something that was applied was put into force, or taken away."""
        self.archive: Archive | None = None
        """Set once the message server is reached."""
        self._rebuild()

    @property
    def policies(self) -> Mapping[str, Policy]:
        """Every policy by its name: an applied one takes the place of the file's."""
        return {**self._files.policies, **self._overlay.policies}

    @property
    def names(self) -> list[str]:
        return sorted(self._rules)

    @property
    def default(self) -> str:
        """The policy of requests that name none."""
        chosen = self._overlay.choices.get(DEFAULT)
        return chosen if chosen in self._rules else self._files.default

    @property
    def default_of_the_setting(self) -> str:
        """What is the default where none was chosen."""
        return self._files.default

    @property
    def shadows(self) -> dict[str, str]:
        """The policy that is tried, by the one that it is tried beside."""
        chosen, held = self._overlay.choices.items(), self.policies
        return {
            beside: name
            for (kind, beside), name in chosen
            if kind == "shadow" and name in held and beside in held and name != beside
            if why_not_beside(held[beside], held[name]) is None
        }

    @property
    def refusals(self) -> list[Refusal]:
        """What was applied and is not in force here, because it cannot be."""
        return list(self._overlay.refusals.values())

    def check(self, policy: Policy) -> None:
        """Check that this process can carry a policy out.

        Raises:
            PolicyRefused: it cannot; names the field.
        """
        self._check(policy)

    def is_applied(self, name: str) -> bool:
        """Whether a policy was applied to the running service, rather than read from a file."""
        return name in self._overlay.policies

    def file(self, name: str) -> Policy | None:
        """Return the file's policy of this name."""
        return self._files.policies.get(name)

    def get(self, name: str | None = None) -> Policy:
        """Return the named policy as it is in force, or the default one for None.

        Raises:
            InvalidRequest: there is none; the message lists the names that exist.
        """
        return self._versions[self._rules_of(name).pin.fingerprint]

    async def pin(self, request: GuardRequest) -> DetectionRules:
        """Return the rules in force of the policy that a request names; the request is judged by them to its end.

        Raises:
            InvalidRequest: no policy has this name.
            MessagingUnavailable: the name is not known here, and whether it was just applied cannot be asked.
        """
        name = request.policy
        while name is not None and name not in self._rules and self.archive is not None:
            taken = self._taken
            document = await self.archive.applied(name)
            if document is None:
                break
            if self._taken == taken:
                self.take(Change("policy", name, document))
                break
            # Changes came meanwhile. The policy's removal may be one of them, and is not told again.
        return self._rules_of(name)

    async def judging(self, subject: GuardedText) -> Policy:
        """Return the version that a text is pinned to, or for a text without a pin the one in force.

        Raises:
            PolicyUnavailable: it is neither held here nor can it be read.
        """
        return self.get(subject.policy) if subject.pin is None else await self.version(subject.pin)

    async def scanning(self, subject: GuardedText) -> ScanRules:
        """Return what the scan for personal data needs of `judging`'s policy; a name that does not exist, which the
        arbiter refuses, is scanned for by the default."""
        known = subject.pin is not None or subject.policy is None or subject.policy in self._rules
        policy = await self.judging(subject) if known else self.get()
        fingerprint = subject.pin.fingerprint if subject.pin is not None else self._rules[policy.name].pin.fingerprint
        return ScanRules(fingerprint, policy.redaction, policy.allow_list.values)

    async def version(self, pin: PolicyPin) -> Policy:
        """Return one version of a policy.

        Raises:
            PolicyUnavailable: it is neither held here nor can it be read.
        """
        held = self._versions.get(pin.fingerprint)
        if held is not None:
            return held
        try:
            document = await self.archive.version(pin) if self.archive is not None else None
            if document is None:
                raise PolicyUnavailable
            policy = parse_json(document)
            self._check(policy)
        except PolicyUnavailable:
            raise
        except VigilError as error:
            raise PolicyUnavailable from error
        self._hold(pin.fingerprint, policy)
        return policy

    def take(self, change: Change) -> None:
        """Put one change into force; one that is bad is refused, named, and what was in force stays."""
        self._put(self._overlay, change)
        self._rebuild()

    def replay(self, changes: Iterable[Change]) -> list[Change]:
        """Put all that the bucket holds into force in one go.

        Args:
            changes: every value that it still has of every key, in order, those taken away included: where the last one
                is bad, the last good one holds.

        Returns:
            What was in force and of which the bucket knows nothing, as after it was deleted: it stays in force.
        """
        overlay, mentioned = _Overlay(), set()
        for change in changes:
            mentioned.add(change.key)
            self._put(overlay, change)
        lost = [Change(*key, value) for key, value in self._overlay.documents.items() if key not in mentioned]
        for change in lost:
            self._put(overlay, change)
        self._overlay = overlay
        self._rebuild()
        return lost

    def versions(self) -> list[tuple[PolicyPin, Policy]]:
        """Return what is in force, to be archived."""
        return [(rules.pin, self._versions[rules.pin.fingerprint]) for rules in self._rules.values()]

    def _put(self, overlay: _Overlay, change: Change) -> None:
        if change.value is None:
            overlay.documents.pop(change.key, None)
            overlay.choices.pop(change.key, None)
            if change.kind == "policy":
                overlay.policies.pop(change.name, None)
            overlay.refusals.pop(change.key, None)
            return
        try:
            if change.kind == "policy":
                overlay.policies[change.name] = self._acceptable(change, overlay)
            else:
                overlay.choices[change.key] = _chosen(change.value)
        except PolicyRefused as refused:
            self._refuse(overlay, change, refused.message)
        else:
            overlay.documents[change.key] = change.value
            overlay.refusals.pop(change.key, None)

    def _acceptable(self, change: Change, overlay: _Overlay) -> Policy:
        policy = parse_json(change.value or b"")
        if policy.name != change.name:
            raise PolicyRefused(f"name: must be {change.name}, as its key says", field="name")
        held = overlay.policies.get(change.name)
        if held is not None and policy != held and policy.version <= held.version:
            raise PolicyRefused(f"version: must be above {held.version}, which is in force", field="version")
        self._check(policy)
        return policy

    def _refuse(self, overlay: _Overlay, change: Change, reason: str) -> None:
        label = change.label
        overlay.refusals[change.key] = Refusal(label, reason)
        # A watch that begins anew tells it again.
        if (label, reason) not in self._told:
            self._told.add((label, reason))
            metrics.POLICY_REFUSALS.inc()
            logger.error("policy %s is refused, what was in force stays: %s", label, reason)

    def _rebuild(self) -> None:
        self._taken += 1
        held, before = self.policies, self._rules
        pins = {name: pin_of(policy) for name, policy in held.items()}
        self._rules = {name: _rules(policy, pins[name]) for name, policy in held.items()}
        for beside, shadow in self.shadows.items():
            self._rules[beside] = _rules(held[beside], pins[beside], held[shadow], pins[shadow])
        for (kind, name), chosen in self._overlay.choices.items():
            choice = Change(kind, name, None)
            unfit = why_not_beside(held[name], held[chosen]) if kind == "shadow" and {name, chosen} <= {*held} else None
            reason = unfit if chosen in held else f"there is no policy {chosen}"
            told = self._overlay.unfit.pop(choice.key, None)
            if reason is not None:
                self._refuse(self._overlay, choice, reason)
                self._overlay.unfit[choice.key] = self._overlay.refusals[choice.key]
            elif told is not None and self._overlay.refusals.get(choice.key) == told:
                del self._overlay.refusals[choice.key]
        for name, policy in held.items():
            self._hold(pins[name].fingerprint, policy)
            metrics.POLICY_VERSION.labels(name).set(policy.version)
        for name in {*before} - {*held}:
            metrics.POLICY_VERSION.labels(name).set(0)
        for name, rules in self._rules.items():
            if name not in before or before[name].pin != rules.pin:
                logger.info("policy %s is in force in version %d", name, rules.pin.version)

    def _hold(self, fingerprint: str, policy: Policy) -> None:
        self._versions.pop(fingerprint, None)
        self._versions[fingerprint] = policy
        in_force = {rules.pin.fingerprint for rules in self._rules.values()}
        for old in list(self._versions)[: max(len(self._versions) - KEPT_VERSIONS - len(in_force), 0)]:
            if old not in in_force:
                del self._versions[old]

    def _rules_of(self, name: str | None) -> DetectionRules:
        wanted = self.default if name is None else name
        rules = self._rules.get(wanted)
        if rules is None:
            # Who named none may have a key that does, and whose policy's file was taken away since.
            reason = f"There is no policy {wanted}, which the request or its key names: it must be one of "
            raise InvalidRequest(f"{reason}{', '.join(self.names)}.", field="policy")
        return rules


def _chosen(value: bytes) -> str:
    name = value.decode("ascii", "replace")
    if not NAME.fullmatch(name):
        raise PolicyRefused("is no name of a policy", field="policy")
    return name


def _rules(
    policy: Policy, pin: PolicyPin, shadow: Policy | None = None, shadow_pin: PolicyPin | None = None
) -> DetectionRules:
    return DetectionRules(
        pin=pin,
        mode=Mode(policy.mode),
        branches=policy.branches.on,
        allow=policy.allow_list,
        deny=policy.deny_list,
        shadow=shadow_pin,
        shadow_deny=shadow.deny_list if shadow is not None else (),
    )
