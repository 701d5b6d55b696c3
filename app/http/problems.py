"""Errors as RFC 9457 problem+json, or in the shape of the contract that is spoken on a path."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from app.contracts import Problem
from app.errors import InvalidRequest, VigilError
from app.http.paths import route_path
from app.http.shapes import Shapes
from app.problems import RETRY_AFTER_S, problem, to_problem
from app.telemetry import metrics
from app.validation import explained


def install(app: FastAPI, shapes: Shapes) -> None:
    """Register the handlers that turn every error into a problem, in the shape of its path."""

    def respond(request: Request, what: Problem, retry_after_s: int = RETRY_AFTER_S) -> Response:
        wait_s = retry_after_s if what.status in {429, 503} else None
        refusal = shapes.refusal(route_path(request.scope), what, wait_s)
        headers = {"Retry-After": str(wait_s)} if wait_s is not None and refusal.status == what.status else None
        if what.status == 408:
            headers = {"Connection": "close"}  # The rest of the body may still be on its way, for ever.
        return Response(refusal.body, refusal.status, headers=headers, media_type=refusal.media_type)

    @app.exception_handler(VigilError)
    async def known(request: Request, error: VigilError) -> Response:
        metrics.REQUEST_ERRORS.labels(error.code).inc()
        what = to_problem(error, request_id=getattr(error, "request_id", None))
        return respond(request, what, getattr(error, "retry_after_s", RETRY_AFTER_S))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        metrics.REQUEST_ERRORS.labels(InvalidRequest.code).inc()
        return respond(request, to_problem(explained(error.errors())))

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        code = f"http-{error.status_code}"
        metrics.REQUEST_ERRORS.labels(code).inc()
        answer = respond(request, problem(error.status_code, code, str(error.detail)))
        answer.headers.update(error.headers or {})
        return answer
