"""What the guard answers, as the client gives it to its caller. Fields that a newer guard adds are left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Literal, Self, TypedDict
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from .errors import Blocked, GuardError

OnFailure = Literal["raise", "block", "allow"]
"""What a caller wants when the guard gives no answer: an exception, BLOCKED (fail closed) or ALLOWED (fail open)."""
Source = Literal["input", "output", "tool"]
Mode = Literal["fast", "full"]
ChatMessage = Mapping[str, Any]
"""One message of a chat in the shape of OpenAI's API: `role`, `content`, and whatever else it has."""


class Verdict(StrEnum):
    ALLOWED = "ALLOWED"
    SANITIZED = "SANITIZED"
    BLOCKED = "BLOCKED"


class GuardOptions(TypedDict, total=False):
    """What may be said beside the text; the guard's own defaults hold for what is left out."""

    source: Source
    """Where the text comes from: a user's prompt, a model's answer, or what a tool returned."""
    mode: Mode
    """`fast` leaves out the scan for personal data."""
    policy: str
    language: str
    """ISO 639-1 code of the text."""
    metadata: Mapping[str, str | int | float | bool | None]
    allow_list: Sequence[str]
    """Values that are never personal data."""
    restorable: bool
    """Whether a SANITIZED decision carries a `restore_map`."""
    restore_map: str | None
    """That of an earlier decision of the same conversation: new values take none of its numbers, so that `restore` may
    fill the text with it. None, as a decision has that was ALLOWED, is none."""
    canaries: Sequence[str]
    system_prompt: str
    judge: Literal["all", "last"]
    """Which messages of a chat are judged: all, or those since the assistant last spoke."""
    redact_system: bool
    """Whether personal data is replaced in a chat's system messages too; it is by default."""
    request_id: UUID | str
    """By default the client makes one."""
    deadline_ms: int
    """How long the guard may take for one try; by default the client's `deadline_s`."""


class GuardInput(GuardOptions, total=False):
    """One text or chat of a batch with options of its own; it has one of the two."""

    text: str
    messages: Sequence[ChatMessage]


class Answer(BaseModel):
    """Base of everything that the guard answers."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Finding(Answer):
    """One span that mattered; offsets are code points of the text, end exclusive."""

    detector: str
    rule: str
    start: int
    end: int
    score: float
    action: str = "none"


class Branch(Answer):
    """What one detection branch says; scores are 0 to 100, confidences 0 to 1."""

    score: float
    confidence: float
    degraded: bool = False
    signals: tuple[str, ...] = ()


class PersonalDatum(Answer):
    type: str
    start: int
    end: int
    score: float


class PersonalDataScan(Answer):
    scanned: bool = False
    degraded: bool = False
    language: str | None = None
    count: int = 0
    entities: tuple[PersonalDatum, ...] = ()


class ArgumentsDecision(Answer):
    """What was decided of the arguments of one tool call."""

    path: str
    """Where they stand in the message: `tool_calls.0.function.arguments`."""
    decision: Verdict
    score: int = 0
    categories: tuple[str, ...] = ()


class MessageDecision(Answer):
    """What was decided of one message of a chat; offsets of its findings count in its own text."""

    index: int
    role: str
    judged: bool
    decision: Verdict
    score: int = 0
    categories: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    sanitized_content: Any = Field(default=None, repr=False)
    not_judged: tuple[str, ...] = ()
    arguments: tuple[ArgumentsDecision, ...] | None = None
    """For a message that calls tools: one decision for each call."""


class Decision(Answer):
    """One decision of the guard, or of the caller's own rule when the guard gave none (`failure` then says why)."""

    request_id: UUID
    decision: Verdict
    score: int = Field(default=0, description="0 to 100.")
    threat_level: str = "LOW"
    categories: tuple[str, ...] = ()
    explanations: tuple[str, ...] = ()
    branches: Mapping[str, Branch] = Field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    boosts: tuple[str, ...] = ()
    pii: PersonalDataScan = PersonalDataScan()
    sanitized_text: str | None = Field(default=None, repr=False)
    restore_map: str | None = Field(default=None, repr=False)
    messages: tuple[MessageDecision, ...] | None = None
    """One decision for each message of a chat; None for a text, and for a decision of old."""
    sanitized_messages: tuple[dict[str, Any], ...] | None = Field(default=None, repr=False)
    mode: str = ""
    source: str = ""
    policy: str = ""
    latency_ms: float = 0.0
    model_version: str = ""
    failure: str | None = None
    """The error's class name when `on_failure` decided, None when the guard did."""

    @property
    def blocked(self) -> bool:
        return self.decision is Verdict.BLOCKED

    def apply(self, text: str) -> str:
        """Return the text to use in place of `text`, the one that was judged.

        Raises:
            Blocked: there is none.
        """
        if self.decision is Verdict.ALLOWED:
            return text
        if self.decision is Verdict.SANITIZED and self.sanitized_text is not None:
            return self.sanitized_text
        raise Blocked(self)

    def apply_to(self, messages: Sequence[ChatMessage]) -> list[ChatMessage]:
        """Return the chat to use in place of `messages`, the one that was judged.

        Raises:
            Blocked: there is none.
        """
        if self.decision is Verdict.ALLOWED:
            return list(messages)
        if self.decision is not Verdict.SANITIZED:
            raise Blocked(self)
        if self.sanitized_messages is not None:
            return list(self.sanitized_messages)
        # A decision that was read again has contents alone, and texts of arguments without their JSON.
        judged = {each.index: each for each in self.messages or ()}
        if judged.keys() != set(range(len(messages))):
            raise Blocked(self)
        used: list[ChatMessage] = []
        for index, message in enumerate(messages):
            content = judged[index].sanitized_content
            if any(each.decision is not Verdict.ALLOWED for each in judged[index].arguments or ()):
                raise Blocked(self)
            if content is None and judged[index].decision is not Verdict.ALLOWED:
                raise Blocked(self)
            used.append(message if content is None else {**message, "content": self._filled(message, content)})
        return used

    def _filled(self, message: ChatMessage, content: Any) -> Any:
        """Return a sanitized content with all that the guard does not give back of the message's parts: images, say."""
        parts = message.get("content")
        if isinstance(content, str) or not isinstance(content, Sequence):
            return content
        if isinstance(parts, str) or not isinstance(parts, Sequence) or len(parts) != len(content):
            raise Blocked(self)
        return [{**part, **sanitized} for part, sanitized in zip(parts, content, strict=True)]

    @classmethod
    def by_rule(cls, verdict: Verdict, request_id: UUID, error: GuardError) -> Self:
        return cls(
            request_id=request_id,
            decision=verdict,
            threat_level="HIGH" if verdict is Verdict.BLOCKED else "LOW",
            explanations=(f"The guard gave no answer ({type(error).__name__}); this is the caller's rule.",),
            failure=type(error).__name__,
        )


class Restored(Answer):
    """A text with its personal data back in place."""

    request_id: UUID
    text: str = Field(repr=False)
    restored: int
    missing: tuple[str, ...] = ()
