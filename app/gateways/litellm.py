"""LiteLLM's Generic Guardrail API: the texts of a chat, a completion or any other call of its proxy."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, TypedDict

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator
from pydantic_core import PydanticCustomError

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
MOST_PARTS: Final = 3 * MOST_TEXTS
"""Most parts, tool calls and refusals of all messages: each may have to be judged by itself."""
HELD_BACK: Final = 256
"""Characters at the end of an answer that is still being written which LiteLLM does not send yet: it has the text so
far judged again and again, and cannot take back what it sent. Longer values are tokens without white space."""
LONGEST_HELD_BACK: Final = 4096
"""A token that goes on for longer than this is no value that anything here looks for."""
NOT_REPLACED: Final = "It holds personal data where none can be replaced: in a tool call or a refusal."
"""Why a call is blocked whose personal data was to be redacted, where the contract has no way to tell the result."""


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

    @field_validator("structured_messages")
    @classmethod
    def messages_have_not_too_many_parts(cls, rows: list[dict[str, JsonValue]] | None) -> Any:
        if sum(map(_parts_of, rows or ())) > MOST_PARTS:
            raise PydanticCustomError(
                "parts", "may have at most {most} parts, tool calls and refusals together", {"most": MOST_PARTS}
            )
        return rows


class GuardrailOutcome(BaseModel):
    """What LiteLLM reads: without `texts` it goes on with its own."""

    action: Literal["BLOCKED", "GUARDRAIL_INTERVENED", "NONE"]
    blocked_reason: str | None = None
    texts: list[str] | None = None
    structured_messages: list[dict[str, JsonValue]] | None = None
    """All messages to go on with, in place of `texts`: only so can arguments of tool calls and refusals be changed."""
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
    """The texts, where they are no chat."""
    unread: list[JsonValue]
    """Arguments that are not read string by string: each is judged as a text."""
    refusals: list[Piece]
    """Refusals, which are not among the texts, where they are no chat."""
    calls: list[JsonValue]
    """Arguments that the last request has as the tool calls of one message; empty where there is no such request."""
    requests: list[GuardRequest]
    """The chat; one for each piece that is judged, unread arguments and refusals behind the others; the calls."""


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
    told = [text for message in messages for text in _told(message)] == texts
    chat = judging.to_chat(messages, terms, **common) if told else None
    pieces: list[Piece] = []
    refusals: list[Piece] = []
    if chat is None:
        if told and body.input_type == "request":
            pieces = [Piece(text, _source(message)) for message in messages for text in _told(message)]
        else:
            pieces = [Piece(text, Source.OUTPUT if body.input_type == "response" else Source.INPUT) for text in texts]
        refusals = [
            Piece(text, _source(message) if told else Source.INPUT)
            for message in messages
            for text in _refusals(message)
        ]
    apart, calls, unread = _other_calls(body, messages if chat is not None else [], terms, common)
    judged = [*pieces, *(Piece(as_text(each), Source.OUTPUT) for each in unread), *refusals]
    requests = judging.to_requests(judged, terms, field="texts", **common)
    whole, last = ([each] if each is not None else [] for each in (chat, apart))
    return Plan(texts, chat, [row for row, _ in rows], pieces, unread, refusals, calls, [*whole, *requests, *last])


class _Common(TypedDict):
    metadata: dict[str, MetadataValue]
    policy: PolicyName | None


def _messages(body: GuardrailCall, terms: Terms) -> Iterator[tuple[int, ChatMessage]]:
    """Return the messages with what is judged of them, and which row each is: in the order in which LiteLLM lists
    texts, by message and part."""
    for index, row in enumerate(body.structured_messages or []):
        content, refusal = row.get("content"), row.get("refusal")
        parts = [each for each in map(_part, content if isinstance(content, list) else []) if each is not None]
        calls = [call for _, call in _calls(row)]
        if isinstance(content, str) or isinstance(refusal, str) or parts or calls:
            yield (
                index,
                ChatMessage(
                    role=judging.role_of(str(row.get("role") or "user"), judges_operator=terms.judges_operator),
                    content=content if isinstance(content, str) else parts or None,
                    refusal=refusal if isinstance(refusal, str) else None,
                    tool_calls=calls or None,
                ),
            )


def _part(part: JsonValue) -> ContentPart | None:
    """Return a part of a row's content with its text and refusal; None where it has neither."""
    text, refusal = (
        held if isinstance(part, dict) and isinstance(held := part.get(name), str) else None
        for name in ("text", "refusal")
    )
    if text is None and refusal is None:
        return None
    return ContentPart(type="text" if text is not None else "refusal", text=text, refusal=refusal)


def _told(message: ChatMessage) -> list[str]:
    """Return the texts of a message that LiteLLM lists: all but refusals."""
    if isinstance(message.content, list):
        return [part.text for part in message.content if part.text is not None]
    return message.texts


