"""Messages of an answer that is judged as it comes: its opening, its chunks, what is told of it."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, StringConstraints

from app.contracts import (
    MAX_CANARIES,
    Canary,
    Flag,
    GuardAnswer,
    Message,
    Metadata,
    Mode,
    PolicyName,
    Problem,
    Verdict,
)


class StreamOpening(Message):
    """First line of `POST /guard/stream`: how an answer is to be judged.

    All fields mean what they mean in a GuardRequest.
    """

    request_id: UUID | None = None
    mode: Mode = Mode.FULL
    language: Annotated[str, StringConstraints(pattern=r"^[a-z]{2}$")] | None = None
    metadata: Metadata = Field(default_factory=dict)
    policy: PolicyName | None = None
    allow_list: Annotated[
        list[Annotated[str, StringConstraints(min_length=1, max_length=256)]], Field(max_length=100)
    ] = Field(default_factory=list)
    canaries: Annotated[list[Canary], Field(max_length=MAX_CANARIES)] = Field(default_factory=list, repr=False)
    system_prompt: Annotated[str, StringConstraints(max_length=32_000)] | None = Field(default=None, repr=False)
    restore_map: str | None = Field(
        default=None,
        repr=False,
        description="The map of the prompt's SANITIZED answer: its placeholders are filled with their values as they "
        "pass, and new placeholders take none of their numbers.",
    )


class StreamChunk(Message):
    """One piece of the answer: `text`, `bytes`, or an OpenAI chat completion chunk as it came; or the end."""

    text: str | None = Field(
        default=None, description="It may end anywhere, between two halves of a surrogate pair too."
    )
    bytes: str | None = Field(default=None, description="UTF-8 in base64; it may end inside a character.")
    done: Flag = Field(default=False, description="The answer is complete.")


class StreamOpened(Message):
    event: Literal["open"] = "open"
    request_id: UUID


class StreamAddress(StreamOpened):
    """First event of a stream over NATS."""

    chunks: str = Field(
        description="Subject of its chunks; each carries its number, counted from 1, in the header Vigil-Sequence."
    )
    window: int = Field(description="Most chunks that may wait to be worked on.")


class StreamText(Message):
    event: Literal["text"] = "text"
    text: str = Field(description="The next piece to show: personal data is redacted in it.")


class StreamStopped(Message):
    event: Literal["stop"] = "stop"
    reason: str = Field(description="`leak.canary`, `leak.system_prompt` or `policy`. Nothing of the answer follows.")


class StreamVerdict(Message):
    """Last event of a stream that was judged."""

    event: Literal["verdict"] = "verdict"
    decision: Verdict
    stopped: bool = Field(description="Whether the stream was stopped before its end.")
    redacted: int = Field(description="How many values were replaced in what was let out.")
    withheld: int = Field(description="How many pieces were left out because they could not be decided.")
    restored: int = Field(description="How many placeholders of the prompt were filled.")
    answer: GuardAnswer | None = Field(
        description="The decision as it is recorded, without a text to use: that was let out already. It is about the "
        "whole answer, or the last part of it where the stream was stopped by policy. None for an answer without words."
    )


class StreamProblem(Message):
    """Last event of a stream that failed."""

    event: Literal["problem"] = "problem"
    problem: Problem


StreamEvent = StreamOpened | StreamText | StreamStopped | StreamVerdict | StreamProblem
