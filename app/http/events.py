"""GET /events, GET /events/{request_id} and GET /stats: what the event log holds, for people and dashboards."""

from __future__ import annotations

from typing import Annotated, Any, Final, Protocol, TypeVar

from fastapi import APIRouter, Query, Request, Response

from app.access.principal import Principal, Scope
from app.access.tenancy import kept_id
from app.errors import TenantRefused, UnknownRequest
from app.http.gate import principal_of
from app.http.guard import PROBLEMS, problems_of, uuid_of
from app.log_contracts import (
    EventDetail,
    EventPage,
    EventQuery,
    EventQuestion,
    FeedbackPage,
    FeedbackQuery,
    Stats,
    StatsQuery,
)

REFUSALS: Final = problems_of(422, 503, 504)
NOT_FOUND: Final[dict[int | str, dict[str, Any]]] = {404: PROBLEMS[422] | {"description": "There is none of this id."}}

DOES_NOT_FIT: Final[dict[int | str, dict[str, Any]]] = {
    413: PROBLEMS[413] | {"description": "Another process has the event log open, and no message holds the answer."}
}

Asked = TypeVar("Asked", EventQuery, StatsQuery, FeedbackQuery, EventQuestion)


class Archive(Protocol):
    """Where questions to the event log are answered."""

    async def events(self, query: EventQuery) -> EventPage: ...

    async def event(self, question: EventQuestion) -> EventDetail: ...

    async def stats(self, query: StatsQuery) -> Stats: ...

    async def feedback(self, query: FeedbackQuery) -> FeedbackPage: ...


class EventLog(Protocol):
    """What these endpoints need of the service."""

    @property
    def archive(self) -> Archive: ...


def router(service: EventLog) -> APIRouter:
    routes = APIRouter(tags=["events"])

    @routes.get("/events", response_model=EventPage, responses=REFUSALS, summary="List events, newest first")
    async def events(query: Annotated[EventQuery, Query()], request: Request) -> Response:
        """A page of decisions that fit all filters; never a text. `next_cursor` leads to the next page."""
        page = await service.archive.events(confined(query, principal_of(request.scope)))
        return Response(page.model_dump_json(), media_type="application/json")

    @routes.get("/events/{request_id}", response_model=EventDetail, responses=REFUSALS | NOT_FOUND | DOES_NOT_FIT)
    async def event(
        request_id: str,
        request: Request,
        text: Annotated[bool, Query(description="With the full text, where one is stored.")] = False,
    ) -> Response:
        """Show everything that is stored of one request, with the reports on it."""
        caller, wanted = principal_of(request.scope), uuid_of(request_id)
        question = confined(EventQuestion(request_id=wanted, with_text=text), caller)
        kept = kept_id(caller.tenant, wanted)
        try:
            found = await service.archive.event(question.model_copy(update={"request_id": kept}))
        except UnknownRequest:
            if kept == wanted:
                raise
            found = await service.archive.event(question)  # The id as the log shows it.
        return Response(found.model_dump_json(), media_type="application/json")

    @routes.get("/stats", response_model=Stats, responses=REFUSALS, summary="Count events over time")
    async def stats(query: Annotated[StatsQuery, Query()], request: Request) -> Response:
        """Counts in points of time by one property, and percentiles of latency; without a period, of the last day."""
        found = await service.archive.stats(confined(query, principal_of(request.scope)))
        return Response(found.model_dump_json(), media_type="application/json")

    return routes


def confined(asked: Asked, caller: Principal) -> Asked:
    """Return a question about the caller's tenant alone; an administrator may ask about all.

    Raises:
        TenantRefused: another tenant is named.
    """
    if Scope.ADMIN in caller.scopes:
        return asked
    if asked.tenant not in (None, caller.tenant):
        raise TenantRefused(field="tenant")
    return asked.model_copy(update={"tenant": caller.tenant})
