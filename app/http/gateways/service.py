"""What the endpoints of other contracts need of the service, and what they share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from fastapi import Request

from app.access.principal import Principal
from app.contracts import (
    Anonymized,
    AnonymizeJob,
    GuardAnswer,
    GuardRequest,
    OnTimeout,
    PiiEntity,
    PiiQuery,
)
from app.errors import DecisionTimeout, MessagingUnavailable, Overloaded
from app.gateways import undecided
from app.gateways.judging import Judge, Terms, count_of, judge_all
from app.http.gate import hold_room, principal_of
from app.settings import GatewaySettings, HttpSettings
from app.telemetry import metrics

BODY_FACTOR: Final = 8
"""Bodies of a whole chat may be this many times as large as that of one text: texts stand there twice, with images."""


class Guard(Protocol):
    async def guard(self, request: GuardRequest, caller: Principal) -> bytes: ...

    def on_timeout(self, request: GuardRequest, caller: Principal) -> tuple[str, OnTimeout]:
        """Return the policy of a request and what it says where no decision comes in time."""
        ...


class PiiService(Protocol):
    async def find_pii(self, query: PiiQuery) -> list[list[PiiEntity]]: ...

    async def anonymize(self, job: AnonymizeJob) -> Anonymized: ...

    def pii_kinds(self, language: str | None) -> list[str]: ...

    def pii_recognizers(self, language: str | None) -> list[str]: ...


class GatewayService(Guard, PiiService, Protocol):
    """What the endpoints of all other contracts need."""


def judge_of(service: Guard, caller: Principal) -> Judge:
    """Return the judge of one caller's texts: the whole pipeline, and where that does not decide, the policy."""

    async def judge(request: GuardRequest) -> GuardAnswer:
        try:
            return GuardAnswer.model_validate_json(await service.guard(request, caller), extra="allow")
        except (DecisionTimeout, MessagingUnavailable, Overloaded):
            policy, on_timeout = service.on_timeout(request, caller)
            stand_in = undecided.answer_by(on_timeout, request, policy)
            if stand_in is None:
                raise
            metrics.UNDECIDED.labels(stand_in.decision).inc()
            return stand_in

    return judge


async def judged(service: Guard, request: Request, requests: Sequence[GuardRequest]) -> list[GuardAnswer | None]:
    """Return the decisions of all that one call has judged, as `judge_all`, each of which the caller is charged.

    Raises:
        QuotaExceeded: the caller's quotas have no room for all of them; none was judged, and none is counted.
        VigilError: as `judge_all`.
    """
    hold_room(request.scope, count_of(requests))
    return await judge_all(judge_of(service, principal_of(request.scope)), requests)


def terms_of(http: HttpSettings, settings: GatewaySettings) -> Terms:
    """Return what holds for all texts of one call."""
    return Terms(
        text_limit=http.text_limit,
        messages_limit=http.messages_limit,
        deadline_ms=settings.deadline_ms,
        judges_operator=settings.judge_system_messages,
    )
