"""Headers that tell browsers to be careful with every answer, and a refusal for requests of other sites' pages.

A page that a person happens to have open can send requests to a guard on their machine or in their network, some of
them without asking first (Fetch standard, "CORS-safelisted"). Browsers say where such a request comes from.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import CrossOrigin
from app.http.paths import route_path
from app.http.refusal import refuse
from app.http.shapes import Shapes

Fields = list[tuple[bytes, bytes]]

DEFAULTS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
"""What an answer says where it does not say otherwise: pages have a policy of their own, their files may be kept."""


class Armour:
    """A plain ASGI middleware around the whole application.

    Args:
        app: the application.
        origins: other sites whose pages may use the guard, as `https://app.example.com`.
        hsts_s: how long browsers are to insist on TLS (RFC 6797), told only over TLS; 0 tells nothing.
        shapes: how a refusal looks on each path.
    """

    def __init__(self, app: ASGIApp, origins: Iterable[str], hsts_s: int, shapes: Shapes) -> None:
        self._app = app
        self._origins = frozenset(origin.encode() for origin in origins)
        self._secure = (*DEFAULTS, (b"strict-transport-security", f"max-age={hsts_s}".encode())) if hsts_s else DEFAULTS
        self._shapes = shapes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        defaults = self._secure if scope["scheme"] == "https" else DEFAULTS

        async def add_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                present = {name for name, _ in headers}
                headers += [field for field in defaults if field[0] not in present]
                message = {**message, "headers": headers}
            await send(message)

        if self._is_foreign(scope["headers"]):
            await refuse(CrossOrigin(), route_path(scope), self._shapes, add_headers, ("Vary", "Origin"))
        else:
            await self._app(scope, receive, add_headers)

    def _is_foreign(self, headers: Fields) -> bool:
        """Whether a browser says that the request comes from a page of another site."""
        origin = next((value for name, value in headers if name == b"origin"), None)
        if origin is None or origin in self._origins:
            return False
        # Without the scheme: behind a proxy that ends TLS the two differ.
        own = {value.lower() for name, value in headers if name in (b"host", b"x-forwarded-host")}
        return origin.partition(b"://")[2].lower() not in own
