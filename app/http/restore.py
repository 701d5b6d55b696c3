"""POST /restore: the values of a sanitized text put back into a model's answer."""

from __future__ import annotations

from typing import Any, Final, Protocol

from fastapi import APIRouter, Request, Response

from app.contracts import RestoreAnswer, RestoreRequest
from app.http import body
from app.http.gate import principal_of
from app.http.guard import PROBLEMS, json_body, problems_of
from app.settings import HttpSettings
from app.validation import parse

EXAMPLE: Final = {"text": "I wrote to <PERSON_1>.", "restore_map": "v2.mM1wZQ3r0..."}
REFUSALS: Final[dict[int | str, dict[str, Any]]] = {
    **problems_of(400, 413, 415),
    422: PROBLEMS[422] | {"description": "A field does not fit, or the map is not this service's or has expired."},
}


class Restorer(Protocol):
    """What this endpoint needs of the service."""

    async def restore(self, request: RestoreRequest, tenant: str) -> RestoreAnswer: ...


def router(service: Restorer, settings: HttpSettings) -> APIRouter:
    routes = APIRouter(tags=["guard"])

    @routes.post(
        "/restore",
        response_model=RestoreAnswer,
        responses=REFUSALS,
        openapi_extra=json_body(RestoreRequest, EXAMPLE),
        summary="Put personal data back into a model's answer",
    )
    async def restore(request: Request) -> Response:
        """Fill the placeholders of a sanitized text, in whatever way the model wrote them; the others stay."""
        content = await body.read(request, settings.body_limit_bytes)
        asked = parse(RestoreRequest, content, text_limit=settings.text_limit)
        caller = principal_of(request.scope)
        caller.check_length(asked.text, field="text")
        answer = await service.restore(asked, caller.tenant)
        return Response(answer.model_dump_json(), media_type="application/json")

    return routes
