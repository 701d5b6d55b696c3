"""Who calls: what a key, or its absence, stands for while one request is worked on."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from app.contracts import DEFAULT_TENANT


class Scope(StrEnum):
    """What a caller may do."""

    GUARD = "guard"
    """Have texts judged and restored."""
    EVENTS = "events"
    """Read what the event log holds."""
    ADMIN = "admin"
    """Change keys, policies and what is kept, of every tenant."""


EVERY_SCOPE: Final = frozenset(Scope)


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller of one request."""

    key_id: str = ""
    """Empty for a caller without a key."""
    tenant: str = DEFAULT_TENANT
    scopes: frozenset[Scope] = field(default=EVERY_SCOPE)
    policy: str | None = None
    """The policy of a request that names none; None leaves it to the configured default."""


ANONYMOUS: Final = Principal()
"""Whoever calls a service that is open."""
