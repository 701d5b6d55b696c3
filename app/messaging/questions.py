"""Questions to the event log over NATS: only one process of a machine may have it open, and the others ask that one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar
from uuid import UUID

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError
from nats.micro.request import ERROR_CODE_HEADER
from pydantic import ValidationError

from app.contracts import DecisionRecord, Problem
from app.errors import (
    EventLogUnavailable,
    InvalidRequest,
    Overloaded,
    PayloadTooLarge,
    QueryTimeout,
    UnknownRequest,
    VigilError,
)
from app.events.reading import place_of
from app.log_contracts import (
    Answer,
    EventDetail,
    EventPage,
    EventQuery,
    EventQuestion,
    EventSummary,
    FeedbackPage,
    FeedbackQuery,
    FeedbackRecord,
    Question,
    Stats,
    StatsQuery,
)
from app.telemetry import correlation
from app.topology import DETECTION_STREAM, Header, Subject
from app.validation import parse

ASK_TIMEOUT_S: Final = 3.0
ROUND_TRIP_S: Final = 2.0
"""Added to the time a query may take in the event log."""
REFUSALS: Final[dict[str, type[VigilError]]] = {
    str(error.status): error for error in (UnknownRequest, PayloadTooLarge, InvalidRequest, QueryTimeout)
}
SUBJECTS: Final[dict[type[Question], Subject]] = {
    EventQuery: Subject.API_EVENTS,
    EventQuestion: Subject.API_EVENT,
    StatsQuery: Subject.API_STATS,
    FeedbackQuery: Subject.API_FEEDBACK,
}
LIMIT_BYTES: Final = DETECTION_STREAM.max_message_bytes
"""Most bytes of an answer."""
FRAME_BYTES: Final = 256
"""Around a page's rows: the names of its fields and its cursor."""
TOO_LARGE: Final = (
    "the answer is too large for a message between processes: ask without the full text; that can be read from a "
    "service of one process, or in ClickHouse's table event_texts"
)

Row = TypeVar("Row", EventSummary, FeedbackRecord)
AnswerType = TypeVar("AnswerType", DecisionRecord, EventPage, EventDetail, Stats, FeedbackPage)


class Archive(Protocol):
    """Where decisions of any age are found, and questions about them answered."""

    async def find(self, request_id: UUID) -> DecisionRecord | None: ...

    async def events(self, query: EventQuery) -> EventPage: ...

    async def event(self, question: EventQuestion) -> EventDetail: ...

    async def stats(self, query: StatsQuery) -> Stats: ...

    async def feedback(self, query: FeedbackQuery) -> FeedbackPage: ...


async def ask_for_decision(connection: Client, request_id: UUID) -> DecisionRecord | None:
    """Ask the process that has the event log open for a decision.

    Raises:
        EventLogUnavailable: none has, or it did not answer within ASK_TIMEOUT_S.
        Overloaded, QueryTimeout: as it says.
    """
    try:
        reply = await connection.request(
            Subject.API_DECISION, str(request_id).encode(), timeout=ASK_TIMEOUT_S, headers=_headers()
        )
    except (NatsError, TimeoutError):
        raise EventLogUnavailable from None
    status = (reply.headers or {}).get(ERROR_CODE_HEADER)
    if status == str(UnknownRequest.status):
        return None
    if status is not None:
        raise _refused(status, reply.data)
    return _read(DecisionRecord, reply.data)


