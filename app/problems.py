"""How an error is told to a caller, over HTTP and NATS alike: RFC 9457 problem details."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from app.contracts import FieldError, Problem
from app.errors import ProblemReply, VigilError

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_S: Final = 1
"""What a caller who is refused for load or an outage is told to wait."""

TITLES: Final = {
    400: "Bad request",
    401: "Key needed",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    408: "Too slow",
    409: "Conflict",
    410: "Expired",
    413: "Too large",
    415: "Unsupported media type",
    422: "Invalid request",
    429: "Too many requests",
    500: "Internal error",
    503: "Unavailable",
    504: "No decision in time",
}


def problem(
    status: int, code: str, detail: str, *, request_id: UUID | None = None, faults: tuple[tuple[str, str], ...] = ()
) -> Problem:
    return Problem(
        type=f"urn:vigil-guard:problem:{code}",
        title=TITLES.get(status, "Error"),
        status=status,
        detail=detail,
        request_id=request_id,
        errors=[FieldError(field=field, reason=reason) for field, reason in faults],
    )


def to_problem(error: VigilError, *, request_id: UUID | None = None) -> Problem:
    """Return what a caller is told; without a request id here it is the error's own, where that has one."""
    if isinstance(error, ProblemReply):
        return error.problem
    named = request_id or getattr(error, "request_id", None)
    return problem(error.status, error.code, error.message, request_id=named, faults=error.faults)
