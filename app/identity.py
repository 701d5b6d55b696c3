"""One clock, one id, one digest: where times, request ids and text digests come from."""

from __future__ import annotations

import hashlib
import hmac
import os
import time
from datetime import UTC, datetime
from uuid import UUID


def now() -> datetime:
    return datetime.now(UTC)


def new_request_id() -> UUID:
    """Return a UUID version 7 (RFC 9562): ordered by time, so that stored rows of one period lie together."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds & (2**48 - 1)) << 80 | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return UUID(int=value)


def text_digest(text: str, key: bytes = b"") -> str:
    """Return the lower-case hex SHA-256 of the UTF-8 text, or its HMAC-SHA-256 when a key is given."""
    encoded = text.encode("utf-8", "surrogatepass")
    if key:
        return hmac.new(key, encoded, hashlib.sha256).hexdigest()
    return hashlib.sha256(encoded).hexdigest()


def fingerprint(salt: str, value: str) -> str:
    """Return what stands for a value that must not be kept: lower-case hex SHA-256 of the salt's bytes and the value.

    Args:
        salt: hexadecimal digits.
        value: a request id, key id, tenant or text digest. Whoever has the salt can tell whether a value is the one.
    """
    return hashlib.sha256(bytes.fromhex(salt) + value.encode("utf-8", "surrogatepass")).hexdigest()
