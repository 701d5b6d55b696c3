"""POST /guard, GET /guard/{request_id} and POST /guard/batch."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from app.access.principal import Principal
from app.contracts import (
    BatchAnswer,
    BatchReceipt,
    DecisionRecord,
    GuardAnswer,
    GuardBatch,
    GuardRequest,
    Problem,
    Verdict,
)
from app.errors import (
    InvalidRequest,
    PolicyNotAllowed,
    RequestExpired,
    RequestIdConflict,
    UnknownRequest,
    VigilError,
)
from app.http import body
from app.http.gate import hold_room, principal_of
from app.problems import MEDIA_TYPE, to_problem
from app.settings import HttpSettings
from app.telemetry import correlation, metrics
from app.validation import parse

BATCH_BODY_FACTOR: Final = 8
"""A batch's body may be this many times as large as a single request's."""


class Guard(Protocol):
    """What these endpoints need of the service."""

    async def guard(self, request: GuardRequest, caller: Principal) -> bytes: ...

    async def prepare(self, request: GuardRequest, caller: Principal) -> Callable[[], Awaitable[UUID]]: ...

    async def find(self, request_id: UUID, caller: Principal) -> DecisionRecord | None: ...


def json_body(model: type[BaseModel], example: dict[str, Any] | None = None) -> dict[str, Any]:
    """Describe a body that the endpoint reads itself: one validation, straight from bytes."""
    content: dict[str, Any] = {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}
    if example is not None:
        content["example"] = example
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": Problem, "description": description, "content": {MEDIA_TYPE: {}}}
    for status, description in {
        400: "The body is not JSON.",
        401: "A key is missing, or not one of this service, or revoked, or expired.",
        403: "The key may not do this.",
        408: "The body took too long to arrive.",
        409: "The request id was used for another text.",
        413: "The body or text is too large.",
        415: "The body is not application/json, or is compressed.",
        422: "A field is missing, unknown, of the wrong type or out of range.",
        429: "The key has used up its rate or quota; see Retry-After and RateLimit.",
        503: "Not ready or too busy; see Retry-After.",
        504: "No decision in time; read it later under its request id.",
    }.items()
}


def problems_of(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the refusals of an endpoint."""
    return {status: PROBLEMS[status] for status in statuses}


BATCH_RESPONSES: Final = PROBLEMS | {
    200: {
        "description": "A decision or a problem for each request, in their order. With `wait: false`: the queue took "
        "only some of them; those have status 202 and their `request_id`, the others a problem and were not accepted."
    },
    202: {"model": BatchReceipt, "description": "All are accepted; read each decision by its id."},
}
"""A batch that nobody waits for is checked as a whole before any of it is published: a problem as the answer to all of
it means that nothing was accepted."""


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
        wanted = uuid_of(request_id)
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
        responses=BATCH_RESPONSES,
        openapi_extra=json_body(GuardBatch, {"requests": [{"text": "Hello"}, {"text": "Good morning"}]}),
        summary="Judge several texts",
    )
    async def batch(request: Request) -> Response:
        limit = BATCH_BODY_FACTOR * settings.body_limit_bytes
        guarded = parse(GuardBatch, await body.read(request, limit), text_limit=settings.text_limit)
        caller = principal_of(request.scope)
        most = caller.batch_limit(settings.batch_limit)
        if len(guarded.requests) > most:
            raise InvalidRequest(f"may hold at most {most} requests", field="requests")
        hold_room(request.scope, len(guarded.requests))
        if not guarded.wait:
            return await _submitted(service, guarded.requests, caller)
        results = await asyncio.gather(*(_result(service.guard(each, caller), each) for each in guarded.requests))
        return _batch_answer(results)

    return routes


def uuid_of(written: str, field: str = "request_id") -> UUID:
    """Read an id of a path.

    Raises:
        InvalidRequest: it is none; names the field.
    """
    try:
        return UUID(written)
    except ValueError:
        raise InvalidRequest("must be a UUID", field=field) from None


async def _submitted(service: Guard, requests: Sequence[GuardRequest], caller: Principal) -> Response:
    """Publish a batch that nobody waits for, once none of its requests is refused.

    Raises:
        VigilError: none was accepted; where one request is at fault, the fields name its place.
    """
    _check_ids(requests)
    checked = [await _checked(service, place, each, caller) for place, each in enumerate(requests)]
    outcomes = await asyncio.gather(*(_published(each) for each in checked))
    accepted = [each for each in outcomes if isinstance(each, UUID)]
    failures = [each for each in outcomes if isinstance(each, VigilError)]
    if not failures:
        receipt = BatchReceipt(request_ids=accepted)
        return Response(receipt.model_dump_json(), 202, media_type="application/json")
    if not accepted:
        raise failures[0]
    results = [
        json.dumps({"status": 202, "request_id": str(outcome)}).encode()
        if isinstance(outcome, UUID)
        else _failed(outcome, request)
        for request, outcome in zip(requests, outcomes, strict=True)
    ]
    return _batch_answer(results)


def _check_ids(requests: Sequence[GuardRequest]) -> None:
    """Check that requests under one id are the same: nobody waits who could be told that only the first is judged.

    Raises:
        RequestIdConflict: two have one id and differ in their text, or in being a dry run; the field names the second.
    """
    known: dict[UUID, tuple[str, bool]] = {}
    for place, each in enumerate(requests):
        asked = each.identity, each.dry_run
        if each.request_id is not None and known.setdefault(each.request_id, asked) != asked:
            raise RequestIdConflict(field=f"requests.{place}.request_id")


async def _checked(
    service: Guard, place: int, request: GuardRequest, caller: Principal
) -> Callable[[], Awaitable[UUID]]:
    try:
        return await service.prepare(request, caller)
    except (InvalidRequest, PolicyNotAllowed, RequestIdConflict) as error:
        at = f"requests.{place}"
        error.faults = tuple((f"{at}.{field}", reason) for field, reason in error.faults) or ((at, error.message),)
        raise


async def _published(publish: Callable[[], Awaitable[UUID]]) -> UUID | VigilError:
    correlation.fork()
    try:
        return await publish()
    except VigilError as error:
        return error


async def _result(decision: Awaitable[bytes], request: GuardRequest) -> bytes:
    correlation.fork()
    try:
        answer = await decision
    except VigilError as error:
        return _failed(error, request)
    return b'{"status":200,"answer":' + answer + b"}"


def _failed(error: VigilError, request: GuardRequest) -> bytes:
    """Return what takes the place of a batch's request, and count it."""
    metrics.REQUEST_ERRORS.labels(error.code).inc()
    problem = to_problem(error, request_id=request.request_id or getattr(error, "request_id", None))
    return json.dumps({"status": problem.status, "problem": problem.model_dump(mode="json")}).encode()


def _batch_answer(results: Sequence[bytes]) -> Response:
    """Return the answer of a batch from the JSON of each BatchItem."""
    return Response(b'{"results":[' + b",".join(results) + b"]}", media_type="application/json")
