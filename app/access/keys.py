"""API keys: their form, what is kept of them, and how one is checked.

A secret is 256 random bits, which nobody can guess, so a slow hash (for passwords, which people choose) would add only
load. HMAC-SHA-256 under a server-side pepper is right: whoever reads the bucket learns nothing that opens the door,
and whoever can write it cannot make a key, or widen one, because the whole record is sealed with the pepper too.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Final

from pydantic import AwareDatetime, ConfigDict, Field, StringConstraints

from app.access.limits import UNLIMITED, Limits
from app.access.principal import Principal, Scope
from app.contracts import DEFAULT_TENANT, Message, Number, PolicyName, TenantName
from app.errors import KeyRefused
from app.identity import now

PREFIX: Final = "vgk"
ID_BYTES: Final = 6
SECRET_BYTES: Final = 32
SALT_BYTES: Final = 16
TOKEN: Final = re.compile(
    rf"(?:{PREFIX}|vg_live|vg_test)_([0-9a-f]{{{2 * ID_BYTES}}})_([0-9a-f]{{{2 * SECRET_BYTES}}})", re.ASCII
)
"""`vgk_<id>_<secret>`: recognisable to people and to scanners that look for secrets where none should be. Vigil Guard
Enterprise's SDK takes none but those that begin with `vg_live_` or `vg_test_`: the same key may be written so."""

KeyName = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")]
Hexadecimal = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]+$")]
Scopes = Annotated[frozenset[Scope], Field(min_length=1)]
OF_UNNAMED: Final = (
    "The policy of requests that name none; without one the service's, or the first of `policies` where the service's "
    "is not among them."
)


LATER_FIELDS_KEPT: Final = ConfigDict(extra="allow")
"""For what the bucket holds, which replicas of two versions read during an update: the fields of a later one
are under the seal, and stay when this one changes a record. A new field is left out of a record that does not have it
(`exclude_if`): otherwise no seal of an earlier record would be right."""


class KeyRequest(Message):
    """What `POST /admin/keys` accepts: a key to be made."""

    name: KeyName = Field(description="What the key is for, for people.")
    scopes: Scopes = Field(default=frozenset({Scope.GUARD}), description="What its holder may do.")
    tenant: TenantName = Field(default=DEFAULT_TENANT, description="Whose requests and decisions it works on.")
    policy: PolicyName | None = Field(default=None, description=OF_UNNAMED)
    policies: list[PolicyName] = Field(
        default_factory=list, max_length=100, description="The only policies a request may name; empty: every one."
    )
    limits: Limits = UNLIMITED
    expires_at: AwareDatetime | None = Field(default=None, description="When it stops working; never when absent.")


class StoredSecret(Message):
    """What is kept of a secret."""

    model_config = LATER_FIELDS_KEPT

    salt: Hexadecimal
    digest: Hexadecimal
    """HMAC-SHA-256 under the pepper of salt, id and secret."""
    expires_at: AwareDatetime | None = None
    """When the secret before a rotation stops working."""


class StoredLimits(Limits):
    """The limits of a key as the bucket keeps them."""

    model_config = LATER_FIELDS_KEPT


class KeyRecord(Message):
    """One key as the bucket keeps it."""

    model_config = LATER_FIELDS_KEPT

    id: Annotated[str, StringConstraints(pattern=rf"^[0-9a-f]{{{2 * ID_BYTES}}}$")]
    name: KeyName
    tenant: TenantName
    scopes: Scopes
    policy: PolicyName | None
    policies: list[PolicyName]
    limits: StoredLimits
    created_at: AwareDatetime
    created_by: str
    expires_at: AwareDatetime | None
    revoked_at: AwareDatetime | None = None
    rotated_at: AwareDatetime | None = None
    secrets: Annotated[list[StoredSecret], Field(min_length=1, max_length=2)]
    """The present one first, then the one before while its grace lasts."""
    seal: str = ""
    """HMAC-SHA-256 under the pepper of all the rest."""

    def public(self) -> KeyDescription:
        shown = self.model_dump(exclude={"secrets", "seal"})
        previous = self.secrets[1].expires_at if len(self.secrets) > 1 else None
        return KeyDescription.model_validate({**shown, "previous_secret_until": previous}, extra="ignore")


