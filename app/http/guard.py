"""POST /guard, GET /guard/{request_id} and POST /guard/batch."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from typing import Any, Final, Protocol
from uuid import UUID

from fastapi import APIRouter, Request, Response

from app.access.principal import Principal
from app.contracts import (
    BatchAnswer,
    BatchReceipt,
    DecisionRecord,
    GuardAnswer,
    GuardBatch,
    GuardRequest,
    Message,
    Problem,
    Verdict,
)
from app.errors import InvalidRequest, RequestExpired, UnknownRequest, VigilError
from app.http import body
from app.http.gate import check_room, principal_of
from app.problems import MEDIA_TYPE, to_problem
from app.settings import HttpSettings
from app.telemetry import correlation, metrics
from app.validation import parse

BATCH_BODY_FACTOR: Final = 8
"""A batch's body may be this many times as large as a single request's."""


class Guard(Protocol):
    """What these endpoints need of the service."""

    async def guard(self, request: GuardRequest, caller: Principal) -> bytes: ...

    async def submit(self, request: GuardRequest, caller: Principal) -> UUID: ...

    async def find(self, request_id: UUID, caller: Principal) -> DecisionRecord | None: ...


def json_body(model: type[Message], example: dict[str, Any]) -> dict[str, Any]:
    """Describe a body that the endpoint reads itself: one validation, straight from bytes."""
    return {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"$ref": f"#/components/schemas/{model.__name__}"},
                    "example": example,
                }
            },
        }
    }


PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": Problem, "description": description, "content": {MEDIA_TYPE: {}}}
    for status, description in {
        400: "The body is not JSON.",
        401: "A key is missing, or not one of this service, or revoked, or expired.",
        403: "The key may not do this.",
        408: "The body took too long to arrive.",
        409: "The request id was used for another text.",
        413: "The body or text is too large.",
        415: "The body is not application/json.",
        422: "A field is missing, unknown, of the wrong type or out of range.",
        429: "The key has used up its rate or quota; see Retry-After and RateLimit.",
        503: "Not ready or too busy; see Retry-After.",
        504: "No decision in time; read it later under its request id.",
    }.items()
}


def router(service: Guard, settings: HttpSettings) -> APIRouter:
    routes = APIRouter(tags=["guard"])

    @routes.post(
        "/guard",
        response_model=GuardAnswer,
        responses=PROBLEMS,
        openapi_extra=json_body(GuardRequest, {"text": "What is the capital of France?", "mode": "fast"}),
        summary="Judge one text",
    )
    async def guard(request: Request) -> Response:
        guarded = parse(
            GuardRequest, await body.read(request, settings.body_limit_bytes), text_limit=settings.text_limit
        )
        answer = await service.guard(guarded, principal_of(request.scope))
        return Response(answer, media_type="application/json")

    @routes.get(
        "/guard/{request_id}", response_model=GuardAnswer, responses=PROBLEMS | {404: PROBLEMS[422], 410: PROBLEMS[422]}
    )
    async def decision(request_id: str, request: Request) -> Response:
        """Read the decision of an earlier request."""
        try:
            wanted = UUID(request_id)
        except ValueError:
            raise InvalidRequest("must be a UUID", field="request_id") from None
        record = await service.find(wanted, principal_of(request.scope))
        if record is None:
            raise UnknownRequest(field="request_id")
        if record.answer.decision is Verdict.EXPIRED:
            raise RequestExpired
        answer = record.answer.model_copy(update={"request_id": wanted})
        return Response(answer.model_dump_json(), media_type="application/json")

    @routes.post(
        "/guard/batch",
        response_model=BatchAnswer,
        responses=PROBLEMS | {202: {"model": BatchReceipt, "description": "Accepted; read each decision by its id."}},
        openapi_extra=json_body(GuardBatch, {"requests": [{"text": "Hello"}, {"text": "Good morning"}]}),
        summary="Judge several texts",
    )
    async def batch(request: Request) -> Response:
        limit = BATCH_BODY_FACTOR * settings.body_limit_bytes
        guarded = parse(GuardBatch, await body.read(request, limit), text_limit=settings.text_limit)
        caller = principal_of(request.scope)
        most = min(settings.batch_limit, caller.limits.batch_size or settings.batch_limit)
        if len(guarded.requests) > most:
            raise InvalidRequest(f"may hold at most {most} requests", field="requests")
        check_room(request.scope, len(guarded.requests))
        if not guarded.wait:
            ids = await asyncio.gather(*(_submitted(service, each, caller) for each in guarded.requests))
            return Response(BatchReceipt(request_ids=ids).model_dump_json(), 202, media_type="application/json")
        results = await asyncio.gather(*(_result(service.guard(each, caller), each) for each in guarded.requests))
        return Response(b'{"results":[' + b",".join(results) + b"]}", media_type="application/json")

    return routes


async def _submitted(service: Guard, request: GuardRequest, caller: Principal) -> UUID:
    correlation.fork()
    return await service.submit(request, caller)


async def _result(decision: Awaitable[bytes], request: GuardRequest) -> bytes:
    correlation.fork()
    try:
        answer = await decision
    except VigilError as error:
        metrics.REQUEST_ERRORS.labels(error.code).inc()
        request_id = request.request_id or getattr(error, "request_id", None)
        problem = to_problem(error, request_id=request_id)
        return json.dumps({"status": problem.status, "problem": problem.model_dump(mode="json")}).encode()
    return b'{"status":200,"answer":' + answer + b"}"
