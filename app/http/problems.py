"""Errors as RFC 9457 problem+json: every answer that is not a success is made here."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from app.contracts import Problem
from app.errors import VigilError
from app.problems import MEDIA_TYPE, RETRY_AFTER_S, problem, to_problem
from app.telemetry import metrics


def respond(what: Problem, *, retry_after_s: int = RETRY_AFTER_S) -> Response:
    headers = {"Retry-After": str(retry_after_s)} if what.status == 503 else None
    return Response(what.model_dump_json(), what.status, headers=headers, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Register the handlers that turn every error into a problem."""

    @app.exception_handler(VigilError)
    async def known(request: Request, error: VigilError) -> Response:
        metrics.REQUEST_ERRORS.labels(error.code).inc()
        what = to_problem(error, request_id=getattr(error, "request_id", None))
        return respond(what, retry_after_s=getattr(error, "retry_after_s", RETRY_AFTER_S))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        faults = tuple((".".join(map(str, fault["loc"])), str(fault["msg"])) for fault in error.errors())
        return respond(problem(422, "invalid-request", "the request does not fit the schema", faults=faults))

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        answer = respond(problem(error.status_code, f"http-{error.status_code}", str(error.detail)))
        answer.headers.update(error.headers or {})
        return answer
