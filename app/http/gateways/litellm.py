"""POST /beta/litellm_basic_guardrail_api: LiteLLM's Generic Guardrail API."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request, Response

from app.gateways import litellm
from app.gateways.litellm import GuardrailCall, GuardrailOutcome, GuardrailRefusal
from app.http import body
from app.http.gateways.service import BODY_FACTOR, Guard, judged, terms_of
from app.http.guard import json_body
from app.settings import GatewaySettings, HttpSettings
from app.validation import parse

EXAMPLE: Final = {"input_type": "request", "texts": ["What is the capital of France?"], "request_data": {}}
ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": GuardrailRefusal, "description": description}
    for status, description in {
        422: "A field does not fit; `errors` names it.",
        503: "Could not be judged: LiteLLM does what `unreachable_fallback` says.",
    }.items()
}


def router(service: Guard, http: HttpSettings, settings: GatewaySettings) -> APIRouter:
    routes = APIRouter(tags=["LiteLLM"])
    terms = terms_of(http, settings)

    @routes.post(
        "/beta/litellm_basic_guardrail_api",
        response_model=GuardrailOutcome,
        responses=ERRORS,
        openapi_extra=json_body(GuardrailCall, EXAMPLE),
        summary="Judge the texts of one call of LiteLLM's proxy",
    )
    async def guardrail(request: Request) -> Response:
        content = await body.read(request, BODY_FACTOR * http.body_limit_bytes)
        asked = parse(GuardrailCall, content, text_limit=http.text_limit)
        planned = litellm.plan(asked, terms)
        answers = await judged(service, request, planned.requests)
        answer = litellm.to_answer(asked, planned, answers, block_message=settings.block_message)
        return Response(answer.to_json(), media_type="application/json")

    return routes
