"""The gate before all routes: says who calls, and refuses who may not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from starlette.types import ASGIApp, Receive, Scope, Send

from app.access.principal import ANONYMOUS, Principal

PRINCIPAL: Final = "vigil.principal"
"""Where the gate leaves the caller in the ASGI scope."""


def principal_of(scope: Mapping[str, Any]) -> Principal:
    """Return who makes a request, from its ASGI scope (`request.scope`)."""
    caller: Principal = scope[PRINCIPAL]
    return caller


class Gate:
    """A plain ASGI middleware before the routes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope[PRINCIPAL] = ANONYMOUS
        await self._app(scope, receive, send)
