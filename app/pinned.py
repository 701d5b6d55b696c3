"""What a request is pinned to: the parts of one version of a policy that detection and the personal-data scan need.

The first stage pins a request to the version that is in force there, and every later stage reads that version, whatever
has been applied since: so no answer mixes two.
"""

from __future__ import annotations

from dataclasses import dataclass

from app.contracts import BranchName, GuardedText, GuardRequest, Mode, PolicyPin
from app.identity import text_digest
from app.lists import AllowList, DenyRule
from app.redaction import RedactionTable


@dataclass(frozen=True, slots=True)
class DetectionRules:
    pin: PolicyPin
    mode: Mode
    """Of requests that name none."""
    branches: frozenset[BranchName]
    """Which branches judge."""
    allow: AllowList
    deny: tuple[DenyRule, ...]
    shadow: PolicyPin | None = None
    """The policy that is tried beside this one."""
    shadow_deny: tuple[DenyRule, ...] = ()

    def mode_of(self, request: GuardRequest) -> Mode:
        return request.mode if "mode" in request.model_fields_set else self.mode

    def subject_of(self, request: GuardRequest, hash_key: bytes) -> GuardedText:
        """Return what later stages may know of a text or a chat, and which versions judge it."""
        return GuardedText(
            digest=text_digest(request.identity, hash_key),
            length=len(request.whole_text),
            mode=self.mode_of(request),
            source=request.origin,
            policy=request.policy,
            pin=self.pin,
            shadow=self.shadow,
            dry_run=request.dry_run,
            show_shadow=request.shadow,
            metadata=request.metadata,
        )

    @property
    def has_lists(self) -> bool:
        """Whether there is a phrase to look for."""
        return bool(self.deny or self.shadow_deny or self.allow.texts or self.allow.phrases)


@dataclass(frozen=True, slots=True)
class ScanRules:
    fingerprint: str
    """Of the policy's version."""
    table: RedactionTable
    never_personal: tuple[str, ...]
    """Values that are never personal data."""
