"""Signing in with an NKey: a seed signs the server's nonce, and a credentials file adds the user's JWT.

Why here: the package that the client would use for it is published without wheels, and the lock takes wheels only.
Encoding: NATS ADR-14 (base32 of prefix, key and CRC-16/XMODEM, low byte first); signatures are Ed25519 (RFC 8032).
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from app.errors import ConfigurationError

SEED_PREFIX: Final = 18 << 3
"""First five bits of a seed: base32 shows `S`."""
USER_PREFIX: Final = 20 << 3
"""First five bits of a user's public key, base32 shows `U`; in a seed they follow the seed's own."""
ENCODED_SEED: Final = re.compile(r"[A-Z2-7]{58}")
JWT: Final = re.compile(r"-{3,}BEGIN NATS USER JWT-{3,}\s+([\w=.-]+)\s+-{3,}END")
JWT_SEED: Final = re.compile(r"-{3,}BEGIN USER NKEY SEED-{3,}\s+([A-Z2-7]+)\s+-{3,}END")


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A user's key pair."""

    private: Ed25519PrivateKey = field(repr=False)
    public: str
    """As the server's configuration names the user: `U...`."""

    @classmethod
    def from_seed(cls, seed: str) -> SigningKey:
        """Read a seed as `nk -gen user` prints it: `SU` and 56 more characters.

        Raises:
            ConfigurationError: it is none, or the checksum is wrong.
        """
        if not ENCODED_SEED.fullmatch(seed):
            raise ConfigurationError("a seed has 58 characters of A to Z and 2 to 7")
        raw = base64.b32decode(seed + "=" * (-len(seed) % 8))
        body, checksum = raw[:-2], int.from_bytes(raw[-2:], "little")
        if binascii.crc_hqx(body, 0) != checksum:
            raise ConfigurationError("the checksum is wrong")
        kind = (body[0] & 0b111) << 5 | body[1] >> 3
        if body[0] & 0b1111_1000 != SEED_PREFIX or kind != USER_PREFIX:
            raise ConfigurationError("it is not the seed of a user")
        private = Ed25519PrivateKey.from_private_bytes(body[2:])
        key = bytes([USER_PREFIX]) + private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return cls(private, _encoded(key))

    def sign(self, nonce: str) -> bytes:
        """Return the signature of the server's nonce as the CONNECT message carries it."""
        return base64.urlsafe_b64encode(self.private.sign(nonce.encode())).rstrip(b"=")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a `.creds` file holds."""

    jwt: str = field(repr=False)
    key: SigningKey

    @classmethod
    def parse(cls, text: str) -> Credentials:
        """Read the text of a credentials file.

        Raises:
            ConfigurationError: it lacks the JWT or a usable seed.
        """
        jwt, seed = JWT.search(text), JWT_SEED.search(text)
        if jwt is None or seed is None:
            raise ConfigurationError("it holds no user JWT with its seed")
        return cls(jwt[1], SigningKey.from_seed(seed[1]))


def _encoded(key: bytes) -> str:
    checked = key + binascii.crc_hqx(key, 0).to_bytes(2, "little")
    return base64.b32encode(checked).decode().rstrip("=")
