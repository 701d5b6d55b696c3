"""GET /admin/audit: what administrators did, newest first."""

from __future__ import annotations

from typing import Annotated, Protocol

from fastapi import APIRouter, Query, Response

from app.admin_contracts import AuditAction, AuditPage
from app.http.guard import problems_of

MOST_ENTRIES = 1000


class AuditTrail(Protocol):
    """What this endpoint needs of the service."""

    async def audit(self, *, limit: int, cursor: str | None, action: str | None) -> AuditPage: ...


def router(service: AuditTrail) -> APIRouter:
    routes = APIRouter(tags=["admin"])

    @routes.get(
        "/admin/audit",
        response_model=AuditPage,
        responses=problems_of(422, 503),
        summary="Read the audit record",
    )
    async def audit(
        limit: Annotated[int, Query(ge=1, le=MOST_ENTRIES, description="Most entries of the page.")] = 100,
        cursor: Annotated[str | None, Query(max_length=32, description="`next_cursor` of the page before.")] = None,
        action: Annotated[
            AuditAction | None, Query(description="Only this action, or all on a subject: `keys`, `keys.create`.")
        ] = None,
    ) -> Response:
        """List the actions of administrators, newest first; the record can be added to and not changed."""
        page = await service.audit(limit=limit, cursor=cursor, action=action)
        return Response(page.model_dump_json(), media_type="application/json")

    return routes
