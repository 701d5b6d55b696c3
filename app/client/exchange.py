"""The client's half of the conversation, without any connection: what to send, when to send it again, when to give up.

Each function is a generator of steps. A driver carries a step out and sends its outcome back in, so that the blocking,
the asynchronous and the NATS client say and do the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from uuid import UUID

from pydantic import ValidationError

from .errors import (
    AccessDenied,
    FieldFault,
    GuardError,
    InvalidRequest,
    NoDecision,
    RateLimited,
    Refused,
    RequestExpired,
    RequestIdConflict,
    Unavailable,
    UnexpectedAnswer,
    UnknownRequest,
)
from .patience import Attempts, retry_after_s
from .types import Answer, Decision, Restored

AGAIN: Final = frozenset({408, 429, 502, 503})
"""The request was not taken: sending it again does no harm, and with its id not even when it was."""
TOO_LARGE: Final = 413
READS_BEFORE_SENDING_AGAIN: Final = 3
"""After a 504 the decision is read; a gateway's own 504 may mean that the guard never saw the request."""
_PLACE: Final = re.compile(r"^requests\.(\d{1,9})(?=\.|$)")
"""How the guard names one request of a batch in the fields of an error."""
READ_MS: Final = 5000
"""How long a call that judges nothing may take."""
PROBLEM: Final = "urn:vigil-guard:problem:"
ERRORS: Final[Mapping[int, type[GuardError]]] = {
    400: InvalidRequest,
    401: AccessDenied,
    403: AccessDenied,
    404: UnknownRequest,
    408: Unavailable,
    409: RequestIdConflict,
    410: RequestExpired,
    413: InvalidRequest,
    415: InvalidRequest,
    422: InvalidRequest,
    429: RateLimited,
    500: Unavailable,
    502: Unavailable,
    503: Unavailable,
    504: NoDecision,
}


@dataclass(frozen=True, slots=True)
class Call:
    """Send this and give the reply."""

    method: str
    path: str
    body: bytes | None = field(repr=False)
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: float


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Lost:
    """No reply: the connection failed or took too long. Whether the guard got the request is unknown."""

    reason: str


Outcome = Reply | Lost | None
Draft = tuple[bytes | None, float]
"""A body, and how long to wait for its answer (s)."""
Result = TypeVar("Result")
AnswerType = TypeVar("AnswerType", bound=Answer)
Steps = Generator[Call | Pause, Outcome, Result]


def guard(request: Mapping[str, Any], attempts: Attempts) -> Steps[Decision]:
    """Get one decision.

    Args:
        request: the fields of a guard request, its `request_id` among them.
    """
    request_id = UUID(str(request["request_id"]))

    def draft() -> Draft:
        deadline_ms = attempts.deadline_ms(request.get("deadline_ms"))
        return encode(dict(request) | {"deadline_ms": deadline_ms}), attempts.timeout_s(deadline_ms)

    while True:
        reply = yield from _send("POST", "/guard", draft, attempts, request_id)
        if reply.status != 504:
            return _read(Decision, reply, request_id)
        found = yield from _read_later(request_id, attempts, reply)
        if found is not None:
            return found


def find(request_id: UUID, attempts: Attempts) -> Steps[Decision]:
    """Read the decision of an earlier request."""
    path = f"/guard/{request_id}"
    reply = yield from _send("GET", path, lambda: (None, attempts.timeout_s(READ_MS)), attempts, request_id)
    return _read(Decision, reply, request_id)


def restore(request: Mapping[str, Any], attempts: Attempts) -> Steps[Restored]:
    body = encode(request)
    reply = yield from _send("POST", "/restore", lambda: (body, attempts.timeout_s(READ_MS)), attempts, None)
    return _read(Restored, reply, None)


def batch(
    requests: Sequence[Mapping[str, Any]], attempts: Attempts, first: int = 0
) -> Steps[list[Decision | GuardError]]:
    """Get a decision or an error for each request of one batch; what was not taken is sent again, alone.

    A batch that the guard finds too large is sent as two, each with a budget of its own. An error of the whole batch
    that names a request in its fields names it by its place among the caller's texts.

    Args:
        requests: the fields of each.
        attempts: what the batch may take.
        first: place of the first one among the caller's texts.
    """
    results: list[Decision | GuardError | None] = [None] * len(requests)
    waiting = list(range(len(requests)))

    def draft() -> Draft:
        items = [
            dict(requests[position]) | {"deadline_ms": attempts.deadline_ms(requests[position].get("deadline_ms"))}
            for position in waiting
        ]
        return encode({"requests": items}), attempts.timeout_s(max(item["deadline_ms"] for item in items))

    while waiting:
        try:
            reply = yield from _send("POST", "/guard/batch", draft, attempts, None)
            answers = _items(reply, len(waiting))
        except GuardError as error:  # It says nothing of those that an earlier answer decided.
            if error.status == TOO_LARGE and len(waiting) == len(requests) > 1:
                middle = len(requests) // 2
                before = yield from batch(requests[:middle], Attempts(attempts.patience), first)
                behind = yield from batch(requests[middle:], Attempts(attempts.patience), first + middle)
                return before + behind
            _place(error, [first + position for position in waiting])
            for position in waiting:
                results[position] = error
            break
        again: list[int] = []
        for position, answer in zip(waiting, answers, strict=True):
            request_id = UUID(str(requests[position]["request_id"]))
            if answer.status == 504:
                results[position] = yield from _late(requests[position], attempts, answer)
            else:
                results[position] = _outcome(answer, request_id)
            if answer.status in AGAIN:
                again.append(position)
        pause_s = attempts.pause_s() if again else None
        if pause_s is None:
            break
        yield Pause(pause_s)
        waiting = again
    return [result for result in results if result is not None]


