"""Vigil Guard Enterprise's endpoints: /v1/guard/input, /v1/guard/output, /v1/guard/analyze and /v1/guard/batch."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, Final, TypeVar

from fastapi import APIRouter, Request, Response

from app.errors import InvalidRequest, VigilError
from app.gateways import vigil_enterprise
from app.gateways.vigil_enterprise import (
    MOST_ITEMS,
    AnalyzeBody,
    BatchBody,
    BatchDecision,
    BatchResult,
    Decision,
    EnterpriseError,
    InputBody,
    OutputBody,
)
from app.http import body
from app.http.gate import hold_room, principal_of
from app.http.gateways.service import BODY_FACTOR, Guard, judge_of
from app.http.guard import json_body
from app.identity import now
from app.problems import to_problem
from app.settings import GatewaySettings, HttpSettings
from app.telemetry import correlation, metrics
from app.validation import parse

BodyType = TypeVar("BodyType", InputBody, OutputBody, AnalyzeBody)
IDEMPOTENCY_HEADERS: Final = ("x-idempotency-key", "idempotency-key")
LONGEST_KEY: Final = 256
ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": EnterpriseError, "description": description}
    for status, description in {
        400: "The body is not JSON.",
        401: "No key, or a wrong one.",
        422: "A field does not fit; `details` names it.",
        503: "Could not be judged, where `VIGIL_GATEWAYS__UNDECIDED` is `error`; else a BLOCKED answer says so.",
    }.items()
}


def router(service: Guard, http: HttpSettings, settings: GatewaySettings) -> APIRouter:
    routes = APIRouter(prefix="/v1/guard", tags=["Vigil Guard Enterprise"])

    async def answered(request: Request, model: type[BodyType]) -> Response:
        content = await body.read(request, http.body_limit_bytes)
        asked = parse(model, content, text_limit=http.text_limit)
        decision = await _decided(request, asked)
        return Response(decision.to_json(), media_type="application/json")

    async def _decided(request: Request, asked: InputBody | OutputBody | AnalyzeBody, item: str = "") -> Decision:
        caller = principal_of(request.scope)
        key = next((value for name in IDEMPOTENCY_HEADERS if (value := request.headers.get(name))), "")[:LONGEST_KEY]
        answer = await judge_of(service, caller)(
            vigil_enterprise.to_request(
                asked,
                deadline_ms=settings.deadline_ms,
                text_limit=http.text_limit,
                owner=f"{caller.tenant}/{caller.key_id}",
                idempotency_key=key and key + item,
            )
        )
        return vigil_enterprise.to_decision(answer, decided_at=now(), block_message=settings.block_message)

    @routes.post(
        "/input",
        response_model=Decision,
        responses=ERRORS,
        openapi_extra=json_body(InputBody, {"prompt": "What is the capital of France?", "mode": "full"}),
        summary="Judge a user's prompt",
    )
    async def guard_input(request: Request) -> Response:
        return await answered(request, InputBody)

    @routes.post(
        "/output",
        response_model=Decision,
        responses=ERRORS,
        openapi_extra=json_body(OutputBody, {"output": "Paris.", "originalPrompt": "What is the capital of France?"}),
        summary="Judge a model's answer",
    )
    async def guard_output(request: Request) -> Response:
        return await answered(request, OutputBody)

    @routes.post(
        "/analyze",
        response_model=Decision,
        responses=ERRORS,
        openapi_extra=json_body(AnalyzeBody, {"text": "Paris.", "source": "model_output"}),
        summary="Judge a text from anywhere",
    )
    async def analyze(request: Request) -> Response:
        return await answered(request, AnalyzeBody)

    @routes.post(
        "/batch",
        response_model=BatchDecision,
        responses=ERRORS,
        openapi_extra=json_body(BatchBody, {"items": [{"text": "Good morning", "source": "user_input"}]}),
        summary="Judge several texts",
    )
    async def batch(request: Request) -> Response:
        content = await body.read(request, BODY_FACTOR * http.body_limit_bytes)
        asked = parse(BatchBody, content, text_limit=http.text_limit)
        most = principal_of(request.scope).batch_limit(MOST_ITEMS)
        if len(asked.items) > most:
            raise InvalidRequest(f"may hold at most {most} items", field="items")
        hold_room(request.scope, len(asked.items))
        results = await asyncio.gather(
            *(_item(index, _decided(request, each, f"/{index}")) for index, each in enumerate(asked.items))
        )
        return Response(BatchDecision(items=results).to_json(), media_type="application/json")

    return routes


async def _item(index: int, decided: Awaitable[Decision]) -> BatchResult:
    correlation.fork()
    try:
        return BatchResult(index=index, ok=True, response=await decided)
    except VigilError as error:
        metrics.REQUEST_ERRORS.labels(error.code).inc()
        return BatchResult(index=index, ok=False, error=vigil_enterprise.batch_error(to_problem(error)))
