"""Settings that hold secrets: each may come from a file, some hold several, and none is ever shown."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self, get_args

from pydantic import BaseModel, SecretStr, model_validator
from pydantic_core import PydanticCustomError

from app.errors import ConfigurationError

MIN_SECRET_LENGTH = 32
"""As many hexadecimal digits are 128 bits."""
MAX_KEY_BYTES = 512
"""Longest key that is read from a request's headers."""


@dataclass(frozen=True, slots=True)
class Listed:
    """Marks a secret setting that holds several secrets, separated by commas or line breaks: a file adds to it."""


SecretList = Annotated[SecretStr | None, Listed()]
MAX_SECRET_FILE_BYTES = 64 * 1024
"""Larger than any secret: a log or a device named by mistake is refused, not read."""


class SecretFiles(BaseModel):
    """Fills each setting `x` from the file that `x_file` names, where both are declared."""

    @model_validator(mode="after")
    def _read_secret_files(self) -> Self:
        for name, field in type(self).model_fields.items():
            path = getattr(self, f"{name}_file", None)
            if path is None:
                continue
            content: str = _secret_in(path, f"{name}_file")
            written = getattr(self, name)
            if any(isinstance(mark, Listed) for mark in field.metadata):
                content = "\n".join((written.get_secret_value() if written is not None else "", content))
            elif written is not None:
                raise fault_of(f"{name}_file", f"names a file while {name} is set too: keep one of them")
            # Settings are frozen for everybody else.
            self.__dict__[name] = SecretStr(content) if SecretStr in get_args(field.annotation) else content
        return self


def _secret_in(path: Path, setting: str) -> str:
    """Return the text of a file without the line break at its end."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SECRET_FILE_BYTES + 1)
        text = content.decode().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise fault_of(setting, f"cannot be read: {type(error).__name__}") from None
    if len(content) > MAX_SECRET_FILE_BYTES:
        raise fault_of(setting, f"is larger than {MAX_SECRET_FILE_BYTES:,} bytes: is it the right file?")
    if not text.strip():
        raise fault_of(setting, "is empty")
    return text


def fault_of(setting: str, reason: str) -> PydanticCustomError:
    """Return the fault of one setting of a section, for a validator to raise; never says its value."""
    return PydanticCustomError("setting", "{reason}", {"setting": setting, "reason": reason})


def check_length(secrets: tuple[str, ...], name: str) -> None:
    """Refuse a secret of `name` that is shorter than MIN_SECRET_LENGTH.

    Raises:
        ConfigurationError: which one is told by its number.
    """
    for number, secret in enumerate(secrets, start=1):
        if len(secret) < MIN_SECRET_LENGTH:
            raise ConfigurationError(
                f"settings cannot be used: {name}: number {number} must have at least {MIN_SECRET_LENGTH} characters, "
                f"not {len(secret)}"
            )


def check_sendable(keys: tuple[str, ...], name: str) -> None:
    """Refuse a key of `name` that no request can bring in a header: every caller who has it would be turned away.

    Raises:
        ConfigurationError: which one is told by its number.
    """
    for number, key in enumerate(keys, start=1):
        if len(key) > MAX_KEY_BYTES or not key.isascii() or not key.isprintable():
            raise ConfigurationError(
                f"settings cannot be used: {name}: number {number} must be at most {MAX_KEY_BYTES} characters, all of "
                "them printable ASCII: it is sent in a header"
            )


def secrets_in(secrets: SecretStr | None) -> tuple[str, ...]:
    """Return the secrets of a setting, separated by commas or line breaks, each once."""
    written = secrets.get_secret_value() if secrets is not None else ""
    return tuple(dict.fromkeys(secret for part in re.split(r"[,\r\n]", written) if (secret := part.strip())))