def encode(fields: Mapping[str, Any]) -> bytes:
    """Return the fields as JSON.

    Raises:
        InvalidRequest: a string holds half of a surrogate pair, or a value is not of JSON.
    """
    try:
        return json.dumps(fields, ensure_ascii=False, allow_nan=False, default=_plain).encode()
    except (UnicodeEncodeError, TypeError, ValueError, RecursionError):
        # The error of the codec would carry the text.
        raise InvalidRequest("the request cannot be written as JSON in UTF-8") from None


def error_of(reply: Reply, request_id: UUID | None) -> GuardError:
    """Return the exception for an answer that is not a success."""
    kind = ERRORS.get(reply.status, Refused if 400 <= reply.status < 500 else UnexpectedAnswer)
    problem = _problem(reply)
    if problem is None:
        if kind is UnknownRequest:  # Without the guard's own words it is the address that is wrong.
            kind = Refused
        return kind(f"status {reply.status}, and no word of the guard", status=reply.status, request_id=request_id)
    faults = [
        FieldFault(str(each.get("field", "")), str(each.get("reason", "")))
        for each in problem.get("errors") or ()
        if isinstance(each, dict)
    ]
    return kind(
        str(problem.get("detail") or problem.get("title") or "no reason given"),
        status=reply.status,
        code=str(problem.get("type", "")).removeprefix(PROBLEM) or None,
        request_id=request_id,
        faults=faults,
    )


def _send(
    method: str, path: str, draft: Callable[[], Draft], attempts: Attempts, request_id: UUID | None
) -> Steps[Reply]:
    """Send until there is an answer that another try would not change; each try is drafted anew."""
    while True:
        body, timeout_s = draft()
        attempts.sent += 1
        outcome = yield Call(method, path, body, timeout_s)
        if isinstance(outcome, Reply) and outcome.status not in AGAIN:
            return outcome
        asked_s = retry_after_s(outcome.headers.get("retry-after")) if isinstance(outcome, Reply) else None
        pause_s = attempts.pause_s(asked_s)
        if pause_s is None:
            if isinstance(outcome, Reply):
                raise error_of(outcome, request_id)
            reason = outcome.reason if outcome is not None else "nothing came"
            raise Unavailable(f"the guard could not be reached: {reason}", request_id=request_id)
        yield Pause(pause_s)


def _read_later(request_id: UUID, attempts: Attempts, timed_out: Reply) -> Steps[Decision | None]:
    """Read the decision of a request that timed out; None means that it is time to send the request again."""
    reads = 0
    while reads < READS_BEFORE_SENDING_AGAIN or attempts.used_up:
        pause_s = attempts.read_pause_s(reads)
        if pause_s is None:
            raise error_of(timed_out, request_id)
        yield Pause(pause_s)
        reads += 1
        outcome = yield Call("GET", f"/guard/{request_id}", None, attempts.timeout_s(READ_MS))
        if isinstance(outcome, Reply):
            if outcome.status == 200:
                return _read(Decision, outcome, request_id)
            if outcome.status == 410 and not attempts.used_up:
                return None
    return None


def _late(request: Mapping[str, Any], attempts: Attempts, timed_out: Reply) -> Steps[Decision | GuardError]:
    """Get the decision of one text of a batch that was not decided in time."""
    try:
        found = yield from _read_later(UUID(str(request["request_id"])), attempts, timed_out)
        return found if found is not None else (yield from guard(request, attempts))
    except GuardError as error:
        return error


def _read(model: type[AnswerType], reply: Reply, request_id: UUID | None) -> AnswerType:
    if reply.status != 200:
        raise error_of(reply, request_id)
    try:
        return model.model_validate_json(reply.content)
    except ValidationError as error:
        # The validation's own message would quote the answer.
        where = ", ".join(sorted({".".join(map(str, fault["loc"])) or "body" for fault in error.errors()})[:5])
        raise UnexpectedAnswer(
            f"the answer does not have the guard's shape: {where}", status=reply.status, request_id=request_id
        ) from None


def _outcome(answer: Reply, request_id: UUID) -> Decision | GuardError:
    try:
        return _read(Decision, answer, request_id)
    except GuardError as error:
        return error


def _place(error: GuardError, places: Sequence[int]) -> None:
    """Name the texts of a batch that an error is about by their places among the caller's texts.

    Args:
        error: about the whole batch.
        places: of each text of the batch.
    """

    def named(request: re.Match[str]) -> str:
        number = int(request[1])
        return f"texts.{places[number]}" if number < len(places) else request[0]

    if error.status == TOO_LARGE and len(places) == 1:
        error.faults = (FieldFault(f"texts.{places[0]}", str(error)),)
    else:
        error.faults = tuple(FieldFault(_PLACE.sub(named, each.field, 1), each.reason) for each in error.faults)


def _items(reply: Reply, expected: int) -> list[Reply]:
    """Take a batch's answer apart."""
    if reply.status != 200:
        raise error_of(reply, None)
    try:
        results = json.loads(reply.content)["results"]
        items = [
            Reply(int(each["status"]), {}, json.dumps(each.get("answer") or each.get("problem")).encode())
            for each in results
        ]
    except (ValueError, KeyError, TypeError, RecursionError):
        items = []
    if len(items) != expected:
        raise UnexpectedAnswer("the answer does not have the guard's shape: results", status=reply.status)
    return items


def _problem(reply: Reply) -> dict[str, Any] | None:
    try:
        found = json.loads(reply.content)
    except (ValueError, RecursionError):
        return None
    known = isinstance(found, dict) and str(found.get("type", "")).startswith(PROBLEM)
    return found if known else None


def _plain(value: object) -> object:
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence | set | frozenset):
        return list(value)
    raise TypeError
