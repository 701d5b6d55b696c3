"""Refuses requests before anything is read while what they ask for is saturated: a refusal must stay cheap."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import Overloaded
from app.http.paths import route_path
from app.http.refusal import refuse
from app.http.shapes import Shapes

GUARD_PATHS: Final = frozenset(
    {
        "/guard",
        "/guard/batch",
        "/guard/stream",
        "/v1/guard/input",
        "/v1/guard/output",
        "/v1/guard/analyze",
        "/v1/guard/batch",
        "/v2/guard",
        "/beta/litellm_basic_guardrail_api",
        "/presidio/analyze",
        "/presidio/anonymize",
    }
)
RESTORE_PATH: Final = "/restore"
"""Apart from the guard: what is restored has been judged, and refusing it would waste that."""


class LoadShedding:
    """A plain ASGI middleware around the whole application.

    `refusals` has for each path what returns what a POST that comes now is refused with, or None to let it in.
    """

    def __init__(self, app: ASGIApp, refusals: Mapping[str, Callable[[], Overloaded | None]], shapes: Shapes) -> None:
        self._app = app
        self._refusals = refusals
        self._shapes = shapes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            path = route_path(scope)
            refusal = self._refusals.get(path)
            error = refusal() if refusal is not None else None
            if error is not None:
                await refuse(error, path, self._shapes, send)
                return
        await self._app(scope, receive, send)