def _refusals(message: ChatMessage) -> list[str]:
    parts = message.content if isinstance(message.content, list) else []
    found = [*(part.refusal for part in parts), message.refusal]
    return [each for each in found if isinstance(each, str)]


def _source(message: ChatMessage) -> Source | None:
    """Return as what a text of a message is judged by itself; None for an operator's, which is not."""
    return None if message.role.instructs else SOURCE_OF[message.role]


def _arguments(message: ChatMessage) -> list[JsonValue]:
    return [call.function.arguments for call in message.tool_calls or () if call.function is not None]


def _calls(row: Mapping[str, JsonValue]) -> Iterator[tuple[int, ToolCall]]:
    """Return the calls of a message whose arguments are read string by string, each with its place."""
    for index, call in enumerate(_listed(row)):
        arguments = arguments_of(call)
        if arguments is not None and (read := tool_call(arguments)) is not None:
            yield index, read


def _listed(row: Mapping[str, JsonValue]) -> list[JsonValue]:
    """Return the tool calls of a message, what was called as tools were first behind the others."""
    calls = list(_tool_calls(row))
    if isinstance(first := row.get("function_call"), dict):
        calls.append({"function": first})
    return calls


def _parts_of(row: Mapping[str, JsonValue]) -> int:
    """Return how many texts and arguments a message may hold."""
    content = row.get("content")
    parts = len(content) if isinstance(content, list) else isinstance(content, str)
    return parts + len(_listed(row)) + isinstance(row.get("refusal"), str)


def _tool_calls(row: Mapping[str, JsonValue]) -> list[JsonValue]:
    calls = row.get("tool_calls")
    return calls if isinstance(calls, list) else []


def _other_calls(
    body: GuardrailCall, messages: Sequence[ChatMessage], terms: Terms, common: _Common
) -> tuple[GuardRequest | None, list[JsonValue], list[JsonValue]]:
    """Return a request for the calls that stand in no message of the chat with the arguments it has, and arguments that
    must be judged as a text."""
    told = {as_text(arguments) for message in messages for arguments in _arguments(message)}
    listed = [*(body.tool_calls or []), *(call for row in body.structured_messages or [] for call in _listed(row))]
    arguments = [each for each in map(arguments_of, listed) if each is not None]
    # LiteLLM tells the calls of a request's messages twice.
    other: list[JsonValue] = list({as_text(each): each for each in arguments if as_text(each) not in told}.values())
    calls = [call for call in map(tool_call, other) if call is not None]
    if calls and len(calls) == len(other):
        request = judging.to_chat([ChatMessage(role=Role.ASSISTANT, tool_calls=calls)], terms, **common)
        if request is not None:
            return request, other, []
    return None, [], other


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
    decided = _decided(planned, answers)
    if is_blocked(answers) or len(decided.texts) != len(planned.texts):
        return GuardrailOutcome(action="BLOCKED", blocked_reason=block_message)
    changed = decided.texts != planned.texts
    rows = _rows(body, planned, decided) if decided.is_beside_texts else None
    if decided.is_beside_texts and rows is None:
        return GuardrailOutcome(action="BLOCKED", blocked_reason=f"{block_message} {NOT_REPLACED}")
    return GuardrailOutcome(
        action="GUARDRAIL_INTERVENED" if changed or rows else "NONE",
        texts=decided.texts if changed else None,
        structured_messages=rows,
        stream_holdback_chars=[held_back_of(text) for text in decided.texts] if body.input_type == "response" else None,
    )


@dataclass(frozen=True, slots=True)
class _Decided:
    """What is to be gone on with."""

    texts: list[str]
    chat: list[ChatMessage] | None
    """All messages of the chat; None where they stay, or are none."""
    words: dict[str, str]
    """What stands for each text and refusal that was judged by itself and is to be replaced."""
    arguments: dict[str, JsonValue | None]
    """The same for arguments outside the chat, by their text; None where they cannot be written anew."""
    is_beside_texts: bool
    """Whether anything is to be replaced that is not among the texts."""


