"""POST /guard/{request_id}/feedback and GET /feedback: what callers say of decisions."""

from __future__ import annotations

from typing import Annotated, Protocol
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from app.access.principal import Principal
from app.contracts import DecisionRecord, Verdict
from app.errors import InvalidRequest, RequestExpired, UnknownRequest
from app.http import body
from app.http.events import NOT_FOUND, REFUSALS, Archive, confined
from app.http.gate import principal_of
from app.http.guard import PROBLEMS, json_body, problems_of, uuid_of
from app.identity import new_request_id, now
from app.log_contracts import FeedbackPage, FeedbackQuery, FeedbackReceipt, FeedbackRecord, FeedbackRequest
from app.settings import HttpSettings
from app.validation import parse

EXAMPLE = {"verdict": "false_positive", "expected": "ALLOWED", "comment": "A question about the law on fraud."}


class Feedback(Protocol):
    """What these endpoints need of the service."""

    @property
    def archive(self) -> Archive: ...

    async def find(self, request_id: UUID, caller: Principal) -> DecisionRecord | None: ...

    def digest(self, text: str) -> str: ...

    async def keep_feedback(self, record: FeedbackRecord) -> None: ...


def router(service: Feedback, settings: HttpSettings) -> APIRouter:
    routes = APIRouter(tags=["feedback"])

    @routes.post(
        "/guard/{request_id}/feedback",
        status_code=202,
        response_model=FeedbackReceipt,
        responses=problems_of(400, 413, 415, 422, 503) | NOT_FOUND | {410: PROBLEMS[422]},
        openapi_extra=json_body(FeedbackRequest, EXAMPLE),
        summary="Say whether a decision was right",
    )
    async def give(request_id: str, request: Request) -> Response:
        """Report on a decision of your own tenant; a later report of the same key takes the place of an earlier one."""
        caller = principal_of(request.scope)
        content = await body.read(request, settings.body_limit_bytes)
        given = parse(FeedbackRequest, content, text_limit=settings.text_limit)
        if given.text is not None:
            caller.check_length(given.text, field="text")
        record = await service.find(uuid_of(request_id), caller)
        if record is None or record.tenant != caller.tenant:
            raise UnknownRequest(field="request_id")
        if record.answer.decision is Verdict.EXPIRED:
            raise RequestExpired
        if given.text is not None and service.digest(given.text) != record.text_digest:
            raise InvalidRequest("is not the text of this request", field="text")
        report = report_of(given, record, caller)
        await service.keep_feedback(report)
        receipt = FeedbackReceipt(feedback_id=report.feedback_id, request_id=uuid_of(request_id))
        return Response(receipt.model_dump_json(), 202, media_type="application/json")

    @routes.get("/feedback", response_model=FeedbackPage, responses=REFUSALS, summary="List reports, newest first")
    async def listed(query: Annotated[FeedbackQuery, Query()], request: Request) -> Response:
        """A page of reports; with `with_text=true` only those that carry a text."""
        page = await service.archive.feedback(confined(query, principal_of(request.scope)))
        return Response(page.model_dump_json(), media_type="application/json")

    return routes


def report_of(given: FeedbackRequest, record: DecisionRecord, caller: Principal) -> FeedbackRecord:
    """Return a report as it is stored, with what an export needs of the decision."""
    answer = record.answer
    return FeedbackRecord(
        feedback_id=new_request_id(),
        request_id=answer.request_id,
        tenant=record.tenant,
        key_id=caller.key_id,
        request_key_id=record.key_id,
        given_at=now(),
        verdict=given.verdict,
        expected=given.expected,
        category=given.category,
        comment=given.comment,
        text=given.text,
        # Of a dry run every text passes: what it would have decided is what can be right or wrong.
        decision=answer.would_decide or answer.decision,
        score=answer.score,
        mode=answer.mode,
        source=answer.source,
        policy=answer.policy,
        language=answer.pii.language,
        text_digest=record.text_digest,
    )
