"""Sealed maps: what a redaction's placeholders stand for, encrypted for this service alone and kept by the caller.

A sealed map is `v2.` and, in base64url without padding, 16 random bytes and the ciphertext of AES-256-GCM. Key and
nonce of each map are derived from a secret of the service and those random bytes (HKDF-SHA-256, RFC 5869), so that one
secret seals any number of maps. Inside are the request id and the time when the map expires: neither can be exchanged.
The tenant is associated with the ciphertext: a map opens for the tenant that it was sealed for, and for no other.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from multiprocessing import current_process
from typing import Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from app.errors import RestoreMapRefused
from app.identity import now
from app.pii.redaction import Placeholder, Redaction

VERSION: Final = "v2."
UNBOUND: Final = "v1."
"""What maps began with before they were bound to a tenant. Whoever has one opens it, as then, until it expires."""
SALT_BYTES: Final = 16
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
CONTEXT: Final = b"vigil-guard restore map v1"


@dataclass(frozen=True, slots=True)
class RestoreMap:
    """An opened map."""

    request_id: UUID
    placeholders: tuple[Placeholder, ...]
    backslash_is_text: bool
    expires_at: int
    """Seconds since 1970 (UTC)."""


def process_key() -> bytes:
    """Return a random secret of this process, the same in all worker processes that one parent started.

    multiprocessing draws it when the parent starts and hands it down to every child; `uvicorn --workers` starts its
    workers that way.
    """
    return bytes(current_process().authkey)


@dataclass(frozen=True, slots=True)
class MapSealer:
    keys: tuple[bytes, ...] = field(repr=False)
    """Secrets of the service, at least one: the first one seals, all open."""
    lifetime: timedelta
    clock: Callable[[], datetime] = now

    def seal(
        self, request_id: UUID, redaction: Redaction, tenant: str, earlier: RestoreMap | None = None
    ) -> str | None:
        """Return the sealed map of a redaction, for one tenant; None when it has no placeholder.

        Args:
            request_id: of the redacted text, as its caller calls it.
            redaction: what was made of that.
            tenant: for whom the map opens.
            earlier: what the redaction knew. The new map holds all of it, so that either map fills a placeholder with
                the same value, and expires no later: nobody keeps values by having them sealed again.
        """
        expires_at = int((self.clock() + self.lifetime).timestamp())
        backslash_is_text = redaction.backslash_is_text
        placeholders = {each.name: each for each in redaction.placeholders}
        if earlier is not None:
            expires_at = min(expires_at, earlier.expires_at)
            backslash_is_text |= earlier.backslash_is_text
            placeholders = {each.name: each for each in earlier.placeholders} | placeholders
        if not placeholders:
            return None
        content = [
            request_id.hex,
            expires_at,
            backslash_is_text,
            [[each.entity, each.number, each.spellings, each.order] for each in placeholders.values()],
        ]
        written = zlib.compress(json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode())
        salt = os.urandom(SALT_BYTES)
        key, nonce = _derive(self.keys[0], salt)
        sealed = salt + AESGCM(key).encrypt(nonce, written, _bound_to(tenant))
        return VERSION + _encoded(sealed)

    def open(self, sealed: str, tenant: str, at: datetime | None = None) -> RestoreMap:
        """Return what a map that was sealed for a tenant holds.

        Args:
            sealed: the map.
            tenant: whose it is.
            at: when it must not have expired; now where None.

        Raises:
            RestoreMapRefused: it is no map, was changed, was sealed with another secret or for another tenant, or has
                expired; which of these is not told.
        """
        request_id, expires_at, backslash_is_text, placeholders = json.loads(
            zlib.decompress(self._decrypt(sealed, tenant))
        )
        if (at or self.clock()).timestamp() >= expires_at:
            raise RestoreMapRefused
        return RestoreMap(
            request_id=UUID(request_id),
            placeholders=tuple(
                Placeholder(entity, number, tuple(spellings), tuple(order))
                for entity, number, spellings, order in placeholders
            ),
            backslash_is_text=backslash_is_text,
            expires_at=expires_at,
        )

    def _decrypt(self, sealed: str, tenant: str) -> bytes:
        version, encoded = sealed[: len(VERSION)], sealed[len(VERSION) :]
        if version not in (VERSION, UNBOUND):
            raise RestoreMapRefused
        associated = _bound_to(tenant) if version == VERSION else CONTEXT
        try:
            content = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise RestoreMapRefused from None
        if _encoded(content) != encoded:
            raise RestoreMapRefused  # The same bytes written otherwise: nobody but a forger does that.
        salt, ciphertext = content[:SALT_BYTES], content[SALT_BYTES:]
        for secret in self.keys:
            key, nonce = _derive(secret, salt)
            try:
                return AESGCM(key).decrypt(nonce, ciphertext, associated)
            except (InvalidTag, ValueError):
                continue
        raise RestoreMapRefused


def _bound_to(tenant: str) -> bytes:
    """Return the associated data of a tenant's maps, which is never that of maps without one."""
    return CONTEXT + b"\0" + tenant.encode()


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _derive(secret: bytes, salt: bytes) -> tuple[bytes, bytes]:
    derived = HKDF(SHA256(), KEY_BYTES + NONCE_BYTES, salt=salt, info=CONTEXT).derive(secret)
    return derived[:KEY_BYTES], derived[KEY_BYTES:]
