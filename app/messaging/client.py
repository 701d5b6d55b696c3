"""The NATS client of this program: signs in as the settings say, and never in the clear where TLS is meant."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any, Final

from nats.aio.client import NATS_HDR_LINE, Client
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError
from nats.protocol.parser import PERMISSIONS_ERR, STALE_CONNECTION

from app import tls
from app.errors import ConfigurationError
from app.messaging.nkeys import Credentials, SigningKey
from app.settings import NatsSettings
from app.topology import OWN_INBOX

TLS_SECTION: Final = "nats.tls"
NO_TLS: Final = "the server offers no TLS, and this connection must not go without"


class GuardClient(Client):
    """nats-py's client, with four things that it leaves open.

    - It encrypts when the server asks for it, and otherwise talks in the clear, also to a `tls://` address. Whoever
      stands in between could take the password that way. Here nothing is sent before the channel is encrypted.
    - It reads certificates once. Here each handshake reads them, so that a renewed one needs no restart.
    - It measures the payload of a message, and the server payload and headers together. Here what the server would
      refuse is not sent.
    - It closes for good when the server hangs up with an error. Here it connects again, as when a connection breaks: an
      account's JWT that has expired is read anew then.
    """

    def __init__(self, settings: NatsSettings, addresses: list[str]) -> None:
        """Keep what connecting takes; nothing is connected yet.

        Raises:
            ConfigurationError: a certificate, key or credentials file cannot be used.
        """
        super().__init__()
        self._tls = settings.tls
        self._encrypted = self._tls.configured or any(address.startswith("tls://") for address in addresses)
        if self._encrypted:
            tls.client_context(self._tls, TLS_SECTION)
        self._sign_in = _sign_in(settings)
        if settings.nkey_seed is not None:
            self._public_nkey = _signing_key(settings).public

    async def connect(self, *arguments: Any, **options: Any) -> None:
        """Connect with the caller's options, signing in as the settings say."""
        own = {"inbox_prefix": OWN_INBOX, "tls_handshake_first": self._tls.handshake_first}
        if self._tls.server_name is not None:
            own["tls_hostname"] = self._tls.server_name
        await super().connect(*arguments, **(options | own | self._sign_in))

    @property
    def ssl_context(self) -> ssl.SSLContext:
        try:
            return tls.client_context(self._tls, TLS_SECTION)
        except ConfigurationError as error:
            raise NatsError(error.message) from None  # Which the client takes as one more failed try.

    async def _send_publish(
        self, subject: str, reply: str, payload: bytes, payload_size: int, headers: dict[str, Any] | None
    ) -> None:
        if headers and payload_size + _block_size(headers) > self.max_payload:
            raise MaxPayloadError
        await super()._send_publish(subject, reply, payload, payload_size, headers)

    async def _process_err(self, err_msg: str) -> None:
        # What the server says in `-ERR`. It goes on after a refused permission, and after the others it hangs up.
        if STALE_CONNECTION in err_msg or PERMISSIONS_ERR in err_msg:
            await super()._process_err(err_msg)
            return
        error = NatsError("nats: " + err_msg.strip("'"))
        self._err = error
        await self._error_cb(error)
        await self._process_op_err(error)

    def _connect_command(self) -> bytes:
        # Called between the server's greeting, with the handshake that it asks for, and the first thing said to it.
        if self._encrypted and not self._server_info.get("tls_required"):
            raise NatsError(NO_TLS)
        return super()._connect_command()


def _block_size(headers: dict[str, Any]) -> int:
    """Return the bytes that headers take in front of a payload, at most."""
    lines = sum(len(name.encode()) + len(value.encode()) + 4 for name, value in headers.items())
    return len(NATS_HDR_LINE) + 2 + lines + 2


def withdraw(client: Client, reply: str) -> None:
    """Take back what was published with this reply subject, unless it is on its way to the server already.

    The client keeps what it cannot send, and sends it on the next connection.
    """
    named = f" {reply} ".encode()
    for position, command in enumerate(client._pending):
        if command.find(named, 0, command.find(b"\r\n")) >= 0:
            del client._pending[position]
            client._pending_data_size -= len(command)
            return


def reason_of(error: BaseException) -> str:
    """Return why a connection failed, in words that hold no secret."""
    if (refused := tls.refusal(error)) is not None:
        return refused
    if isinstance(error, NatsError):
        return str(error).removeprefix("nats: ")
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, ConnectionError):
        # Who may not sign in is told so and cut off at once; the second can overtake the first.
        return "the server hung up; while signing in that means wrong or missing credentials"
    return type(error).__name__


def _sign_in(settings: NatsSettings) -> dict[str, Any]:
    """Return the client's options for the one way to sign in that is configured; none without any."""
    if settings.user is not None and settings.password is not None:
        return {"user": settings.user, "password": settings.password.get_secret_value()}
    if settings.token is not None:
        return {"token": settings.token.get_secret_value()}
    if settings.nkey_seed is not None:
        return {"signature_cb": _signing_key(settings).sign}
    if (path := settings.credentials_file) is not None:
        _credentials(path)
        # Read at each sign-in: an account's JWT is renewed while the service runs.
        return {
            "user_jwt_cb": lambda: _renewed(path).jwt.encode(),
            "signature_cb": lambda nonce: _renewed(path).key.sign(nonce),
        }
    return {}


def _signing_key(settings: NatsSettings) -> SigningKey:
    seed = settings.nkey_seed.get_secret_value() if settings.nkey_seed is not None else ""
    try:
        return SigningKey.from_seed(seed)
    except ConfigurationError as error:
        raise ConfigurationError(f"nats.nkey_seed cannot be used: {error.message}") from None


def _credentials(path: Path) -> Credentials:
    try:
        return Credentials.parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"nats.credentials_file cannot be read: {type(error).__name__}") from None
    except ConfigurationError as error:
        raise ConfigurationError(f"nats.credentials_file cannot be used: {error.message}") from None


def _renewed(path: Path) -> Credentials:
    try:
        return _credentials(path)
    except ConfigurationError as error:
        raise NatsError(error.message) from None
