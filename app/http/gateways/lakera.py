"""POST /v2/guard: Lakera Guard's second contract."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request, Response

from app.gateways import lakera
from app.gateways.lakera import ScreeningError, ScreeningRequest, ScreeningResult
from app.http import body
from app.http.gateways.service import BODY_FACTOR, Guard, judged, terms_of
from app.http.guard import json_body
from app.identity import new_request_id
from app.settings import GatewaySettings, HttpSettings
from app.validation import parse

EXAMPLE: Final = {
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
    "breakdown": True,
    "payload": True,
}
ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": ScreeningError, "description": description}
    for status, description in {422: "A field does not fit.", 503: "Could not be judged; see Retry-After."}.items()
}


def router(service: Guard, http: HttpSettings, settings: GatewaySettings, version: str) -> APIRouter:
    routes = APIRouter(tags=["Lakera Guard"])
    terms = terms_of(http, settings)

    @routes.post(
        "/v2/guard",
        response_model=ScreeningResult,
        responses=ERRORS,
        openapi_extra=json_body(ScreeningRequest, EXAMPLE),
        summary="Judge the messages of a chat",
    )
    async def guard(request: Request) -> Response:
        content = await body.read(request, BODY_FACTOR * http.body_limit_bytes)
        asked = parse(ScreeningRequest, content, text_limit=http.text_limit)
        planned = lakera.plan(asked, terms)
        answers = await judged(service, request, planned.requests)
        answer = lakera.to_answer(asked, planned, answers, request_id=new_request_id(), version=version)
        return Response(answer.to_json(), media_type="application/json")

    return routes