@dataclass(frozen=True, slots=True)
class RemoteArchive:
    """The event log of another process.

    Every call raises what the log itself raises, and EventLogUnavailable where no process answers.
    """

    connection: Client
    query_timeout_s: float

    async def find(self, request_id: UUID) -> DecisionRecord | None:
        return await ask_for_decision(self.connection, request_id)

    async def events(self, query: EventQuery) -> EventPage:
        return await self._ask(query, EventPage)

    async def event(self, question: EventQuestion) -> EventDetail:
        return await self._ask(question, EventDetail)

    async def stats(self, query: StatsQuery) -> Stats:
        return await self._ask(query, Stats)

    async def feedback(self, query: FeedbackQuery) -> FeedbackPage:
        return await self._ask(query, FeedbackPage)

    async def _ask(self, question: Question, answer_type: type[AnswerType]) -> AnswerType:
        body = question.model_dump_json(exclude_defaults=True).encode()
        try:
            reply = await self.connection.request(
                SUBJECTS[type(question)], body, timeout=self.query_timeout_s + ROUND_TRIP_S, headers=_headers()
            )
        except NoRespondersError:
            raise EventLogUnavailable("No service has the event log open.") from None
        except (NatsError, TimeoutError) as error:
            raise EventLogUnavailable(f"No answer from the event log: {type(error).__name__}.") from None
        status = (reply.headers or {}).get(ERROR_CODE_HEADER)
        if status is not None:
            raise _refused(status, reply.data)
        return _read(answer_type, reply.data)


def answers(archive: Archive) -> dict[Subject, Callable[[bytes], Awaitable[bytes]]]:
    """Return what answers each question's subject from an archive: JSON of the question in, JSON of the answer out."""
    asked: dict[type[Question], Callable[[Any], Awaitable[Answer]]] = {
        EventQuery: archive.events,
        EventQuestion: archive.event,
        StatsQuery: archive.stats,
        FeedbackQuery: archive.feedback,
    }

    def answering(
        question_type: type[Question], call: Callable[[Any], Awaitable[Answer]]
    ) -> Callable[[bytes], Awaitable[bytes]]:
        async def answer(body: bytes) -> bytes:
            return fitting(await call(parse(question_type, body or b"{}", text_limit=0)))

        return answer

    return {SUBJECTS[question_type]: answering(question_type, call) for question_type, call in asked.items()}


def fitting(answer: Answer) -> bytes:
    """Return an answer's JSON; a page that is too large for a message gives up its last rows to the next page.

    Raises:
        PayloadTooLarge: what is no page, or one row of it, is too large by itself.
    """
    content = answer.model_dump_json().encode()
    if len(content) > LIMIT_BYTES:
        if isinstance(answer, EventPage):
            events = first_that_fit(answer.events)
            answer = EventPage(events=events, next_cursor=str(place_of(events[-1])))
        elif isinstance(answer, FeedbackPage):
            reports = first_that_fit(answer.reports)
            answer = FeedbackPage(reports=reports, next_cursor=str(place_of(reports[-1])))
        content = answer.model_dump_json().encode()
    if len(content) > LIMIT_BYTES:
        raise PayloadTooLarge(TOO_LARGE)
    return content


def first_that_fit(rows: Sequence[Row]) -> list[Row]:
    """Return the first rows of a page that fit a message together, one at least."""
    left = LIMIT_BYTES - FRAME_BYTES
    fit = 0
    for row in rows:
        left -= len(row.model_dump_json().encode()) + 1
        if left < 0:
            break
        fit += 1
    return list(rows[: max(fit, 1)])


def _headers() -> dict[str, str] | None:
    """Return what has the answer belong to the trace of the request under way; None without one."""
    traceparent = correlation.traceparent()
    return {str(Header.TRACEPARENT): traceparent} if traceparent else None


def _read(answer_type: type[AnswerType], body: bytes) -> AnswerType:
    """Return an answer, also one of a later version: what it says beyond this one's fields goes no further.

    Raises:
        EventLogUnavailable: it cannot be read.
    """
    try:
        # Not "ignore": parts of a chat's messages have fields of their callers, which come back to them.
        return answer_type.model_validate_json(body, extra="allow")
    except ValidationError:
        raise EventLogUnavailable("The answer of the process that has the event log open cannot be read.") from None


def _refused(status: str, body: bytes) -> VigilError:
    try:
        problem = Problem.model_validate_json(body, extra="ignore")
    except ValidationError:
        return EventLogUnavailable()
    if problem.type.endswith(f":{Overloaded.code}"):
        return Overloaded(problem.detail)
    error_type = REFUSALS.get(status, EventLogUnavailable)
    return error_type(problem.detail, faults=tuple((each.field, each.reason) for each in problem.errors))
