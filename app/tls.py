"""TLS to the message server and the event log: one context from settings, one sentence for a refused handshake."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import Final

from app.errors import ConfigurationError
from app.settings import TlsSettings

MEANINGS: Final = {
    "WRONG_VERSION_NUMBER": "the server does not speak TLS on this port",
    "RECORD_LAYER_FAILURE": "the server does not speak TLS on this port",
    "HTTP_REQUEST": "the server does not speak TLS on this port",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the server asks for a client certificate (tls.cert_file, tls.key_file)",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "the server refuses the handshake; it may ask for a client certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "the server does not know the authority of the client certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the server refuses the client certificate",
    "TLSV1_ALERT_BAD_CERTIFICATE": "the server refuses the client certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the client certificate has expired",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the server speaks no TLS version that is still safe (1.2 or 1.3)",
    "UNSUPPORTED_PROTOCOL": "the server speaks no TLS version that is still safe (1.2 or 1.3)",
}
"""What OpenSSL's reasons mean for who runs the service (openssl/sslerr.h)."""


def client_context(tls: TlsSettings, section: str) -> ssl.SSLContext:
    """Return a context that trusts `ca_file` alone, or the system's authorities without one, and checks host names.

    Args:
        tls: the files; read anew by each call, so that a renewed certificate counts from the next connection on.
        section: name of the settings' section, for the error.

    Raises:
        ConfigurationError: a file cannot be read or used; says which setting, never what is in the file.
    """
    try:
        context = ssl.create_default_context(cafile=str(tls.ca_file) if tls.ca_file is not None else None)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError.
        raise ConfigurationError(f"{section}.ca_file cannot be used: {_named(error)}") from None
    if tls.cert_file is not None and tls.key_file is not None:
        try:
            # Without a callback OpenSSL would ask for an encrypted key's password on the terminal, and wait.
            context.load_cert_chain(str(tls.cert_file), str(tls.key_file), password=_no_password)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{section}.cert_file and key_file cannot be used: {_named(error)}") from None
    return context


def refusal(error: BaseException) -> str | None:
    """Return what was wrong with the handshake behind an error, None when it was no handshake that failed."""
    for each in _chain(error):
        if isinstance(each, ssl.SSLCertVerificationError):
            return f"the server's certificate is refused: {each.verify_message}"
        if isinstance(each, ssl.SSLEOFError):
            return "the server hung up in the middle of the handshake; it may ask for a client certificate"
        if isinstance(each, ssl.SSLError):
            reason = each.reason or type(each).__name__
            return MEANINGS.get(reason, f"TLS failed: {reason.replace('_', ' ').lower()}")
    return None


def hung_up(error: BaseException) -> bool:
    """Return whether the other side ended the connection.

    Under TLS 1.3 a server refuses a client's certificate after the handshake; its end of the connection may be seen
    before the alert that says why.
    """
    ended = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError)
    return any(isinstance(each, ended) for each in _chain(error))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Return the error and what is behind it, also where a library carries it as an argument or as `reason`."""
    found: list[BaseException] = [error]
    for each in found:
        yield each
        behind = (each.__cause__, each.__context__, getattr(each, "reason", None), *each.args)
        found += [inner for inner in behind if isinstance(inner, BaseException) and inner not in found]


def _named(error: Exception) -> str:
    return (error.reason if isinstance(error, ssl.SSLError) else None) or type(error).__name__


def _no_password() -> str:
    raise ValueError("the key is encrypted")