def _decided(planned: Plan, answers: Sequence[GuardAnswer | None]) -> _Decided:
    left = iter(answers)
    texts, chat, words, beside = planned.texts, None, dict[str, str](), False
    arguments: dict[str, JsonValue | None] = {}
    if planned.chat is not None:
        answer = next(left)
        if answer is not None and answer.decision is Verdict.SANITIZED:
            chat = answer.sanitized_messages or []
            texts = [text for message in chat for text in _told(message)]
            beside = list(map(_beside_texts, chat)) != list(map(_beside_texts, planned.chat.messages or []))
    else:
        texts = [_text_of(piece, next(left) if piece.is_judged else None) for piece in planned.pieces]
        words = {old: new for old, new in zip(planned.texts, texts, strict=True) if new != old}
    for each in planned.unread:
        piece = Piece(as_text(each), Source.OUTPUT)
        text = _text_of(piece, next(left) if piece.is_judged else None)
        if text != piece.text:
            arguments[piece.text] = _written_anew(each, text)
    for piece in planned.refusals:
        text = _text_of(piece, next(left) if piece.is_judged else None)
        if text != piece.text:
            words[piece.text], beside = text, True
    last = next(left) if planned.calls else None
    if last is not None and last.decision is Verdict.SANITIZED:
        sanitized = [each for message in last.sanitized_messages or () for each in _arguments(message)]
        for place, each in enumerate(planned.calls):
            new = sanitized[place] if place < len(sanitized) else None
            if new != each:
                arguments[as_text(each)] = new
    return _Decided(texts, chat, words, arguments, beside or bool(arguments))


def _beside_texts(message: ChatMessage) -> list[JsonValue]:
    return [*_refusals(message), *_arguments(message)]


def _text_of(piece: Piece, answer: GuardAnswer | None) -> str:
    if answer is not None and answer.decision is Verdict.SANITIZED:
        return answer.sanitized_text or ""
    return piece.text


def _written_anew(arguments: JsonValue, text: str) -> JsonValue | None:
    """Return arguments that were judged as one text in the shape they came, of the text to use; None where that is no
    longer JSON."""
    if isinstance(arguments, str):
        return text if _is_json(text) or not _is_json(arguments) else None
    return json.loads(text) if _is_json(text) else None


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _rows(body: GuardrailCall, planned: Plan, decided: _Decided) -> list[dict[str, JsonValue]] | None:
    """Return all messages to go on with; None where something that is to be replaced stands in none of them."""
    chat = [] if decided.chat is None else decided.chat
    if None in decided.arguments.values() or (decided.chat is not None and len(chat) != len(planned.rows)):
        return None
    messages = dict(zip(planned.rows, chat, strict=False))
    words_left, arguments_left = set(decided.words), set(decided.arguments)

    def word_for(word: str) -> str:
        words_left.discard(word)
        return decided.words.get(word, word)

    def arguments_for(arguments: JsonValue) -> JsonValue:
        arguments_left.discard(as_text(arguments))
        return decided.arguments.get(as_text(arguments), arguments)

    rows = [
        _row(row, messages.get(index), word_for, arguments_for)
        for index, row in enumerate(body.structured_messages or [])
    ]
    return None if words_left or arguments_left else rows


def _row(
    row: dict[str, JsonValue],
    message: ChatMessage | None,
    word_for: Callable[[str], str],
    arguments_for: Callable[[JsonValue], JsonValue],
) -> dict[str, JsonValue]:
    """Return a message as LiteLLM told it with other texts, refusals and arguments.

    Args:
        row: as it was told.
        message: of the chat, as it is to be used; None where the other two say what is.
        word_for: what stands for a text or a refusal.
        arguments_for: what stands for the arguments of a call that the message does not have.
    """
    read: dict[int, JsonValue] = {}
    if message is not None:
        said = iter(_words(message))

        def word_for(_: str) -> str:
            return next(said)

        read = {place: new for (place, _), new in zip(_calls(row), _arguments(message), strict=True)}

    def filled(part: JsonValue) -> JsonValue:
        if not isinstance(part, dict):
            return part
        return part | {name: word_for(held) for name in ("text", "refusal") if isinstance(held := part.get(name), str)}

    changed = dict(row)
    if isinstance(content := row.get("content"), str):
        changed["content"] = word_for(content)
    elif isinstance(content, list):
        changed["content"] = [filled(part) for part in content]
    if isinstance(refusal := row.get("refusal"), str):
        changed["refusal"] = word_for(refusal)
    if calls := _listed(row):
        used = [
            _with_arguments(call, read[place] if place in read else arguments_for(arguments))
            if (arguments := arguments_of(call)) is not None
            else call
            for place, call in enumerate(calls)
        ]
        count = len(_tool_calls(row))
        if count:
            changed["tool_calls"] = used[:count]
        for call in used[count:]:
            changed["function_call"] = call["function"] if isinstance(call, dict) else call
    return changed


def _words(message: ChatMessage) -> Iterator[str]:
    """Yield the texts and refusals of a message in the order in which they stand in its row."""
    if isinstance(message.content, str):
        yield message.content
    else:
        for part in message.content or ():
            yield from (each for each in (part.text, part.refusal) if each is not None)
    if isinstance(message.refusal, str):
        yield message.refusal


def _with_arguments(call: JsonValue, arguments: JsonValue) -> JsonValue:
    for kind, field in (("function", "arguments"), ("custom", "input")):
        if isinstance(call, dict) and isinstance(held := call.get(kind), dict) and held.get(field) is not None:
            return {**call, kind: {**held, field: arguments}}
    return call


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
