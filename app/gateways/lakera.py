"""Lakera Guard's second contract, `POST /v2/guard`: a chat in, what was detected in which message out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from app.contracts import (
    MAX_LISTED_SPANS,
    Action,
    Category,
    Finding,
    GuardAnswer,
    GuardRequest,
    Message,
    Problem,
    Verdict,
)
from app.gateways import judging
from app.gateways.judging import Piece, source_of, text_parts
from app.gateways.labels import labels

MOST_MESSAGES: Final = 1000
PROMPT_ATTACK: Final = "prompt_attack"
HARMFUL: Final = "moderated_content/crime"
UNLOCATED: Final = "pii"
"""Personal data in more places than an answer lists: clients mask what starts with `pii/`, and refuse this one."""
PERSONAL: Final = {
    "PERSON": "pii/name",
    "EMAIL_ADDRESS": "pii/email",
    "PHONE_NUMBER": "pii/phone_number",
    "CREDIT_CARD": "pii/credit_card",
    "IBAN_CODE": "pii/iban_code",
    "IP_ADDRESS": "pii/ip_address",
    "US_SSN": "pii/us_social_security_number",
    "STREET_ADDRESS": "pii/address",
}
"""Lakera's names of the kinds that it has too; the others are `pii/` and this guard's name in lower case."""
ALWAYS_NAMED: Final = (PROMPT_ATTACK, HARMFUL, *PERSONAL.values())
"""A breakdown says of each of these whether it was detected."""


class ScreenedMessage(Message):
    model_config = ConfigDict(extra="ignore", frozen=True)

    role: Annotated[str, Field(max_length=64)] = "user"
    content: JsonValue = None
    """A string, or parts; null in a message that only calls tools."""

    @property
    def text(self) -> str:
        return "\n".join(text_parts(self.content))


class ScreeningRequest(Message):
    """`POST /v2/guard`"""

    model_config = ConfigDict(extra="ignore", frozen=True)

    messages: Annotated[list[ScreenedMessage], Field(min_length=1, max_length=MOST_MESSAGES)]
    project_id: Annotated[str, Field(max_length=256)] | None = None
    """Told back; which policy holds is this guard's own setting, or the key's."""
    breakdown: bool | None = False
    payload: bool | None = False
    dev_info: bool | None = False
    metadata: Any = None


class BreakdownItem(BaseModel):
    project_id: str
    policy_id: str
    detector_id: str
    detector_type: str
    detected: bool
    message_id: int


class PayloadItem(BaseModel):
    """Where a value stands in its message: Unicode code points, end exclusive. The value itself is not told."""

    start: int
    end: int
    text: None = None
    detector_type: str
    labels: list[str]
    message_id: int


class ResponseMetadata(BaseModel):
    request_uuid: UUID


class DevInfo(BaseModel):
    git_revision: str = ""
    git_timestamp: str = ""
    model_version: str
    version: str


class ScreeningResult(BaseModel):
    flagged: bool
    payload: list[PayloadItem]
    """Empty unless it was asked for; LiteLLM reads it either way."""
    breakdown: list[BreakdownItem] | None = None
    dev_info: DevInfo | None = None
    metadata: ResponseMetadata

    def to_json(self) -> str:
        return self.model_dump_json(exclude={name for name in ("breakdown", "dev_info") if getattr(self, name) is None})


def pieces(body: ScreeningRequest, *, judges_operator: bool) -> list[Piece]:
    return [Piece(message.text, source_of(message.role, judges_operator=judges_operator)) for message in body.messages]


def to_requests(
    body: ScreeningRequest, judged: Sequence[Piece], *, deadline_ms: int, text_limit: int
) -> list[GuardRequest]:
    """Return a request for each message that is judged; raises InvalidRequest when one is too long."""
    return judging.to_requests(
        judged, field="messages", text_limit=text_limit, deadline_ms=deadline_ms, metadata=labels(body.metadata)
    )


def to_answer(
    body: ScreeningRequest,
    judged: Sequence[Piece],
    answers: Sequence[GuardAnswer | None],
    *,
    request_id: UUID,
    version: str,
) -> ScreeningResult:
    """Return what was detected, by message.

    Args:
        body: what was asked.
        judged: its messages.
        answers: one for each that is judged, in order.
        request_id: the answer's own.
        version: of this guard.
    """
    decided = iter(answers)
    by_message = [(index, next(decided)) for index, piece in enumerate(judged) if piece.is_judged]
    found = {index: list(_detected(answer)) for index, answer in by_message if answer is not None}
    project = body.project_id or ""
    model_version = next((answer.model_version for answer in answers if answer is not None), "")
    return ScreeningResult(
        flagged=any(found.values()),
        payload=[item for index, answer in by_message if answer for item in _located(answer, index)]
        if body.payload
        else [],
        breakdown=[
            BreakdownItem(
                project_id=project,
                policy_id=answer.policy,
                detector_id=f"detector-vigil-{kind.partition('/')[0].replace('_', '-')}",
                detector_type=kind,
                detected=kind in found[index],
                message_id=index,
            )
            for index, answer in by_message
            if answer is not None
            for kind in dict.fromkeys((*ALWAYS_NAMED, *found[index]))
        ]
        if body.breakdown
        else None,
        dev_info=DevInfo(model_version=model_version, version=version) if body.dev_info else None,
        metadata=ResponseMetadata(request_uuid=request_id),
    )


def _detected(answer: GuardAnswer) -> Iterator[str]:
    """Return the detectors that tripped; a block is always told by one that no client takes for maskable."""
    if answer.decision is Verdict.BLOCKED:
        harmful_alone = answer.categories and set(answer.categories) <= {
            Category.HARMFUL_CONTENT,
            Category.PERSONAL_DATA,
        }
        yield HARMFUL if harmful_alone and Category.HARMFUL_CONTENT in answer.categories else PROMPT_ATTACK
    elif answer.decision is Verdict.SANITIZED:
        kinds = {PERSONAL.get(finding.rule, f"pii/{finding.rule.lower()}"): None for finding in redacted(answer)}
        yield from kinds
        if not kinds or len(answer.findings) >= MAX_LISTED_SPANS or answer.pii.count > MAX_LISTED_SPANS:
            yield UNLOCATED


def _located(answer: GuardAnswer, index: int) -> Iterator[PayloadItem]:
    for finding in redacted(answer):
        yield PayloadItem(
            start=finding.start,
            end=finding.end,
            detector_type=PERSONAL.get(finding.rule, f"pii/{finding.rule.lower()}"),
            labels=[finding.rule],
            message_id=index,
        )


def redacted(answer: GuardAnswer) -> Iterator[Finding]:
    """Return the findings of personal data that the policy does not let pass."""
    return (each for each in answer.findings if each.detector == "pii" and each.action is Action.REDACT)


class ScreeningError(BaseModel):
    code: int
    error: str
    message: str


def error_body(problem: Problem, retry_after_s: int | None) -> str:
    return ScreeningError(code=problem.status, error=problem.title, message=problem.detail).model_dump_json()
