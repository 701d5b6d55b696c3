"""The gate before all routes: says who calls, refuses who may not or asks for too much, and cuts off slow bodies."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.access.control import AccessControl, is_loopback, names_this_machine
from app.access.limits import UNLIMITED
from app.access.metering import NOT_ACCEPTED, Metering
from app.access.paths import judges, scope_of
from app.access.principal import ANONYMOUS, Principal
from app.errors import BodyTimeout, PayloadTooLarge, VigilError
from app.http.paths import route_path
from app.http.refusal import refuse
from app.http.shapes import PRESIDIO, Shapes
from app.secret_files import MAX_KEY_BYTES

PRINCIPAL: Final = "vigil.principal"
"""Where the gate leaves the caller in the ASGI scope, and
METERING: where it leaves what counts."""
METERING: Final = "vigil.metering"
WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
FIELDS: Final = ("RateLimit-Policy", "RateLimit")
BEARER: Final = b"bearer "
BASIC: Final = b"basic "
LASTING: Final = frozenset({"/guard/stream"})
"""Paths whose bodies come as long as an answer takes; they have time limits of their own."""


def principal_of(scope: Mapping[str, Any]) -> Principal:
    """Return who makes a request, from its ASGI scope (`request.scope`)."""
    caller: Principal = scope[PRINCIPAL]
    return caller


def actor_of(scope: Mapping[str, Any]) -> str:
    """Return who makes a request, as the audit record names them."""
    return principal_of(scope).key_id or "anonymous"


def hold_room(scope: Mapping[str, Any], texts: int) -> None:
    """Keep room in the caller's quotas for all texts of a batch, until each is counted or the request ends.

    Raises:
        QuotaExceeded: they have not, and none of them is to be judged.
    """
    metering: Metering = scope[METERING]
    metering.hold_room(principal_of(scope), texts)


@contextmanager
def counted(scope: Mapping[str, Any], texts: int) -> Iterator[None]:
    """Count texts that are read here; those of the pipeline are counted by the service that judges them. Where they
    are refused within, they are given back.

    Raises:
        QuotaExceeded: the caller's quotas have no room for all of them, and none is counted.
    """
    metering: Metering = scope[METERING]
    caller = principal_of(scope)
    metering.check_room(caller, texts)
    charges = [metering.count(caller) for _ in range(texts)]
    try:
        yield
    except NOT_ACCEPTED:
        for charge in charges:
            metering.give_back(charge)
        raise


class Gate:
    """A plain ASGI middleware before the routes."""

    def __init__(
        self, app: ASGIApp, access: AccessControl, metering: Metering, shapes: Shapes, body_timeout_s: float
    ) -> None:
        self._app = app
        self._access = access
        self._metering = metering
        self._shapes = shapes
        self._body_timeout_s = body_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            else:  # There is no other kind of route; one that came unnoticed would be open to all.
                await send({"type": "websocket.close", "code": 1008})
            return
        path = route_path(scope)
        needed = scope_of(path)
        caller = ANONYMOUS
        judged = False
        try:
            if needed is not None:
                caller = self._access.admit(needed, presented_key(scope), lambda: is_local(scope))
                judged = judges(scope["method"], path)
                self._metering.enter(caller, judges=judged)
        except VigilError as error:
            told = zip(FIELDS, self._metering.fields(caller) or (), strict=False)
            await refuse(error, path, self._shapes, send, *told)
            return
        scope[PRINCIPAL] = caller
        scope[METERING] = self._metering
        if scope["method"] in WITH_BODY:
            timeout_s = None if path in LASTING else self._body_timeout_s
            receive = _Body(receive, timeout_s, caller.limits.body_bytes)
        if caller.limits is UNLIMITED:
            await self._app(scope, receive, send)
            return
        try:
            await self._app(scope, receive, self._telling(caller, send))
        finally:
            self._metering.leave(caller)

    def _telling(self, caller: Principal, send: Send) -> Send:
        """Add to the answer how much the caller may still ask for."""

        async def tell(message: Message) -> None:
            if message["type"] == "http.response.start" and (fields := self._metering.fields(caller)) is not None:
                policy, state = fields
                told = [(b"ratelimit-policy", policy.encode()), (b"ratelimit", state.encode())]
                message = {**message, "headers": [*message["headers"], *told]}
            await send(message)

        return tell


class _Body:
    """A body that must arrive whole within a time, where there is one, and may be as large as the caller's may."""

    __slots__ = ("_complete", "_limit_bytes", "_receive", "_size", "_timeout_s", "_until")

    def __init__(self, receive: Receive, timeout_s: float | None, limit_bytes: int | None) -> None:
        self._receive = receive
        self._timeout_s = timeout_s
        self._limit_bytes = limit_bytes
        self._size = 0
        self._complete = False
        self._until: float | None = None

    async def __call__(self) -> Message:
        if self._complete:
            return await self._receive()
        if self._until is None and self._timeout_s is not None:
            self._until = asyncio.get_running_loop().time() + self._timeout_s
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            raise BodyTimeout(f"The body did not arrive within {self._timeout_s:g} s.") from None
        self._complete = not message.get("more_body", False)
        self._size += len(message.get("body", b""))
        if self._limit_bytes is not None and self._size > self._limit_bytes:
            raise PayloadTooLarge(f"the body may take at most {self._limit_bytes} bytes for this key", field="body")
        return message


def presented_key(scope: Scope) -> str | None:
    """Return the key of a request: `Authorization: Bearer KEY`, or else `X-API-Key: KEY`.

    Clients of Presidio can be given nothing but an address, `http://any:KEY@host/presidio`. What comes of it is
    `Authorization: Basic` with the key as the password, which is taken there alone: browsers send it by themselves.
    """
    found = None
    for name, value in scope["headers"]:
        if name == b"authorization" and value[: len(BEARER)].lower() == BEARER:
            return _key(value[len(BEARER) :])
        if name == b"authorization" and value[: len(BASIC)].lower() == BASIC and route_path(scope).startswith(PRESIDIO):
            return _key(_password(value[len(BASIC) :]))
        if name == b"x-api-key":
            found = _key(value)
    return found


def is_local(scope: Scope) -> bool:
    """Whether a request comes from this machine, and not from another site's page in a browser on it."""
    client = scope.get("client")
    if client is not None and not is_loopback(client[0]):
        return False
    for name, value in scope["headers"]:
        if name == b"host" and not names_this_machine(value.decode("latin-1")):
            return False
        if name == b"origin" and not names_this_machine(value.decode("latin-1").partition("://")[2]):
            return False
    return True


def _password(credentials: bytes) -> bytes:
    """Return the password of basic credentials (RFC 7617); empty when they are none."""
    try:
        return base64.b64decode(credentials.strip(), validate=True).partition(b":")[2]
    except ValueError:
        return b""


def _key(value: bytes) -> str | None:
    stripped = value.strip()
    return stripped.decode("latin-1") if 0 < len(stripped) <= MAX_KEY_BYTES else None
