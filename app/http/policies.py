"""/admin/policies: what is in force, and changes to it, which all processes follow within a second."""

from __future__ import annotations

from typing import Annotated, Any, Final, Protocol

from fastapi import APIRouter, Path, Query, Request, Response

from app.admin_contracts import PolicyApplied, PolicyChoice, PolicyList, PolicyRollback, PolicyVersions
from app.arbiter.documents import MAX_DOCUMENT_BYTES
from app.arbiter.policy import Policy
from app.contracts import PolicyName
from app.http import body
from app.http.gate import actor_of
from app.http.guard import PROBLEMS, json_body, problems_of
from app.messaging.policy_desk import PolicyDesk
from app.validation import parse

RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    **problems_of(400, 413, 415, 422, 503),
    404: PROBLEMS[422] | {"description": "There is no policy of this name, or none of this version."},
    409: PROBLEMS[409] | {"description": "The policy was changed meanwhile, or something else needs it."},
}
Name = Annotated[PolicyName, Path(description="Name of the policy.")]
BODIES: Final = (Policy, PolicyRollback, PolicyChoice)
MAX_CHOICE_BYTES: Final = 1000


class PolicyAdmin(Protocol):
    """What these endpoints need of the service."""

    @property
    def policies(self) -> PolicyDesk: ...


def router(service: PolicyAdmin) -> APIRouter:
    routes = APIRouter(prefix="/admin/policies", tags=["admin"], responses=RESPONSES)

    @routes.get("", summary="List the policies in force")
    async def ls() -> PolicyList:
        """List what is in force in the process that answers, and what was applied and refused."""
        return service.policies.list()

    @routes.get("/{name}", summary="Show a policy", response_model=Policy)
    async def show(
        name: Name,
        version: Annotated[int | None, Query(ge=1, le=2**32 - 1, description="A kept version.")] = None,
    ) -> Response:
        policy = await service.policies.show(name, version)
        return Response(policy.model_dump_json(), media_type="application/json")

    @routes.put(
        "/{name}",
        summary="Apply a policy",
        openapi_extra=json_body(Policy),
    )
    async def apply(
        request: Request,
        name: Name,
        expected_version: Annotated[
            int | None, Query(ge=0, le=2**32 - 1, description="The version that was changed; 0 where there was none.")
        ] = None,
        check_only: Annotated[bool, Query(description="Check it, and change nothing.")] = False,
    ) -> PolicyApplied:
        """Put a document into force on all processes; it gets the next version number. A bad one changes nothing."""
        document = await body.read(request, MAX_DOCUMENT_BYTES)
        return await service.policies.apply(
            name, document, actor_of(request.scope), expected_version=expected_version, check_only=check_only
        )

    @routes.delete("/{name}", status_code=204, summary="Take an applied policy away")
    async def remove(request: Request, name: Name) -> None:
        """Let the file's policy hold again; without a file the policy is gone."""
        await service.policies.remove(name, actor_of(request.scope))

    @routes.get("/{name}/versions", summary="List the kept versions of a policy")
    async def versions(name: Name) -> PolicyVersions:
        return await service.policies.versions(name)

    @routes.post(
        "/{name}/rollback",
        summary="Go back to an earlier version",
        openapi_extra=json_body(PolicyRollback),
    )
    async def roll_back(request: Request, name: Name) -> PolicyApplied:
        """Put an earlier content into force again, under the next version number."""
        asked = parse(PolicyRollback, await body.read(request, MAX_CHOICE_BYTES) or b"{}", text_limit=0)
        return await service.policies.roll_back(name, actor_of(request.scope), to=asked.version)

    @routes.put("/{name}/default", status_code=204, summary="Make a policy the default")
    async def choose_default(request: Request, name: Name) -> None:
        """Let it judge requests that name none."""
        await service.policies.choose_default(name, actor_of(request.scope))

    @routes.delete("/{name}/default", status_code=204, summary="Go back to the setting's default")
    async def end_default(request: Request, name: Name) -> None:
        """The policy must be the default; another one is refused with 409."""
        await service.policies.end_default(name, actor_of(request.scope))

    @routes.put(
        "/{name}/shadow",
        status_code=204,
        summary="Try a policy beside another",
        openapi_extra=json_body(PolicyChoice),
    )
    async def choose_shadow(request: Request, name: Name) -> None:
        """Record with each decision of the policy what another one would have decided."""
        asked = parse(PolicyChoice, await body.read(request, MAX_CHOICE_BYTES), text_limit=0)
        await service.policies.choose_shadow(name, asked.policy, actor_of(request.scope))

    @routes.delete("/{name}/shadow", status_code=204, summary="End trying a policy")
    async def end_shadow(request: Request, name: Name) -> None:
        await service.policies.choose_shadow(name, None, actor_of(request.scope))

    return routes
