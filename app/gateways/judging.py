"""Several texts of one request judged side by side, and the one outcome that comes of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from app.contracts import GuardAnswer, GuardRequest, MetadataValue, Source, Verdict
from app.errors import InvalidRequest

Judge = Callable[[GuardRequest], Awaitable[GuardAnswer]]
"""Decides one text; raises what `POST /guard` answers with."""
SOURCES: Final = {
    "user": Source.INPUT,
    "assistant": Source.OUTPUT,
    "model": Source.OUTPUT,
    "tool": Source.TOOL,
    "function": Source.TOOL,
}
"""How the messages of a chat are judged, by role; any other role is judged as a user's."""
OPERATOR_ROLES: Final = frozenset({"system", "developer"})
"""Who writes these may give orders: they are not judged unless a setting says so."""


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
    role = role.lower()
    if role in OPERATOR_ROLES and not judges_operator:
        return None
    return SOURCES.get(role, Source.INPUT)


def text_parts(content: JsonValue) -> list[str]:
    """Return the texts of a chat message's content (a string, or parts as OpenAI writes them), in order."""
    if isinstance(content, str):
        return [content]
    if isinstance(content, list):
        return [part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)]  # type: ignore[misc]
    return []


def to_requests(
    pieces: Sequence[Piece],
    *,
    field: str,
    text_limit: int,
    deadline_ms: int,
    metadata: dict[str, MetadataValue],
    policy: str | None = None,
) -> list[GuardRequest]:
    """Return a request for each piece that is judged, in order.

    Args:
        pieces: the texts.
        field: where they stand in the body, for the error.
        text_limit: longest accepted text.
        deadline_ms: how long the client will wait.
        metadata: labels, the same for all.
        policy: None for the caller's own, or the default.

    Raises:
        InvalidRequest: a text is too long.
    """
    requests: list[GuardRequest] = []
    for index, piece in enumerate(pieces):
        if not piece.is_judged:
            continue
        if len(piece.text) > text_limit:
            reason = f"must be at most {text_limit} characters, not {len(piece.text)}"
            raise InvalidRequest(f"{field}.{index}: {reason}", faults=((f"{field}.{index}", reason),))
        requests.append(
            GuardRequest.model_validate(
                {
                    "text": piece.text,
                    "source": piece.source,
                    "policy": policy,
                    "metadata": metadata,
                    "deadline_ms": deadline_ms,
                },
                context={"text_limit": text_limit},
            )
        )
    return requests


async def judge_all(judge: Judge, requests: Sequence[GuardRequest]) -> list[GuardAnswer | None]:
    """Decide all requests, in their order; the same text from the same source is decided once.

    None stands for one that could not be decided, and only where another is BLOCKED: a block needs no further answer.

    Raises:
        VigilError: one could not be decided, and none of the others is BLOCKED.
    """
    distinct = {(request.text, request.source): request for request in reversed(requests)}
    results = await asyncio.gather(*(judge(request) for request in distinct.values()), return_exceptions=True)
    answers = {
        key: result for key, result in zip(distinct, results, strict=True) if not isinstance(result, BaseException)
    }
    for result in results:
        if isinstance(result, BaseException) and not is_blocked(answers.values()):
            raise result
    return [answers.get((request.text, request.source)) for request in requests]


def is_blocked(answers: Iterable[GuardAnswer | None]) -> bool:
    return any(answer is not None and answer.decision is Verdict.BLOCKED for answer in answers)
