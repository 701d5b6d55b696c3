"""Where the peppers come from: the settings, or a file of the state folder that is made once."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from typing import Final

from app.access.keys import Peppers
from app.errors import ConfigurationError
from app.settings import Settings

FILE: Final = "access-pepper"
GENERATED_BYTES: Final = 32


def load_peppers(settings: Settings) -> Peppers | None:
    """Return the peppers of this deployment; None where a shared server is used and none is configured.

    Replicas on a shared server need the same one, which only the settings can give; what belongs to one state folder
    gets a random one there.

    Raises:
        ConfigurationError: they cannot be read.
    """
    configured = settings.access.peppers()
    if configured:
        return Peppers(configured)
    return Peppers([_own_pepper(settings.state_dir / FILE)]) if settings.nats_url is None else None


def needed_peppers(settings: Settings) -> Peppers:
    """Return the peppers for making or changing a key.

    Raises:
        ConfigurationError: there are none.
    """
    found = load_peppers(settings)
    if found is None:
        raise ConfigurationError(
            "keys need VIGIL_ACCESS__PEPPER or VIGIL_ACCESS__PEPPER_FILE, the same on all replicas: "
            "openssl rand -hex 32"
        )
    return found


def _own_pepper(path: Path) -> bytes:
    """Return what the file holds; the first process to ask makes it, whole before anyone can read it."""
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(secrets.token_hex(GENERATED_BYTES))
            with contextlib.suppress(FileExistsError):
                os.link(draft, path)
            draft.unlink()
        pepper = path.read_bytes().strip()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be made or read: {error.strerror}") from None
    if len(pepper) < 2 * GENERATED_BYTES:
        raise ConfigurationError(f"{path} is too short: remove it, and make all keys anew")
    return pepper
