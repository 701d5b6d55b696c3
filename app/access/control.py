"""Who is let in: open, closed, or not known yet, and the keys of this process."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
from collections.abc import Callable, Iterable
from enum import StrEnum
from functools import lru_cache
from typing import Final

from app.access.keys import KeyRecord, Keyring, Peppers
from app.access.principal import ANONYMOUS, Principal, Scope
from app.errors import ClosedToStrangers, ConfigurationError, KeyMissing, KeyRefused, KeysUnread, ScopeMissing

logger: Final = logging.getLogger("vigil.access")

BOOTSTRAP: Final = Principal(key_id="bootstrap", scopes=frozenset({Scope.ADMIN}))
"""Who holds the admin key of the settings."""
WHAT_TO_DO: Final = (
    "set VIGIL_ACCESS__MODE=keys, start, and make a key with `vigil keys create --name NAME` (or set "
    "VIGIL_ACCESS__ADMIN_KEY_FILE and make keys over POST /admin/keys); or set VIGIL_ACCESS__MODE=open when something "
    "else decides who reaches this service"
)


class AccessMode(StrEnum):
    AUTO = "auto"
    OPEN = "open"
    KEYS = "keys"


class AccessControl:
    """One process's answer to who may do what. Closed until it knows better."""

    def __init__(self, mode: AccessMode, peppers: Peppers | None, admin_secret: str | None) -> None:
        """Begin without any key.

        Args:
            mode: what the settings say.
            peppers: None where no key of a bucket can be checked: each is refused then.
            admin_secret: the admin key of the settings, if there is one.
        """
        self._mode = mode
        self._peppers = peppers
        self._admin_digest = _fingerprint(admin_secret) if admin_secret is not None else None
        self.keyring = Keyring(peppers or Peppers(()))
        self._read = False
        self._had_keys = False

    @property
    def needs_key(self) -> bool:
        """Whether it is closed for good: from the first key on, it does not open again in this process."""
        return self._mode is AccessMode.KEYS or self._admin_digest is not None or self._had_keys

    def replace(self, records: Iterable[KeyRecord], *, unreadable: int = 0) -> None:
        """Take what the bucket holds now in place of all known keys; entries that cannot be read close the door too."""
        self._had_keys = self._had_keys or unreadable > 0
        authentic = [record for record in records if self._accepts(record)]
        self.keyring.replace(authentic)
        self._read = True

    def put(self, record: KeyRecord) -> None:
        if self._accepts(record):
            self.keyring.put(record)
        else:
            self.keyring.remove(record.id)

    def remove(self, key_id: str, *, deleted: bool = True) -> None:
        self._had_keys = self._had_keys or not deleted
        self.keyring.remove(key_id)

    def admit(self, needed: Scope, presented: str | None, is_local: Callable[[], bool]) -> Principal:
        """Return who calls.

        Args:
            needed: the scope of what is asked for.
            presented: the key that came with the request.
            is_local: whether the request comes from this machine; asked only where it matters.

        Raises:
            KeyMissing, KeyRefused, ScopeMissing, ClosedToStrangers, KeysUnread: the caller is not let in.
        """
        if self._mode is AccessMode.OPEN:
            return ANONYMOUS
        if not self.needs_key:
            if not self._read:
                raise KeysUnread
            if not is_local():
                raise ClosedToStrangers(f"{ClosedToStrangers().message} To change that: {WHAT_TO_DO}.")
            return ANONYMOUS
        if presented is None:
            raise KeyMissing
        if self._admin_digest is not None and hmac.compare_digest(_fingerprint(presented), self._admin_digest):
            caller = BOOTSTRAP
        elif self._peppers is None:
            raise KeyRefused
        elif not self._read:
            raise KeysUnread
        else:
            caller = self.keyring.check(presented)
        if needed not in caller.scopes:
            raise ScopeMissing(f"This needs a key with the scope {needed}.")
        return caller

    def check_bind(self, host: str | None) -> None:
        """Refuse to serve others than this machine without any key.

        Args:
            host: the address the web server listens on; None when it is not known, or a socket of this machine.

        Raises:
            ConfigurationError: says what to do.
        """
        if host is None or is_this_machine(host):
            return
        if self._mode is AccessMode.OPEN:
            logger.warning("VIGIL_ACCESS__MODE=open: whoever reaches %s may do everything", host)
        elif self.needs_key:
            if self._admin_digest is None and self._read and not len(self.keyring):
                logger.warning("there is no key yet, so nobody is let in: %s", WHAT_TO_DO)
        elif self._read:
            raise ConfigurationError(
                f"the service would listen on {host}, which other machines reach, and there is no key: {WHAT_TO_DO}; "
                "or listen on 127.0.0.1"
            )

    def _accepts(self, record: KeyRecord) -> bool:
        """Whether a record was made with this service's pepper; any record closes the door."""
        self._had_keys = True
        if self._peppers is not None and self._peppers.is_authentic(record):
            return True
        logger.error("key %s was not made with this service's VIGIL_ACCESS__PEPPER and is refused", record.id)
        return False


@lru_cache(maxsize=4096)
def is_loopback(host: str) -> bool:
    """Whether an address is one of this machine alone; a name is none."""
    try:
        address = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def is_this_machine(host: str) -> bool:
    """Whether a host to listen on or to connect to, an address or a name, is this machine alone."""
    return host.lower() == "localhost" or is_loopback(host)


def names_this_machine(host: str) -> bool:
    """Whether the host of a Host or Origin field (with or without a port) is a name of the machine itself.

    A page of another site can make a browser send requests to loopback, and under a name it controls; not under these.
    """
    name = host.rpartition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
    lowered = name.lower()
    return lowered == "localhost" or lowered.endswith(".localhost") or is_loopback(name)


def _fingerprint(secret: str) -> bytes:
    """Return a digest of equal length for every secret, so that comparing two tells nothing of their lengths."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
