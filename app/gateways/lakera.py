"""Lakera Guard's second contract, `POST /v2/guard`: a chat in, what was detected in which message out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator
from pydantic_core import PydanticCustomError

from app.chat import ChatMessage, ContentPart
from app.contracts import (
    MAX_LISTED_SPANS,
    Action,
    Category,
    Finding,
    Flag,
    GuardAnswer,
    GuardRequest,
    Message,
    Problem,
    Source,
    Verdict,
)
from app.gateways import judging
from app.gateways.judging import Piece, Terms, arguments_of, as_text, is_blocked, text_parts, tool_call, tool_result
from app.gateways.labels import labels

MOST_MESSAGES: Final = 1000
MOST_BESIDE: Final = 1000
"""Most arguments of tool calls, results and refusals of one request: each may have to be judged by itself."""
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
    tool_calls: JsonValue = None
    function_call: JsonValue = None
    refusal: JsonValue = None

    @field_validator("content")
    @classmethod
    def content_can_be_read(cls, content: JsonValue) -> JsonValue:
        parts = [content] if isinstance(content, str) else [] if content is None else content
        if not isinstance(parts, list) or not all(isinstance(part, str | dict) for part in parts):
            raise PydanticCustomError("content", "must be a string, a list of parts or null")
        return content

    @property
    def text(self) -> str:
        return "\n".join(text_parts(self.content))

    @property
    def arguments(self) -> list[JsonValue]:
        """What tools are called with: as OpenAI writes it, and as parts of Anthropic's."""
        parts = self.content if isinstance(self.content, list) else []
        calls = self.tool_calls if isinstance(self.tool_calls, list) else []
        found = [part.get("input") for part in parts if isinstance(part, dict)]
        found += [arguments_of(call) for call in [*calls, {"function": self.function_call}]]
        return [each for each in found if each is not None]

    @property
    def results(self) -> list[JsonValue]:
        """What tools gave back, as parts of Anthropic's."""
        parts = self.content if isinstance(self.content, list) else []
        found = [part.get("content") for part in parts if isinstance(part, dict)]
        return [each for each in found if each is not None]

    @property
    def refusals(self) -> list[str]:
        """What a model refuses with, beside the texts of the content."""
        parts = self.content if isinstance(self.content, list) else []
        found = [*(part.get("refusal") for part in parts if isinstance(part, dict)), self.refusal]
        return [each for each in found if isinstance(each, str)]

    @property
    def says_something(self) -> bool:
        return bool(self.text or self.arguments or self.results or self.refusals)


class ScreeningRequest(Message):
    """`POST /v2/guard`"""

    model_config = ConfigDict(extra="ignore", frozen=True)

    messages: Annotated[list[ScreenedMessage], Field(min_length=1, max_length=MOST_MESSAGES)]
    project_id: Annotated[str, Field(max_length=256)] | None = None
    """Told back; which policy holds is this guard's own setting, or the key's."""
    breakdown: Flag | None = False
    payload: Flag | None = False
    dev_info: Flag | None = False
    metadata: Any = None

    @field_validator("messages")
    @classmethod
    def not_too_much_stands_beside_the_texts(cls, messages: list[ScreenedMessage]) -> list[ScreenedMessage]:
        if sum(len(each.arguments) + len(each.results) + len(each.refusals) for each in messages) > MOST_BESIDE:
            raise PydanticCustomError(
                "beside", "may have at most {most} tool calls, results and refusals together", {"most": MOST_BESIDE}
            )
        return messages


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


@dataclass(frozen=True, slots=True)
class Plan:
    """How the messages of a chat are judged: as one, or where it is too large for that, each by itself."""

    chat: GuardRequest | None
    requests: list[GuardRequest]
    places: list[int]
    """Where in the body stands the message of each request, or each message of the chat."""
    beside: list[bool] = field(default_factory=list)
    """For each request of a message by itself: whether its text stands beside the content, where offsets count."""


def plan(body: ScreeningRequest, terms: Terms) -> Plan:
    """Return how messages are judged; raises InvalidRequest when one is too long."""
    stored = labels(body.metadata)
    places = [index for index, message in enumerate(body.messages) if message.says_something]
    messages = [_message(body.messages[index], terms) for index in places]
    readable = [message for message in messages if message is not None]
    chat = None
    if len(readable) == len(messages):
        chat = judging.to_chat(readable, terms, metadata=stored)
    if chat is not None:
        return Plan(chat, [chat], places)
    placed = [
        (index, beside, piece)
        for index, message in enumerate(body.messages)
        for beside, piece in _pieces(message, terms)
    ]
    judged = [(index, beside) for index, beside, piece in placed if piece.is_judged]
    return Plan(
        None,
        judging.to_requests([piece for _, _, piece in placed], terms, field="messages", metadata=stored),
        [index for index, _ in judged],
        [beside for _, beside in judged],
    )


def _message(message: ScreenedMessage, terms: Terms) -> ChatMessage | None:
    """Return the message as a chat has it; None where arguments or results are not read string by string."""
    calls = [tool_call(arguments) for arguments in message.arguments]
    results = [tool_result(result) for result in message.results]
    readable = [call for call in calls if call is not None]
    if None in calls or None in results:
        return None
    role = judging.role_of(message.role, judges_operator=terms.judges_operator)
    parts = [ContentPart(type="text", text=message.text), *(each for each in results if each is not None)]
    return ChatMessage(
        role=role,
        content=parts if results else message.text,
        tool_calls=readable or None,
        refusal="\n".join(message.refusals) or None,
    )


