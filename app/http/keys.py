"""/admin/keys: API keys are made, listed, changed, rotated and revoked; a secret is shown once, when it is made."""

from __future__ import annotations

from typing import Final, Protocol

from fastapi import APIRouter, Request, Response

from app.access.keys import IssuedKey, KeyChange, KeyDescription, KeyList, KeyRequest, RotationRequest
from app.http import body
from app.http.gate import actor_of
from app.http.guard import PROBLEMS, json_body, problems_of
from app.validation import parse

BODY_LIMIT_BYTES: Final = 100_000
NOT_STORED: Final = {"Cache-Control": "no-store"}
"""No cache between here and the caller keeps a secret."""
UNKNOWN: Final = PROBLEMS[422] | {"description": "There is no such key, or it was revoked."}
ON_READING: Final = problems_of(503)
ON_WRITING: Final = problems_of(400, 413, 415, 422, 503)
EXAMPLE: Final = {"name": "chat in production", "scopes": ["guard"], "limits": {"rate_per_s": 50, "burst": 100}}


class KeyAdministration(Protocol):
    async def create(self, request: KeyRequest, *, actor: str) -> IssuedKey: ...

    async def list(self) -> list[KeyDescription]: ...

    async def get(self, key_id: str) -> KeyDescription: ...

    async def rotate(self, key_id: str, request: RotationRequest, *, actor: str) -> IssuedKey: ...

    async def amend(self, key_id: str, change: KeyChange, *, actor: str) -> KeyDescription: ...

    async def revoke(self, key_id: str, *, actor: str) -> KeyDescription: ...


class KeyKeeper(Protocol):
    """What these endpoints need of the service."""

    @property
    def keys(self) -> KeyAdministration: ...


def router(service: KeyKeeper) -> APIRouter:
    routes = APIRouter(prefix="/admin/keys", tags=["admin"])

    @routes.post(
        "",
        status_code=201,
        response_model=IssuedKey,
        responses=ON_WRITING,
        openapi_extra=json_body(KeyRequest, EXAMPLE),
        summary="Make a key",
    )
    async def create(request: Request) -> Response:
        """Make a key; the answer is the only place where its secret ever stands."""
        wanted = parse(KeyRequest, await body.read(request, BODY_LIMIT_BYTES), text_limit=0)
        return _issued(await service.keys.create(wanted, actor=actor_of(request.scope)), 201)

    @routes.get("", response_model=KeyList, responses=ON_READING, summary="List the keys")
    async def list_keys() -> Response:
        """List all keys, the newest first, without their secrets."""
        return Response(KeyList(keys=await service.keys.list()).model_dump_json(), media_type="application/json")

    @routes.get("/{key_id}", response_model=KeyDescription, responses=ON_READING | {404: UNKNOWN}, summary="Read a key")
    async def get(key_id: str) -> Response:
        return Response((await service.keys.get(key_id)).model_dump_json(), media_type="application/json")

    @routes.patch(
        "/{key_id}",
        response_model=KeyDescription,
        responses=ON_WRITING | {404: UNKNOWN, 409: PROBLEMS[409]},
        openapi_extra=json_body(KeyChange, {"limits": {"rate_per_s": 100, "burst": None}, "policy": "strict"}),
        summary="Change a key",
    )
    async def amend(key_id: str, request: Request) -> Response:
        """Change a key's limits, policies, name or end; its secret, tenant and scopes stay."""
        wanted = parse(KeyChange, await body.read(request, BODY_LIMIT_BYTES), text_limit=0)
        changed = await service.keys.amend(key_id, wanted, actor=actor_of(request.scope))
        return Response(changed.model_dump_json(), media_type="application/json")

    @routes.post(
        "/{key_id}/rotate",
        response_model=IssuedKey,
        responses=ON_WRITING | {404: UNKNOWN, 409: PROBLEMS[409]},
        openapi_extra=json_body(RotationRequest, {"grace_s": 3600}),
        summary="Give a key a new secret",
    )
    async def rotate(key_id: str, request: Request) -> Response:
        """Give a key a new secret; the old one works on for the grace."""
        wanted = parse(RotationRequest, await body.read(request, BODY_LIMIT_BYTES) or b"{}", text_limit=0)
        return _issued(await service.keys.rotate(key_id, wanted, actor=actor_of(request.scope)), 200)

    @routes.post(
        "/{key_id}/revoke",
        response_model=KeyDescription,
        responses=ON_READING | {404: UNKNOWN, 409: PROBLEMS[409]},
        summary="End a key",
    )
    async def revoke(key_id: str, request: Request) -> Response:
        """End a key for good; every replica refuses it within a second."""
        ended = await service.keys.revoke(key_id, actor=actor_of(request.scope))
        return Response(ended.model_dump_json(), media_type="application/json")

    return routes


def _issued(key: IssuedKey, status: int) -> Response:
    return Response(key.model_dump_json(), status, headers=NOT_STORED, media_type="application/json")
