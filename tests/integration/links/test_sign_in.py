"""Every way to sign in to a real nats-server, by the service and by the command; and none without the right secret."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from pydantic import SecretStr

from app.errors import ConfigurationError, MessagingUnavailable
from app.messaging.connection import connect
from app.settings import NatsSettings, Settings
from tests.integration.links.conftest import Servers, connecting, refusal

pytestmark = pytest.mark.integration

OPERATOR, ACCOUNT, USER = 14 << 3, 0, 20 << 3
"""Prefixes of public keys (NATS ADR-14)."""
REFUSED = r"(?i)authorization violation|wrong or missing credentials"
UNLIMITED = dict.fromkeys(("subs", "data", "payload"), -1)
ACCOUNT_LIMITS = UNLIMITED | dict.fromkeys(("imports", "exports", "conn", "leaf"), -1) | {"wildcards": True}
JETSTREAM_LIMITS = ACCOUNT_LIMITS | dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1)


@dataclass(frozen=True)
class Identity:
    """A key pair of an operator, an account or a user, written independently of the code under test."""

    kind: int
    private: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    @property
    def public(self) -> str:
        return encoded(bytes([self.kind]) + self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))

    @property
    def seed(self) -> str:
        raw = self.private.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        return encoded(bytes([(18 << 3) | (self.kind >> 5), (self.kind & 31) << 3]) + raw)

    def vouch(self, subject: Identity, **claims: Any) -> str:
        """Return a JWT that this identity signs for another."""
        body = {"jti": subject.public, "iat": 1, "iss": self.public, "sub": subject.public, "name": "test"}
        parts = [{"typ": "JWT", "alg": "ed25519-nkey"}, body | {"nats": claims | {"version": 2}}]
        signed = ".".join(urlsafe(json.dumps(part).encode()) for part in parts)
        return f"{signed}.{urlsafe(self.private.sign(signed.encode()))}"


def encoded(body: bytes) -> str:
    return base64.b32encode(body + binascii.crc_hqx(body, 0).to_bytes(2, "little")).decode().rstrip("=")


def urlsafe(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def mistyped(seed: str) -> str:
    return seed[:20] + ("B" if seed[20] == "A" else "A") + seed[21:]


@dataclass(frozen=True)
class Way:
    """A way to sign in: the server's side, the right settings, and wrong ones."""

    server: str
    right: dict[str, Any]
    wrong: dict[str, Any]


def by_password(_: Path) -> Way:
    return Way(
        "authorization { user: vigil, password: kappa-omega }",
        {"user": "vigil", "password": SecretStr("kappa-omega")},
        {"user": "vigil", "password": SecretStr("kappa")},
    )


def by_token(_: Path) -> Way:
    return Way(
        "authorization { token: kappa-omega }", {"token": SecretStr("kappa-omega")}, {"token": SecretStr("kappa")}
    )


def by_nkey(_: Path) -> Way:
    user = Identity(USER)
    return Way(
        f"authorization {{ users: [ {{ nkey: {user.public} }} ] }}",
        {"nkey_seed": SecretStr(user.seed)},
        {"nkey_seed": SecretStr(Identity(USER).seed)},
    )


def by_credentials(folder: Path) -> Way:
    operator, account, system, user = Identity(OPERATOR), Identity(ACCOUNT), Identity(ACCOUNT), Identity(USER)
    granted = operator.vouch(account, type="account", limits=JETSTREAM_LIMITS)
    preload = {account.public: granted, system.public: operator.vouch(system, type="account", limits=ACCOUNT_LIMITS)}
    server = (
        f"operator: {operator.vouch(operator, type='operator')}\nresolver: MEMORY\n"
        f"system_account: {system.public}\nresolver_preload: {json.dumps(preload)}"
    )

    def file(name: str, issuer: Identity) -> Path:
        jwt = issuer.vouch(user, type="user", **UNLIMITED)
        path = folder / name
        path.write_text(
            f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n*** keep it ***\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
        )
        return path

    return Way(
        server,
        {"credentials_file": file("right.creds", account)},
        {"credentials_file": file("wrong.creds", Identity(ACCOUNT))},
    )


WAYS = [by_password, by_token, by_nkey, by_credentials]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_who_has_the_secret_is_let_in_and_nobody_else(
    serve: Servers, tmp_path: Path, caplog: pytest.LogCaptureFixture, way: Callable[[Path], Way]
) -> None:
    chosen = way(tmp_path)
    url = f"nats://127.0.0.1:{await serve(chosen.server)}"
    async with connecting(url, tmp_path, **chosen.right) as backbone:
        await asyncio.wait_for(backbone.up.wait(), 15)
        client = await connect(Settings(nats_url=url, nats=NatsSettings(**chosen.right)))
        assert (await client.jetstream().stream_info("VIGIL_DETECTION")).config.name == "VIGIL_DETECTION"
        await client.close()
    for wrong in (chosen.wrong, {}):
        with pytest.raises(MessagingUnavailable, match=REFUSED) as caught:
            await connect(Settings(nats_url=url, nats=NatsSettings(**wrong)))
        assert "kappa" not in caught.value.message
    async with connecting(url, tmp_path, **chosen.wrong) as backbone:
        assert re.search(REFUSED, await refusal(backbone))
    assert "kappa" not in caplog.text


@pytest.mark.parametrize(
    ("seed", "said"),
    [
        ("kappa-omega", "58 characters"),
        (mistyped(Identity(USER).seed), "the checksum is wrong"),
        (Identity(ACCOUNT).seed, "not the seed of a user"),
    ],
    ids=["no seed", "mistyped", "an account's"],
)
async def test_a_seed_that_cannot_be_used_ends_the_start(tmp_path: Path, seed: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"nats\.nkey_seed cannot be used: .*({said})") as caught:
        async with connecting("nats://127.0.0.1:1", tmp_path, nkey_seed=SecretStr(seed)):
            pass
    assert seed not in caught.value.message


@pytest.mark.parametrize(
    ("content", "said"), [(None, "cannot be read: FileNotFoundError"), ("kappa", "holds no user JWT")]
)
async def test_a_credentials_file_that_cannot_be_used_ends_the_start(
    tmp_path: Path, content: str | None, said: str
) -> None:
    path = tmp_path / "own.creds"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigurationError, match=rf"nats\.credentials_file .*{said}") as caught:
        async with connecting("nats://127.0.0.1:1", tmp_path, credentials_file=path):
            pass
    assert "kappa" not in caught.value.message
