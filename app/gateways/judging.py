"""Several texts of one request judged side by side, and the one outcome that comes of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue, ValidationError

from app.chat import ChatMessage, ContentPart, Role, conversation_length, utterances
from app.contracts import SOURCE_OF, GuardAnswer, GuardRequest, MetadataValue, Source, Verdict
from app.errors import InvalidRequest
from app.tool_arguments import MOST_TEXTS
from app.tool_calls import FunctionCall, ToolCall

Judge = Callable[[GuardRequest], Awaitable[GuardAnswer]]
"""Decides one text; raises what `POST /guard` answers with."""
ROLES: Final = {role.value: role for role in Role} | {"model": Role.ASSISTANT}
"""How the messages of a chat are judged, by role; any other role is judged as a user's."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One text of a request and how it is judged."""

    text: str
    source: Source | None
    """None: it is not judged and stays as it is."""

    @property
    def is_judged(self) -> bool:
        return self.source is not None and bool(self.text) and not self.text.isspace()


def source_of(role: str, *, judges_operator: bool) -> Source | None:
    """Return as what a text of this role is judged by itself; None for an operator's, which is not."""
    known = role_of(role, judges_operator=judges_operator)
    return None if known.instructs else SOURCE_OF[known]


def text_parts(content: JsonValue) -> list[str]:
    """Return the texts of a chat message's content (a string, or parts as OpenAI writes them), in order. A part may be
    a bare string: vLLM reads such."""
    if isinstance(content, str):
        return [content]
    parts = content if isinstance(content, list) else []
    texts = (part.get("text") if isinstance(part, dict) else part for part in parts)
    return [text for text in texts if isinstance(text, str)]


def arguments_of(call: JsonValue) -> JsonValue:
    """Return the arguments of one tool call as OpenAI writes it; None where it has none."""
    if not isinstance(call, dict):
        return None
    for kind, field in (("function", "arguments"), ("custom", "input")):
        if isinstance(held := call.get(kind), dict) and held.get(field) is not None:
            return held[field]
    return None


def tool_call(arguments: JsonValue) -> ToolCall | None:
    """Return a call with these arguments; None where they are too deep or too many to be read string by string."""
    try:
        return ToolCall(function=FunctionCall(arguments=arguments))
    except ValidationError:
        return None


def tool_result(result: JsonValue) -> ContentPart | None:
    """Return a part with what a tool gave back; None where it is too deep or too long to be read string by string."""
    try:
        return ContentPart(type="tool_result", content=result)
    except ValidationError:
        return None


def as_text(arguments: JsonValue) -> str:
    """Return arguments as the one text that they are judged as where they are not read string by string."""
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Terms:
    """What all requests of one call have in common."""

    text_limit: int
    """Longest text, or all texts of a chat together."""
    messages_limit: int
    deadline_ms: int
    """How long the client will wait."""
    judges_operator: bool = False


def to_requests(
    pieces: Sequence[Piece],
    terms: Terms,
    *,
    field: str,
    metadata: dict[str, MetadataValue],
    policy: str | None = None,
) -> list[GuardRequest]:
    """Return a request for each piece that is judged, in order.

    Args:
        pieces: the texts.
        terms: what holds for all.
        field: where they stand in the body, for the error.
        metadata: labels, the same for all.
        policy: None for the caller's own, or the default.

    Raises:
        InvalidRequest: a text is too long.
    """
    requests: list[GuardRequest] = []
    for index, piece in enumerate(pieces):
        if not piece.is_judged:
            continue
        if len(piece.text) > terms.text_limit:
            reason = f"must be at most {terms.text_limit} characters, not {len(piece.text)}"
            raise InvalidRequest(f"{field}.{index}: {reason}", faults=((f"{field}.{index}", reason),))
        judged = {"text": piece.text, "source": piece.source}
        requests.append(_request(judged, terms, metadata, policy))
    return requests


def to_chat(
    messages: Sequence[ChatMessage],
    terms: Terms,
    *,
    metadata: dict[str, MetadataValue],
    policy: str | None = None,
) -> GuardRequest | None:
    """Return the one request that a chat makes: one decision, and placeholders that mean the same in all messages.

    None where it is no chat to the guard: too many messages, too long together, or nothing to judge; each text is then
    a request of its own.
    """
    spoken = any(message.says_something for message in messages if not message.role.instructs)
    if not (spoken and len(messages) <= terms.messages_limit and conversation_length(messages) <= terms.text_limit):
        return None
    said = list(utterances(messages))
    if len(said) - len(messages) > terms.messages_limit or sum(len(each.texts) for each in said) > MOST_TEXTS:
        return None
    return _request({"messages": list(messages)}, terms, metadata, policy)


def role_of(role: str, *, judges_operator: bool) -> Role:
    """Return as whose a message is judged: an operator's as a user's where it is to be judged."""
    known = ROLES.get(role.lower(), Role.USER)
    return Role.USER if known.instructs and judges_operator else known


def _request(
    judged: Mapping[str, object], terms: Terms, metadata: dict[str, MetadataValue], policy: str | None
) -> GuardRequest:
    return GuardRequest.model_validate(
        {**judged, "policy": policy, "metadata": metadata, "deadline_ms": terms.deadline_ms},
        context={"text_limit": terms.text_limit},
    )


async def judge_all(judge: Judge, requests: Sequence[GuardRequest]) -> list[GuardAnswer | None]:
    """Decide all requests, in their order; the same text from the same source is decided once.

    None stands for one that could not be decided, and only where another is BLOCKED: a block needs no further answer.

    Raises:
        VigilError: one could not be decided, and none of the others is BLOCKED.
    """
    distinct = _distinct(requests)
    results = await asyncio.gather(*(judge(request) for request in distinct.values()), return_exceptions=True)
    answers = {
        key: result for key, result in zip(distinct, results, strict=True) if not isinstance(result, BaseException)
    }
    for result in results:
        if isinstance(result, BaseException) and not is_blocked(answers.values()):
            raise result
    return [answers.get((request.identity, request.source)) for request in requests]


def count_of(requests: Sequence[GuardRequest]) -> int:
    """Return how many decisions `judge_all` asks for, which is what the caller is charged."""
    return len(_distinct(requests))


def _distinct(requests: Sequence[GuardRequest]) -> dict[tuple[str, Source], GuardRequest]:
    return {(request.identity, request.source): request for request in reversed(requests)}


def is_blocked(answers: Iterable[GuardAnswer | None]) -> bool:
    return any(answer is not None and answer.decision is Verdict.BLOCKED for answer in answers)
