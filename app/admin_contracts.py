"""Messages and HTTP schemas of administration: policies that are in force, and the record of what was done."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, StringConstraints

from app.contracts import Integer, Message, PolicyName, UInt32

AuditAction = Annotated[str, StringConstraints(max_length=64, pattern=r"^[a-z0-9_]+(\.[a-z0-9_]+)*$")]
"""What was done, as `keys.create`: subject and verb."""


LONGEST_REMARK: Final = 2_000
OneLine = Annotated[str, AfterValidator(lambda text: " ".join(text.split())[:LONGEST_REMARK])]
"""White space of all kinds becomes single spaces, so that no record can look like two; cut where it is too long."""


class PolicySummary(Message):
    """One policy that is in force."""

    name: str
    version: UInt32
    origin: Literal["file", "applied"]
    """`applied` to the running service, in place of a file of this name."""
    default: bool
    """Whether it judges requests that name none."""
    shadow: str | None
    """The policy that is tried beside it."""
    description: str


class PolicyRefusal(Message):
    """Something that was applied and is not in force in the process that answers."""

    policy: str
    reason: str


class PolicyList(Message):
    policies: list[PolicySummary]
    refused: list[PolicyRefusal]


class PolicyVersion(Message):
    """One kept version of a policy, which can be gone back to."""

    version: UInt32
    fingerprint: str
    stored_at: datetime
    in_force: bool
    """Whether it is what is applied now; false for all of them where the file holds."""


class PolicyVersions(Message):
    versions: list[PolicyVersion]
    """The newest number first."""


class PolicyApplied(Message):
    """What became of a change."""

    name: str
    version: UInt32
    changed: bool
    """False when the same was in force already."""


class PolicyRollback(Message):
    """What `POST /admin/policies/{name}/rollback` accepts."""

    version: Annotated[Integer, Field(ge=0, le=2**32 - 1)] | None = None
    """The one to go back to; by default the one before the one in force."""


class PolicyChoice(Message):
    """What choosing a shadow accepts."""

    policy: PolicyName


class AuditEvent(Message):
    """One action of an administrator, as it is recorded; holds no secret and no text of a request."""

    actor: OneLine
    """Who did it: a key id, or `cli:<user>` for the command."""
    action: AuditAction
    target: OneLine = ""
    """What it was done to: a key id, the name of a policy."""
    detail: OneLine = ""
    """What a reader of the record should know beside that."""


class AuditEntry(AuditEvent):
    """An action as it lies in the record."""

    sequence: Annotated[int, Field(ge=1)]
    """Its number in the record, without gaps."""
    at: datetime
    """When the message server stored it (UTC)."""


class AuditPage(Message):
    """A part of the audit record, newest first."""

    entries: list[AuditEntry]
    next_cursor: str | None = None
    """What continues the list; None at its end."""