class KeyDescription(Message):
    """A key as it is listed: everything but its secrets."""

    id: str
    name: str
    tenant: str
    scopes: frozenset[Scope]
    policy: str | None
    policies: list[str]
    limits: Limits
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None
    rotated_at: datetime | None
    previous_secret_until: datetime | None
    """Until when the secret before the last rotation works too."""

    def state(self, at: datetime) -> str:
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= at else "active"


class KeyList(Message):
    keys: list[KeyDescription]


class IssuedKey(Message):
    """A new secret, shown this once."""

    key: str = Field(repr=False, description="What the holder sends; it is not kept and cannot be shown again.")
    description: KeyDescription


def _without_default(schema: dict[str, Any]) -> None:
    """What is absent stays as it is, whatever stands in its place here."""
    schema.pop("default", None)


class KeyChange(Message):
    """What `PATCH /admin/keys/{key_id}` accepts: what is to be changed. What is absent stays; null takes away."""

    name: KeyName = Field(default="", description="What the key is for.", json_schema_extra=_without_default)
    policy: PolicyName | None = Field(
        default=None,
        description=f"{OF_UNNAMED} Null takes it away.",
        json_schema_extra=_without_default,
    )
    policies: list[PolicyName] = Field(
        default_factory=list, max_length=100, description="The only policies a request may name; empty: every one."
    )
    limits: Limits = Field(
        default=UNLIMITED, description="Limits to change; null takes one away.", json_schema_extra=_without_default
    )
    expires_at: AwareDatetime | None = Field(
        default=None, description="When it stops working; null for never.", json_schema_extra=_without_default
    )

    def changes(self) -> dict[str, object]:
        """Return what is to be changed, by the field of the record (`limits.rate_per_s`)."""
        told = self.model_dump(exclude_unset=True)
        limits = told.pop("limits", {})
        return told | {f"limits.{name}": value for name, value in limits.items()}


class RotationRequest(Message):
    """What `POST /admin/keys/{key_id}/rotate` accepts."""

    grace_s: Annotated[Number, Field(ge=0, le=30 * 86_400)] | None = Field(
        default=None, description="Seconds the old secret still works; the configured grace when absent."
    )


class Peppers:
    """The server-side secrets of digests and seals: the first one makes new ones, all are accepted."""

    def __init__(self, values: Sequence[bytes]) -> None:
        self.values = tuple(values)

    def digest(self, salt: str, key_id: str, secret: str) -> str:
        return _digest(self.values[0], salt, key_id, secret)

    def matches(self, stored: StoredSecret, key_id: str, secret: str) -> bool:
        """Compare in constant time, whichever pepper it was."""
        found = False
        for pepper in self.values:
            found |= hmac.compare_digest(_digest(pepper, stored.salt, key_id, secret), stored.digest)
        return found

    def sealed(self, record: KeyRecord) -> KeyRecord:
        return record.model_copy(update={"seal": _seal(self.values[0], record)})

    def is_authentic(self, record: KeyRecord) -> bool:
        return any(hmac.compare_digest(_seal(pepper, record), record.seal) for pepper in self.values)


def issue(request: KeyRequest, peppers: Peppers, *, created_by: str) -> tuple[str, KeyRecord]:
    """Make a key; the token is returned this once and only its digest stays."""
    key_id = secrets.token_hex(ID_BYTES)
    token, stored = _new_secret(key_id, peppers)
    record = KeyRecord(
        id=key_id,
        name=request.name,
        tenant=request.tenant,
        scopes=request.scopes,
        policy=request.policy,
        policies=request.policies,
        limits=StoredLimits(**request.limits.model_dump()),
        created_at=now(),
        created_by=created_by,
        expires_at=request.expires_at,
        secrets=[stored],
    )
    return token, peppers.sealed(record)


def rotate(record: KeyRecord, peppers: Peppers, *, grace: timedelta) -> tuple[str, KeyRecord]:
    """Give a key a new secret; the present one works on for the grace, the one before it no longer."""
    at = now()
    token, stored = _new_secret(record.id, peppers)
    kept = [record.secrets[0].model_copy(update={"expires_at": at + grace})] if grace else []
    return token, peppers.sealed(record.model_copy(update={"secrets": [stored, *kept], "rotated_at": at}))


