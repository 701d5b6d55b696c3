"""The one connection to NATS: FastStream's broker, with its connection events logged and counted."""

from __future__ import annotations

import logging
import time
from typing import Any, Final

from faststream.nats import NatsBroker
from nats.aio.client import Client
from nats.errors import Error as NatsError

from app.errors import ConfigurationError
from app.messaging.client import GuardClient, reason_of
from app.settings import NatsSettings
from app.telemetry import metrics

logger: Final = logging.getLogger("vigil.nats")


PING_INTERVAL_S: Final = 5
"""A server that hangs is noticed after two unanswered pings; the client's default of 2 minutes is too long here."""

DRAIN_TIMEOUT_S: Final = 2
"""All work is settled before the connection is drained; nats-py 2.16 sometimes waits in vain, 30 s by default."""

SAID_AGAIN_S: Final = 60
"""How long the same error is not logged again: without a server the client has one four times a second."""


class ConnectionEvents:
    """Callbacks of the NATS client: logged, counted, and passed on to whoever restores what a restart lost."""

    def __init__(self) -> None:
        self.on_reconnect: Any = None
        self._said: tuple[str, float] | None = None
        """The error that was logged last, and when."""
        self.last_error: str | None = None
        """Why the server could not be reached or used, since the last time it was."""

    async def disconnected(self) -> None:
        metrics.NATS_CONNECTED.set(0)
        self._note("disconnected", logging.WARNING)

    async def reconnected(self) -> None:
        metrics.NATS_CONNECTED.set(1)
        self.last_error = None
        self._said = None
        self._note("reconnected", logging.WARNING)
        if self.on_reconnect is not None:
            await self.on_reconnect()

    async def closed(self) -> None:
        metrics.NATS_CONNECTED.set(0)
        self._note("closed", logging.INFO)

    async def error(self, error: Exception) -> None:
        metrics.NATS_EVENTS.labels("error").inc()
        self.last_error = reason = reason_of(error)
        at = time.monotonic()
        if self._said is None or self._said[0] != reason or at - self._said[1] >= SAID_AGAIN_S:
            self._said = (reason, at)
            logger.warning("connection error: %s", reason)

    def connected(self) -> None:
        metrics.NATS_CONNECTED.set(1)
        self.last_error = None
        self._said = None
        self._note("connected", logging.INFO)

    @staticmethod
    def _note(event: str, level: int) -> None:
        metrics.NATS_EVENTS.labels(event).inc()
        logger.log(level, "%s", event)


class GuardBroker(NatsBroker):
    """FastStream's broker on the client of this program, which knows how to sign in."""

    def __init__(self, addresses: list[str], settings: NatsSettings, **options: Any) -> None:
        super().__init__(addresses, **options)
        self._settings = settings
        self._addresses = addresses

    async def _connect(self) -> Client:
        client = GuardClient(self._settings, self._addresses)
        await client.connect(**self._connection_kwargs)
        self.config.connect(client)
        return client


def build_broker(
    url: str, settings: NatsSettings, events: ConnectionEvents, *, graceful_timeout_s: float
) -> NatsBroker:
    """Make the broker; nothing is connected yet.

    Raises:
        ConfigurationError: a certificate, key or credentials file cannot be used, or an address is none.

    `apply_types=False`: each subscriber's decoder already gives the typed message, and FastDepends would validate
    it a second time (about 0.1 ms of CPU a message).
    """
    addresses = [address for part in url.split(",") if (address := part.strip())]
    # Before the first of the endless tries to connect: what is wrong with a file or an address ends the start.
    client = GuardClient(settings, addresses)
    try:
        client._setup_server_pool(addresses)
    except NatsError:
        addresses = []
    if not addresses:
        raise ConfigurationError(
            "NATS_URL must be nats://host:port or tls://host:port, several with commas in between", field="nats_url"
        )
    return GuardBroker(
        addresses,
        settings,
        # FastStream types these two as whole seconds; the client under it takes fractions.
        connect_timeout=settings.connect_timeout_s,
        reconnect_time_wait=settings.reconnect_wait_s,
        name="vigil-guard",
        max_reconnect_attempts=-1,
        ping_interval=PING_INTERVAL_S,
        drain_timeout=DRAIN_TIMEOUT_S,
        max_outstanding_pings=2,
        disconnected_cb=events.disconnected,
        reconnected_cb=events.reconnected,
        closed_cb=events.closed,
        error_cb=events.error,
        apply_types=False,
        graceful_timeout=graceful_timeout_s,
        logger=None,
    )
