"""Request ids of tenants: each tenant chooses its own, and none of them meets another's."""

from __future__ import annotations

import hashlib
from typing import Final
from uuid import UUID

from app.contracts import DEFAULT_TENANT

SCOPED_VERSION: Final = 8
"""Ids made here are UUIDs of version 8 (RFC 9562: custom), which tells them from those of callers."""


def kept_id(tenant: str, request_id: UUID) -> UUID:
    """Return the id under which a request with an id of the caller's own is kept.

    The default tenant's ids stand for themselves, except those that look as if they were made here: so no caller can
    name a request of another tenant, whatever id it sends.
    """
    if tenant == DEFAULT_TENANT and request_id.version != SCOPED_VERSION:
        return request_id
    digest = hashlib.sha256(b"vigil-request\0" + tenant.encode() + b"\0" + request_id.bytes).digest()
    value = int.from_bytes(digest[:16])
    value = value & ~(0xF << 76) | SCOPED_VERSION << 76
    return UUID(int=value & ~(0x3 << 62) | 0x2 << 62)


def is_same_request(tenant: str, one: UUID, other: UUID) -> bool:
    """Whether two ids are of one request of a tenant: the same, or the caller's own and that under which it is kept."""
    return one == other or kept_id(tenant, one) == other or one == kept_id(tenant, other)
