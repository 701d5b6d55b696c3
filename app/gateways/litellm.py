"""LiteLLM's Generic Guardrail API: the texts of a chat, a completion or any other call of its proxy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from app.chat import ChatMessage, ContentPart
from app.contracts import (
    SOURCE_OF,
    FieldError,
    GuardAnswer,
    GuardRequest,
    Message,
    PolicyName,
    Problem,
    Source,
    Verdict,
)
from app.gateways import judging
from app.gateways.judging import Piece, Terms, is_blocked
from app.gateways.labels import labels

STORED: Final = (
    "user_api_key_alias",
    "user_api_key_team_id",
    "user_api_key_team_alias",
    "user_api_key_org_id",
)
"""What of the caller's key is stored as labels: no e-mail address, no hash of a key, no person's id."""
MOST_TEXTS: Final = 1000
"""Most texts of one request; what all of them may take together is bounded by the body."""
HELD_BACK: Final = 256
"""Characters at the end of an answer that is still being written which LiteLLM does not send yet: it has the text so
far judged again and again, and cannot take back what it sent. Longer values are tokens without white space."""
LONGEST_HELD_BACK: Final = 4096
"""A token that goes on for longer than this is no value that anything here looks for."""


class ProviderParameters(Message):
    """What a guardrail's configuration adds to each request."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    policy: PolicyName | None = None


class GuardrailCall(Message):
    """`POST /beta/litellm_basic_guardrail_api`, as LiteLLM 1.108 sends it; others send other fields too."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    input_type: Literal["request", "response"]
    texts: Annotated[list[str], Field(max_length=MOST_TEXTS)] | None = None
    structured_messages: list[dict[str, JsonValue]] | None = None
    """The same texts with their roles; absent where the call is no chat."""
    tool_calls: Annotated[list[dict[str, JsonValue]], Field(max_length=MOST_TEXTS)] | None = None
    request_data: dict[str, Any] | None = None
    litellm_call_id: str | None = None
    litellm_trace_id: str | None = None
    model: str | None = None
    additional_provider_specific_params: ProviderParameters | None = None


class GuardrailOutcome(BaseModel):
    """What LiteLLM reads: without `texts` it goes on with its own."""

    action: Literal["BLOCKED", "GUARDRAIL_INTERVENED", "NONE"]
    blocked_reason: str | None = None
    texts: list[str] | None = None
    stream_holdback_chars: list[int] | None = None

    def to_json(self) -> str:
        return self.model_dump_json(exclude_none=True)


@dataclass(frozen=True, slots=True)
class Plan:
    """How the texts of a call are judged: as one chat, or each by itself; arguments of tool calls always so."""

    texts: list[str]
    chat: GuardRequest | None
    pieces: list[Piece]
    """The texts, where they are no chat, and the arguments."""
    requests: list[GuardRequest]
    """The chat, or one for each piece that is judged; in order."""


def plan(body: GuardrailCall, terms: Terms) -> Plan:
    """Return how a call is judged; raises InvalidRequest when a text is too long.

    A call whose messages are told is a chat; where they do not account for all its texts, each is judged as what it
    came as.
    """
    texts = body.texts or []
    stored = labels(
        {
            "litellm_call_id": body.litellm_call_id,
            "litellm_trace_id": body.litellm_trace_id,
            "model": body.model,
        },
        {name: value for name, value in (body.request_data or {}).items() if name in STORED},
    )
    policy = body.additional_provider_specific_params.policy if body.additional_provider_specific_params else None
    arguments = [Piece(each, Source.OUTPUT) for each in _arguments(body)]
    messages = list(_messages(body, terms)) if body.input_type == "request" else []
    told = sum(len(message.texts) for message in messages) == len(texts)
    chat = judging.to_chat(messages, terms, metadata=stored, policy=policy) if told else None
    if chat is not None:
        alone = judging.to_requests(arguments, terms, field="tool_calls", metadata=stored, policy=policy)
        return Plan(texts, chat, arguments, [chat, *alone])
    if body.input_type == "response":
        pieces = [Piece(text, Source.OUTPUT) for text in texts]
    elif told:
        pieces = [
            Piece(text, None if message.role.instructs else SOURCE_OF[message.role])
            for message in messages
            for text in message.texts
        ]
    else:
        pieces = [Piece(text, Source.INPUT) for text in texts]
    pieces += arguments
    return Plan(texts, None, pieces, judging.to_requests(pieces, terms, field="texts", metadata=stored, policy=policy))


def _messages(body: GuardrailCall, terms: Terms) -> Iterator[ChatMessage]:
    """Return the messages with their texts alone, in the order in which LiteLLM lists texts: by message and part."""
    for message in body.structured_messages or []:
        content = message.get("content")
        role = judging.role_of(str(message.get("role") or "user"), judges_operator=terms.judges_operator)
        if isinstance(content, str):
            yield ChatMessage(role=role, content=content)
        elif texts := judging.text_parts(content):
            yield ChatMessage(role=role, content=[ContentPart(type="text", text=text) for text in texts])


def _arguments(body: GuardrailCall) -> Iterator[str]:
    """Return what a model wants to call its tools with: judged, and never changed, as the contract has no way to."""
    for call in body.tool_calls or []:
        function = call.get("function")
        if isinstance(function, dict) and isinstance(arguments := function.get("arguments"), str):
            yield arguments


def to_answer(
    body: GuardrailCall, planned: Plan, answers: Sequence[GuardAnswer | None], *, block_message: str
) -> GuardrailOutcome:
    """Return the one outcome of all texts.

    Args:
        body: what was asked.
        planned: how it was judged.
        answers: one for each of the plan's requests, in order.
        block_message: what the caller reads in place of a blocked text.
    """
    texts = _texts(planned, answers)
    if is_blocked(answers) or len(texts) != len(planned.texts):
        return GuardrailOutcome(action="BLOCKED", blocked_reason=block_message)
    changed = texts != planned.texts
    return GuardrailOutcome(
        action="GUARDRAIL_INTERVENED" if changed else "NONE",
        texts=texts if changed else None,
        stream_holdback_chars=[held_back_of(text) for text in texts] if body.input_type == "response" else None,
    )


def _texts(planned: Plan, answers: Sequence[GuardAnswer | None]) -> list[str]:
    """Return the texts to go on with."""
    if planned.chat is None:
        decided = iter(answers)
        pieces = planned.pieces[: len(planned.texts)]
        return [_text_of(piece, next(decided) if piece.is_judged else None) for piece in pieces]
    answer = answers[0]
    if answer is None or answer.decision is not Verdict.SANITIZED:
        return planned.texts
    return [text for message in answer.sanitized_messages or [] for text in message.texts]


def _text_of(piece: Piece, answer: GuardAnswer | None) -> str:
    if answer is not None and answer.decision is Verdict.SANITIZED:
        return answer.sanitized_text or ""
    return piece.text


def held_back_of(text: str) -> int:
    """Return how many characters at the end of a text may still turn out to belong to a value that is redacted."""
    start = max(0, len(text) - HELD_BACK)
    while start > max(0, len(text) - LONGEST_HELD_BACK) and not text[start - 1].isspace():
        start -= 1
    return len(text) - start


class GuardrailRefusal(BaseModel):
    """LiteLLM goes by the status; to whoever reads the body alone it says that the text must not pass."""

    action: Literal["BLOCKED"] = "BLOCKED"
    blocked_reason: str
    errors: list[FieldError] = []


def error_body(problem: Problem, retry_after_s: int | None) -> str:
    return GuardrailRefusal(blocked_reason=problem.detail, errors=problem.errors).model_dump_json()
