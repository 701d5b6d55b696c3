"""A connection for a command: to the service's server, embedded or configured, tried once and not for ever."""

from __future__ import annotations

import asyncio
import json
from typing import Final

from nats.aio.client import Client
from nats.errors import Error as NatsError

from app.errors import ConfigurationError, MessagingUnavailable
from app.messaging import wire
from app.messaging.client import GuardClient, reason_of
from app.messaging.embedded import ServerRecord
from app.settings import Settings

FIRST_CONNECT_PAUSE_S: Final = 0.05


def server_address(settings: Settings) -> str:
    """Return where the service's NATS is: the configured server, or the embedded one of the state folder.

    Raises:
        MessagingUnavailable: no server is configured and no embedded one runs; says where it was looked for.
    """
    if settings.nats_url is not None:
        return settings.nats_url
    path = settings.state_dir / "nats" / "server.json"
    try:
        record = ServerRecord(**json.loads(path.read_text()))
    except FileNotFoundError:
        raise MessagingUnavailable(
            f"NATS_URL is not set and no embedded nats-server runs ({path} does not exist): start the service, "
            "run this command in the folder the service was started in, or name a server with -s"
        ) from None
    except (ValueError, TypeError):
        raise MessagingUnavailable(f"the record of the embedded nats-server is unreadable: {path}") from None
    return record.url


async def connect(settings: Settings, server: str | None = None) -> Client:
    """Connect once, without the endless tries of the service.

    Raises:
        MessagingUnavailable: no server answers, or it refuses the credentials.
        ConfigurationError: the address is none, or a certificate, key or credentials file cannot be used.
    """
    url = server or server_address(settings)
    addresses = [address.strip() for address in url.split(",") if address.strip()]
    errors: list[Exception] = []

    async def note(error: Exception) -> None:
        errors.append(error)

    client = GuardClient(settings.nats, addresses)
    connecting = client.connect(
        addresses,
        name="vigil-cli",
        connect_timeout=settings.nats.connect_timeout_s,
        reconnect_time_wait=FIRST_CONNECT_PAUSE_S,
        max_reconnect_attempts=1,
        error_cb=note,
    )
    try:
        await asyncio.wait_for(connecting, 2 * len(addresses) * settings.nats.connect_timeout_s)
    except ValueError:
        raise ConfigurationError("the server's address must be nats://host:port or tls://host:port") from None
    except (NatsError, OSError, TimeoutError):
        reason = reason_of(errors[-1]) if errors else "timed out"
        raise MessagingUnavailable(f"no answer from {_public(addresses)}: {reason}") from None
    wire.harden(client)  # It reads what strangers wrote too: a header of theirs would end a listing of dead letters.
    client.options["max_reconnect_attempts"] = -1
    client.options["reconnect_time_wait"] = settings.nats.reconnect_wait_s
    return client


def _public(addresses: list[str]) -> str:
    """Return the addresses without credentials."""
    return ", ".join(address.rpartition("@")[2].rpartition("//")[2] for address in addresses)