def _pieces(message: ScreenedMessage, terms: Terms) -> Iterator[tuple[bool, Piece]]:
    """Yield what is judged of a message, and whether it stands beside its content."""
    source = judging.source_of(message.role, judges_operator=terms.judges_operator)
    yield False, Piece(message.text, source)
    for arguments in message.arguments:
        yield True, Piece(as_text(arguments), source and Source.OUTPUT)
    for result in message.results:
        yield True, Piece(as_text(result), source and Source.TOOL)
    for refusal in message.refusals:
        yield True, Piece(refusal, source)


@dataclass(frozen=True, slots=True)
class _Screened:
    """What was decided of one message."""

    place: int
    decision: Verdict
    categories: list[Category]
    findings: list[Finding]
    all_listed: bool
    """Whether every value that is to be masked stands among the findings."""


def to_answer(
    body: ScreeningRequest,
    planned: Plan,
    answers: Sequence[GuardAnswer | None],
    *,
    request_id: UUID,
    version: str,
) -> ScreeningResult:
    """Return what was detected, by message.

    Args:
        body: what was asked.
        planned: how it was judged.
        answers: one for each of the plan's requests, in order.
        request_id: the answer's own.
        version: of this guard.
    """
    screened = list(_screened(planned, answers))
    found: dict[int, list[str]] = {each.place: [] for each in screened}
    for each in screened:
        found[each.place] += _detected(each)
    decided = next((answer for answer in answers if answer is not None), None)
    return ScreeningResult(
        flagged=any(found.values()) or is_blocked(answers),
        payload=[item for each in screened for item in _located(each)] if body.payload else [],
        breakdown=[
            BreakdownItem(
                project_id=body.project_id or "",
                policy_id=decided.policy if decided else "",
                detector_id=f"detector-vigil-{kind.partition('/')[0].replace('_', '-')}",
                detector_type=kind,
                detected=kind in kinds,
                message_id=place,
            )
            for place, kinds in found.items()
            for kind in dict.fromkeys((*ALWAYS_NAMED, *kinds))
        ]
        if body.breakdown
        else None,
        dev_info=DevInfo(model_version=decided.model_version if decided else "", version=version)
        if body.dev_info
        else None,
        metadata=ResponseMetadata(request_uuid=request_id),
    )


def _screened(planned: Plan, answers: Sequence[GuardAnswer | None]) -> Iterator[_Screened]:
    if planned.chat is None:
        for place, beside, answer in zip(planned.places, planned.beside, answers, strict=True):
            if answer is not None:
                findings = [] if beside else answer.findings
                yield _Screened(place, answer.decision, answer.categories, findings, _lists_all(answer))
        return
    answer = answers[0]
    if answer is None:
        return
    verdicts = answer.messages or []
    for place, verdict in zip(planned.places, verdicts, strict=bool(verdicts)):  # None where nothing was decided.
        # Offsets count in the content: no client can mask arguments, or a refusal.
        maskable = all(each.decision is not Verdict.SANITIZED for each in verdict.arguments or ())
        all_listed = maskable and _lists_all(answer)
        yield _Screened(place, verdict.decision, verdict.categories, verdict.findings, all_listed)
    if answer.decision is Verdict.BLOCKED and not any(each.decision is Verdict.BLOCKED for each in verdicts):
        yield _Screened(planned.places[-1], Verdict.BLOCKED, answer.categories, [], all_listed=True)


def _lists_all(answer: GuardAnswer) -> bool:
    return answer.pii.count == sum(finding.detector == "pii" for finding in answer.findings) <= MAX_LISTED_SPANS


def _detected(screened: _Screened) -> Iterator[str]:
    """Return the detectors that tripped; a block is always told by one that no client takes for maskable."""
    if screened.decision is Verdict.BLOCKED:
        about = set(screened.categories) - {Category.PERSONAL_DATA}
        yield HARMFUL if about == {Category.HARMFUL_CONTENT} else PROMPT_ATTACK
    elif screened.decision is Verdict.SANITIZED:
        kinds = {PERSONAL.get(finding.rule, f"pii/{finding.rule.lower()}"): None for finding in redacted(screened)}
        yield from kinds
        if not kinds or not screened.all_listed:
            yield UNLOCATED


def _located(screened: _Screened) -> Iterator[PayloadItem]:
    for finding in redacted(screened):
        yield PayloadItem(
            start=finding.start,
            end=finding.end,
            detector_type=PERSONAL.get(finding.rule, f"pii/{finding.rule.lower()}"),
            labels=[finding.rule],
            message_id=screened.place,
        )


def redacted(screened: _Screened) -> Iterator[Finding]:
    """Return the findings of personal data that the policy does not let pass."""
    return (each for each in screened.findings if each.detector == "pii" and each.action is Action.REDACT)


class ScreeningError(BaseModel):
    code: int
    error: str
    message: str


def error_body(problem: Problem, retry_after_s: int | None) -> str:
    return ScreeningError(code=problem.status, error=problem.title, message=problem.detail).model_dump_json()
