"""LiteLLM's Generic Guardrail API: the texts of a chat, a completion or any other call of its proxy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from app.contracts import FieldError, GuardAnswer, GuardRequest, Message, PolicyName, Problem, Source, Verdict
from app.gateways import judging
from app.gateways.judging import Piece, is_blocked, source_of, text_parts
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


def pieces(body: GuardrailCall, *, judges_operator: bool) -> list[Piece]:
    """Return the texts of a body and how each is judged: by its role where roles are told, else as what it came as."""
    texts = body.texts or []
    if body.input_type == "response":
        return [Piece(text, Source.OUTPUT) for text in texts]
    roles = list(_roles(body.structured_messages or []))
    if len(roles) != len(texts):
        return [Piece(text, Source.INPUT) for text in texts]
    return [
        Piece(text, source_of(role, judges_operator=judges_operator)) for text, role in zip(texts, roles, strict=True)
    ]


def tool_arguments(body: GuardrailCall) -> list[Piece]:
    """Return what a model wants to call its tools with: judged, and never changed, as the contract has no way to."""
    functions = (call.get("function") for call in body.tool_calls or [])
    arguments = (function.get("arguments") for function in functions if isinstance(function, dict))
    return [Piece(each, Source.OUTPUT) for each in arguments if isinstance(each, str)]


def _roles(messages: Sequence[dict[str, JsonValue]]) -> Iterator[str]:
    """Return the role of each text in the order in which LiteLLM lists texts: by message, then by part."""
    for message in messages:
        for _ in text_parts(message.get("content")):
            yield str(message.get("role") or "user")


def to_requests(
    body: GuardrailCall, judged: Sequence[Piece], *, deadline_ms: int, text_limit: int
) -> list[GuardRequest]:
    """Return a request for each text that is judged; raises InvalidRequest when one is too long."""
    stored = labels(
        {
            "litellm_call_id": body.litellm_call_id,
            "litellm_trace_id": body.litellm_trace_id,
            "model": body.model,
        },
        {name: value for name, value in (body.request_data or {}).items() if name in STORED},
    )
    parameters = body.additional_provider_specific_params
    return judging.to_requests(
        judged,
        field="texts",
        text_limit=text_limit,
        deadline_ms=deadline_ms,
        metadata=stored,
        policy=parameters.policy if parameters else None,
    )


def to_answer(
    body: GuardrailCall, judged: Sequence[Piece], answers: Sequence[GuardAnswer | None], *, block_message: str
) -> GuardrailOutcome:
    """Return the one outcome of all texts.

    Args:
        body: what was asked.
        judged: its texts, and behind them the arguments of its tool calls.
        answers: one for each piece that is judged, in order.
        block_message: what the caller reads in place of a blocked text.
    """
    if is_blocked(answers):
        return GuardrailOutcome(action="BLOCKED", blocked_reason=block_message)
    count = len(body.texts or [])
    decided = iter(answers)
    texts = [_text_of(piece, next(decided) if piece.is_judged else None) for piece in judged[:count]]
    held_back = [held_back_of(text) for text in texts] if body.input_type == "response" else None
    changed = texts != [piece.text for piece in judged[:count]]
    return GuardrailOutcome(
        action="GUARDRAIL_INTERVENED" if changed else "NONE",
        texts=texts if changed else None,
        stream_holdback_chars=held_back,
    )


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
