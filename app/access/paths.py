"""Which scope each path needs: by its first segment; what nobody listed needs the most."""

from __future__ import annotations

from typing import Final

from app.access.principal import Scope

SCOPES: Final[dict[str, Scope | None]] = {
    "guard": Scope.GUARD,
    "restore": Scope.GUARD,
    "v1": Scope.GUARD,
    "v2": Scope.GUARD,
    "presidio": Scope.GUARD,
    "beta": Scope.GUARD,
    "events": Scope.EVENTS,
    "stats": Scope.EVENTS,
    "feedback": Scope.EVENTS,
    "admin": Scope.ADMIN,
    "health": None,
    "livez": None,
    "readyz": None,
    "metrics": None,
    "docs": None,
    "openapi.json": None,
    "asyncapi": None,
    "asyncapi.json": None,
    "assets": None,
    "favicon.ico": None,
}
"""None: for everyone."""
JUDGES_NOTHING: Final = frozenset({"restore"})


def scope_of(path: str) -> Scope | None:
    """Return the scope that a request's path needs; None for what everyone may read."""
    return SCOPES.get(_first(path), Scope.ADMIN)


def judges(method: str, path: str) -> bool:
    """Whether a request has a text judged, which is what quotas count."""
    return (
        method == "POST"
        and SCOPES.get(_first(path)) is Scope.GUARD
        and _first(path) not in JUDGES_NOTHING
        and not path.endswith("/feedback")
    )


def _first(path: str) -> str:
    return path[1:].partition("/")[0] if path.startswith("/") else ""