def amend(record: KeyRecord, change: KeyChange, peppers: Peppers) -> KeyRecord:
    """Give a key other limits, policies, another name or end; its secret, tenant and scopes stay."""
    told = {name: getattr(change, name) for name in change.model_fields_set}
    if "limits" in told:
        kept = record.limits.model_dump(exclude_none=True)
        told["limits"] = StoredLimits(**{**kept, **change.limits.model_dump(exclude_unset=True)})
    return peppers.sealed(record.model_copy(update=told))


def revoke(record: KeyRecord, peppers: Peppers) -> KeyRecord:
    """End a key at once and for good; the record stays, so that its id keeps its meaning."""
    return record if record.revoked_at is not None else peppers.sealed(record.model_copy(update={"revoked_at": now()}))


class Keyring:
    """The keys of this process, ready to be checked against: one lookup and one or two digests."""

    def __init__(self, peppers: Peppers) -> None:
        self._peppers = peppers
        self._records: dict[str, tuple[KeyRecord, Principal]] = {}
        # Stands in for the record of an id that does not exist, so that it takes as long as one that does.
        self._decoy = StoredSecret(salt="0" * 2 * SALT_BYTES, digest="0" * 64)

    def __len__(self) -> int:
        return len(self._records)

    def replace(self, records: Iterable[KeyRecord]) -> None:
        """Take these keys in place of all."""
        self._records = {record.id: (record, principal_for(record)) for record in records}

    def put(self, record: KeyRecord) -> None:
        self._records[record.id] = (record, principal_for(record))

    def remove(self, key_id: str) -> None:
        self._records.pop(key_id, None)

    def limits_of(self, key_id: str) -> Limits | None:
        """Return the limits of a key; None when there is no such key."""
        found = self._records.get(key_id)
        return found[1].limits if found is not None else None

    def check(self, token: str) -> Principal:
        """Return whom a token stands for.

        Raises:
            KeyRefused: it is not a key of this service, or it was revoked or has expired; which of these is told only
                to who has the right secret.
        """
        parsed = TOKEN.fullmatch(token)
        if parsed is None:
            raise KeyRefused
        key_id, secret = parsed.groups()
        found = self._records.get(key_id)
        if found is None:
            self._peppers.matches(self._decoy, key_id, secret)
            raise KeyRefused
        record, principal = found
        stored = next((each for each in record.secrets if self._peppers.matches(each, key_id, secret)), None)
        if stored is None:
            raise KeyRefused
        if record.revoked_at is not None:
            raise KeyRefused("This key was revoked.")
        if record.expires_at is None and stored.expires_at is None:
            return principal
        at = now()
        if record.expires_at is not None and record.expires_at <= at:
            raise KeyRefused("This key has expired.")
        if stored.expires_at is not None and stored.expires_at <= at:
            raise KeyRefused("This key was rotated, and the time in which the old secret still worked is over.")
        return principal


def principal_for(record: KeyRecord) -> Principal:
    limits = Limits.model_validate(record.limits.model_dump(), extra="ignore")
    return Principal(
        key_id=record.id,
        tenant=record.tenant,
        scopes=record.scopes,
        policy=record.policy,
        policies=tuple(record.policies),
        # One object for all keys without limits, which `is` tells apart from others at no cost.
        limits=UNLIMITED if limits == UNLIMITED else limits,
    )


def _new_secret(key_id: str, peppers: Peppers) -> tuple[str, StoredSecret]:
    secret, salt = secrets.token_hex(SECRET_BYTES), secrets.token_hex(SALT_BYTES)
    token = f"{PREFIX}_{key_id}_{secret}"
    return token, StoredSecret(salt=salt, digest=peppers.digest(salt, key_id, secret))


def _digest(pepper: bytes, salt: str, key_id: str, secret: str) -> str:
    return hmac.digest(pepper, f"{salt}:{key_id}:{secret}".encode(), "sha256").hex()


def _seal(pepper: bytes, record: KeyRecord) -> str:
    # A prefix of its own: no digest of a secret can be taken for a seal.
    return hmac.new(pepper, b"seal:" + _canonical(record), hashlib.sha256).hexdigest()


def _canonical(record: KeyRecord) -> bytes:
    content = record.model_dump(mode="json", exclude={"seal"})
    content["scopes"] = sorted(content["scopes"])
    return json.dumps(content, sort_keys=True).encode()
