"""LiteLLM's Generic Guardrail API: the texts of a chat, a completion or any other call of its proxy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, TypedDict

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from app.chat import ChatMessage, ContentPart, Role
from app.contracts import (
    SOURCE_OF,
    FieldError,
    GuardAnswer,
    GuardRequest,
    Message,
    MetadataValue,
    PolicyName,
    Problem,
    Source,
    Verdict,
)
from app.gateways import judging
from app.gateways.judging import Piece, Terms, arguments_of, as_text, is_blocked, tool_call
from app.gateways.labels import labels
from app.tool_calls import ToolCall

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
    structured_messages: list[dict[str, JsonValue]] | None = None
    """All messages to go on with, in place of `texts`: only so can arguments of tool calls be changed."""
    stream_holdback_chars: list[int] | None = None

    def to_json(self) -> str:
        return self.model_dump_json(exclude_none=True)


@dataclass(frozen=True, slots=True)
class Plan:
    """How the texts of a call are judged: as one chat with its tool calls, or each by itself."""

    texts: list[str]
    chat: GuardRequest | None
    rows: list[int]
    """Which of the structured messages each message of the chat is."""
    pieces: list[Piece]
    """The texts, where they are no chat, and arguments that are not read string by string."""
    requests: list[GuardRequest]
    """The chat, or one for each piece that is judged, in order; then the tool calls that stand in no message."""


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
    common: _Common = {"metadata": stored, "policy": policy}
    rows = list(_messages(body, terms)) if body.input_type == "request" else []
    messages = [message for _, message in rows]
    told = [text for message in messages for text in message.texts] == texts
    chat = judging.to_chat(messages, terms, **common) if told else None
    if chat is not None:
        pieces = []
    elif body.input_type == "response":
        pieces = [Piece(text, Source.OUTPUT) for text in texts]
    elif told:
        pieces = [
            Piece(text, None if message.role.instructs else SOURCE_OF[message.role])
            for message in messages
            for text in message.texts
        ]
    else:
        pieces = [Piece(text, Source.INPUT) for text in texts]
    calls, unread = _other_calls(body, messages if chat is not None else [], terms, common)
    pieces += [Piece(as_text(each), Source.OUTPUT) for each in unread]
    requests = judging.to_requests(pieces, terms, field="texts", **common)
    whole, apart = ([each] if each is not None else [] for each in (chat, calls))
    return Plan(texts, chat, [row for row, _ in rows], pieces, [*whole, *requests, *apart])


class _Common(TypedDict):
    metadata: dict[str, MetadataValue]
    policy: PolicyName | None


def _messages(body: GuardrailCall, terms: Terms) -> Iterator[tuple[int, ChatMessage]]:
    """Return the messages with what is judged of them, and which row each is: in the order in which LiteLLM lists
    texts, by message and part."""
    for index, row in enumerate(body.structured_messages or []):
        content = row.get("content")
        role = judging.role_of(str(row.get("role") or "user"), judges_operator=terms.judges_operator)
        calls = [call for _, call in _calls(row)] or None
        if isinstance(content, str):
            yield index, ChatMessage(role=role, content=content, tool_calls=calls)
        elif (texts := judging.text_parts(content)) or calls:
            parts = [ContentPart(type="text", text=text) for text in texts]
            yield index, ChatMessage(role=role, content=parts or None, tool_calls=calls)


def _calls(row: Mapping[str, JsonValue]) -> Iterator[tuple[int, ToolCall]]:
    """Return the calls of a message whose arguments are read string by string, each with its place."""
    for index, call in enumerate(_listed(row)):
        arguments = arguments_of(call)
        if arguments is not None and (read := tool_call(arguments)) is not None:
            yield index, read


def _listed(row: Mapping[str, JsonValue]) -> list[JsonValue]:
    calls = row.get("tool_calls")
    return calls if isinstance(calls, list) else []


def _other_calls(
    body: GuardrailCall, messages: Sequence[ChatMessage], terms: Terms, common: _Common
) -> tuple[GuardRequest | None, list[JsonValue]]:
    """Return a request for the calls that stand in no message of the chat, and what must be judged as a text."""
    told = {as_text(call.value) for message in messages for call in message.calls}
    listed = [*(body.tool_calls or []), *(call for row in body.structured_messages or [] for call in _listed(row))]
    arguments = [each for each in map(arguments_of, listed) if each is not None]
    # LiteLLM tells the calls of a request's messages twice.
    other: list[JsonValue] = list({as_text(each): each for each in arguments if as_text(each) not in told}.values())
    calls = [call for call in map(tool_call, other) if call is not None]
    if calls and len(calls) == len(other):
        request = judging.to_chat([ChatMessage(role=Role.ASSISTANT, tool_calls=calls)], terms, **common)
        if request is not None:
            return request, []
    return None, other


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
    rows = _rows(body, planned, answers[0]) if planned.chat is not None else None
    return GuardrailOutcome(
        action="GUARDRAIL_INTERVENED" if changed or rows else "NONE",
        texts=texts if changed else None,
        structured_messages=rows,
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


def _rows(body: GuardrailCall, planned: Plan, answer: GuardAnswer | None) -> list[dict[str, JsonValue]] | None:
    """Return all messages to go on with where arguments of one of them were changed; else texts say it all."""
    if answer is None or answer.decision is not Verdict.SANITIZED or body.structured_messages is None:
        return None
    verdicts = [each.decision for message in answer.messages or [] for each in message.arguments or ()]
    if Verdict.SANITIZED not in verdicts:
        return None
    rows = list(body.structured_messages)
    for index, message in zip(planned.rows, answer.sanitized_messages or [], strict=True):
        rows[index] = _row(rows[index], message)
    return rows


def _row(row: dict[str, JsonValue], message: ChatMessage) -> dict[str, JsonValue]:
    """Return a message as LiteLLM told it, with the texts and arguments of this one."""
    content, calls = row.get("content"), _listed(row)
    texts = iter(message.texts)
    changed = dict(row)
    if isinstance(content, str):
        changed["content"] = next(texts)
    elif isinstance(content, list):
        changed["content"] = [
            {**part, "text": next(texts)} if isinstance(part, dict) and isinstance(part.get("text"), str) else part
            for part in content
        ]
    if calls:
        arguments = {place: call.value for (place, _), call in zip(_calls(row), message.calls, strict=True)}
        changed["tool_calls"] = [
            _with_arguments(call, arguments[place]) if place in arguments else call for place, call in enumerate(calls)
        ]
    return changed


def _with_arguments(call: JsonValue, arguments: JsonValue) -> JsonValue:
    for kind, field in (("function", "arguments"), ("custom", "input")):
        if isinstance(call, dict) and isinstance(held := call.get(kind), dict) and held.get(field) is not None:
            return {**call, kind: {**held, field: arguments}}
    return call


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
