"""What `vigil doctor --security` concludes: what is open in a configuration, and what to do; it names no value."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

from pydantic import BaseModel, SecretStr

from app.access.control import is_this_machine
from app.cli.diagnosis import Finding, Level
from app.secret_files import MIN_SECRET_LENGTH
from app.settings import Settings

WELL_KNOWN: Final = frozenset(
    {
        "admin",
        "change-me",
        "changeme",
        "clickhouse",
        "default",
        "example",
        "guest",
        "letmein",
        "nats",
        "password",
        "secret",
        "test",
        "vigil",
    }
)
SHORT: Final = 16
"""A password of fewer characters can be guessed by who may try often."""
KEY_SETTINGS: Final = ("privacy.hash_key", "privacy.restore_key", "access.pepper", "access.admin_key")
"""Secrets that are drawn and not typed: they need the length of a key."""


def open_points(settings: Settings, host: str) -> list[Finding]:
    """Return what is open, the worst first within each subject; nothing when the configuration is fit for production.

    Args:
        settings: the service's, read with the same environment and files.
        host: the address the service listens at.
    """
    return list(
        chain(
            _callers(settings, host),
            _message_server(settings),
            _event_log(settings),
            _privacy(settings),
            _secrets(settings),
            _files(settings),
            _telemetry(settings),
        )
    )


def _callers(settings: Settings, host: str) -> Iterator[Finding]:
    closed = "VIGIL_ACCESS__MODE=keys, then vigil keys create"
    if settings.access.mode == "open":
        yield Finding("callers", Level.FAILURE, f"whoever reaches {host} may call the service without a key", closed)
    elif settings.access.mode == "auto" and not settings.access.admin_key:  # With one it is closed from the start.
        # Others are refused meanwhile; a proxy on this machine hides who they are.
        said = "while there is no key, every user of this machine is let in, and whoever comes through a proxy on it"
        yield Finding("callers", Level.FAILURE if not is_this_machine(host) else Level.WARNING, said, closed)


def _message_server(settings: Settings) -> Iterator[Finding]:
    nats = settings.nats
    if settings.nats_url is None:
        yield Finding(
            "message server",
            Level.WARNING,
            "the embedded one: a single copy, on the disk within two minutes, its secret in the state folder",
            "NATS_URL of servers with config/nats/production.conf or cluster.conf",
        )
        if not is_this_machine(nats.embedded_host):
            yield Finding(
                "message server",
                Level.FAILURE,
                "the embedded one listens beyond this machine, in the clear",
                "leave VIGIL_NATS__EMBEDDED_HOST at 127.0.0.1",
            )
        return
    addresses = [_address(part.strip()) for part in settings.nats_url.split(",")]
    distant = [each for each in addresses if not is_this_machine(each.hostname or "")]
    if not nats.tls.configured and any(each.scheme != "tls" for each in distant):
        yield Finding(
            "message server",
            Level.FAILURE,
            "texts and the password may go to it in the clear",
            "tls:// addresses in NATS_URL, and VIGIL_NATS__TLS__CA_FILE for an authority of your own",
        )
    ways = (nats.user, nats.token, nats.nkey_seed, nats.credentials_file, nats.tls.cert_file)
    if not any(ways) and not all(each.username for each in addresses):
        yield Finding(
            "message server",
            Level.FAILURE,
            "the service signs in as nobody: whoever reaches the server reads every text and answers for the service",
            "VIGIL_NATS__USER with VIGIL_NATS__PASSWORD_FILE, and the users of config/nats/production.conf",
        )
    if nats.replicas == 1:
        yield Finding(
            "message server",
            Level.WARNING,
            "one copy of each stream: with its disk, everything that was accepted is lost",
            "VIGIL_NATS__REPLICAS=3 with config/nats/cluster.conf; with one server: sync_interval: always",
        )


def _event_log(settings: Settings) -> Iterator[Finding]:
    log = settings.event_log
    if settings.clickhouse_url is None:
        yield Finding(
            "event log",
            Level.WARNING,
            "the embedded engine: one process of one machine, its files in the state folder",
            "CLICKHOUSE_URL of a server, with the user of config/clickhouse/vigil.xml",
        )
        return
    address = urlsplit(settings.clickhouse_url.get_secret_value())
    if address.scheme != "https" and not is_this_machine(address.hostname or ""):
        yield Finding(
            "event log", Level.FAILURE, "rows and the password go to it in the clear", "an https:// CLICKHOUSE_URL"
        )
    if not log.tls.verify:
        yield Finding(
            "event log",
            Level.FAILURE,
            "any certificate is taken for the server's",
            "VIGIL_EVENT_LOG__TLS__CA_FILE in place of VIGIL_EVENT_LOG__TLS__VERIFY=false",
        )
    if not (log.password or address.password or log.tls.cert_file):
        yield Finding(
            "event log",
            Level.FAILURE,
            "the service signs in without a password or certificate",
            "VIGIL_EVENT_LOG__USER with VIGIL_EVENT_LOG__PASSWORD_FILE",
        )
    if (log.user or address.username or "default") == "default":
        yield Finding(
            "event log",
            Level.WARNING,
            "the service signs in as `default`, who may do everything",
            "the user of config/clickhouse/vigil.xml, by VIGIL_EVENT_LOG__USER",
        )


def _privacy(settings: Settings) -> Iterator[Finding]:
    if settings.privacy.hash_key is None:
        yield Finding(
            "privacy",
            Level.WARNING,
            "no hash key: who reads the event log can tell whether a known text was sent",
            "VIGIL_PRIVACY__HASH_KEY_FILE: openssl rand -hex 32",
        )
    if settings.privacy.restore_key is None:
        yield Finding(
            "privacy",
            Level.WARNING,
            "no restore key: each process draws one, and restore maps end with it",
            "VIGIL_PRIVACY__RESTORE_KEY_FILE, the same on all replicas: openssl rand -hex 32",
        )
    if settings.privacy.store == "full":
        yield Finding(
            "privacy",
            Level.WARNING,
            "the event log holds full texts, with the personal data in them",
            "VIGIL_PRIVACY__STORE=redacted, or hash",
        )


def _secrets(settings: Settings) -> Iterator[Finding]:
    secrets = dict.fromkeys(_written(settings))  # One setting has several: each address of NATS its own.
    for name, value in secrets:
        setting = variable(name)
        parts = [part.strip() for part in value.replace("\n", ",").split(",") if part.strip()]
        shortest = min((len(part) for part in parts), default=0)
        if any(part.lower() in WELL_KNOWN for part in parts):
            yield Finding("secrets", Level.FAILURE, f"{setting} is a word that is tried first", "openssl rand -hex 32")
        elif name in KEY_SETTINGS and shortest < MIN_SECRET_LENGTH:
            said = f"{setting} has {shortest} characters, a key has {MIN_SECRET_LENGTH} or more"
            yield Finding("secrets", Level.WARNING, said, "openssl rand -hex 32")
        elif name not in KEY_SETTINGS and shortest < SHORT:
            yield Finding("secrets", Level.WARNING, f"{setting} has {shortest} characters", "openssl rand -hex 24")
    uses = Counter(value for _, value in secrets)
    shared = dict.fromkeys(variable(name) for name, value in secrets if uses[value] > 1)
    if shared:
        yield Finding(
            "secrets",
            Level.WARNING,
            f"{', '.join(shared)} are the same: who has one has all",
            "one secret for each use",
        )


def _files(settings: Settings) -> Iterator[Finding]:
    for name, path in _secret_files(settings):
        yield from _readable_by_others(variable(name), path)
    config = os.environ.get("VIGIL_CONFIG")
    if config:
        yield from _readable_by_others("VIGIL_CONFIG", Path(config))
    for folder in ("nats", "clickhouse"):
        yield from _readable_by_others("VIGIL_STATE_DIR", settings.state_dir / folder)


def _readable_by_others(setting: str, path: Path) -> Iterator[Finding]:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return  # What is not there is no secret's place; the service says by itself what it misses.
    if mode & 0o007:
        yield Finding(
            "files", Level.FAILURE, f"every user of this machine can read {path} ({setting})", f"chmod o-rwx {path}"
        )
    elif mode & 0o020:
        yield Finding("files", Level.WARNING, f"a group can change {path} ({setting})", f"chmod g-w {path}")


def _telemetry(settings: Settings) -> Iterator[Finding]:
    endpoint = urlsplit(settings.tracing.endpoint or "")
    if endpoint.scheme == "http" and not is_this_machine(endpoint.hostname or ""):
        yield Finding(
            "tracing", Level.WARNING, "spans go to the collector in the clear", "an https:// VIGIL_TRACING__ENDPOINT"
        )
    if settings.log.level == "DEBUG":
        yield Finding("log", Level.WARNING, "libraries log at DEBUG what they please", "VIGIL_LOG__LEVEL=INFO")


def variable(name: str) -> str:
    """Return the environment variable of a setting, as `nats.password`."""
    return name.upper() if name in ("nats_url", "clickhouse_url") else f"VIGIL_{name.upper().replace('.', '__')}"


def _written(model: BaseModel, section: str = "") -> Iterator[tuple[str, str]]:
    """Return the secrets that are set, by name; the address of ClickHouse counts by its password."""
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _written(value, f"{section}{name}.")
        elif isinstance(value, SecretStr):
            secret = value.get_secret_value()
            if name == "clickhouse_url":
                secret = urlsplit(secret).password or ""
            if secret and name != "canaries":
                yield f"{section}{name}", secret
        elif name == "nats_url" and value is not None:
            for address in map(_address, value.split(",")):
                if address.password or address.username:
                    yield name, address.password or address.username or ""


def _secret_files(model: BaseModel, section: str = "") -> Iterator[tuple[str, Path]]:
    """Return the files that hold secrets, by setting; a certificate is none."""
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _secret_files(value, f"{section}{name}.")
        elif isinstance(value, Path) and name.endswith("_file") and name not in ("ca_file", "cert_file"):
            yield f"{section}{name}", value


def _address(written: str) -> SplitResult:
    return urlsplit(written if "://" in written else f"nats://{written}")
