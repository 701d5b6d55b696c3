"""Chats in the shape of OpenAI's API: messages with a role and content, and which of their texts are read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    StringConstraints,
    Tag,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import PydanticCustomError, core_schema

MAX_MESSAGES: Final = 1000
"""Most messages of one request, whatever the settings say."""
TEXT_SEPARATOR: Final = "\n"
"""Between the texts of one message."""
MESSAGE_SEPARATOR: Final = "\n\n"
"""Between the messages of a conversation's text."""
UNREAD_FIELDS: Final = ("tool_calls", "function_call", "refusal", "audio", "reasoning_content")
"""Fields of a message beside its content that may hold something and are not read."""


class Role(StrEnum):
    SYSTEM = "system"
    DEVELOPER = "developer"
    """What newer models call the system."""
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"
    FUNCTION = "function"
    """What tools were called first."""

    @property
    def instructs(self) -> bool:
        """Whether the application speaks: its instructions are no attack, and an answer must not give them away."""
        return self in (Role.SYSTEM, Role.DEVELOPER)


class _Passed(BaseModel):
    """Keeps fields nobody declared: they come back with the answer, unread, and travel no further than the edge."""

    model_config = ConfigDict(extra="allow", frozen=True)

    @model_serializer(mode="wrap")
    def in_the_shape_it_came(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what was not given."""
        unset = set(type(self).model_fields) - self.model_fields_set
        return {name: value for name, value in written(self).items() if name not in unset}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Describe what is written by what is read: the serializer above changes no type."""
        return handler(_as_read(core_schema))


def _as_read(schema: Any) -> Any:
    """Return a model's schema without its serializer, also beneath the model's validators."""
    without = {name: value for name, value in schema.items() if name != "serialization"}
    if without["type"].startswith("function-"):
        without["schema"] = _as_read(without["schema"])
    return without


class ContentPart(_Passed):
    """One part of a message's content. Parts with a text are read; an image or a sound is not."""

    type: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")]
    text: str | None = None
    refusal: str | None = None

    @model_validator(mode="after")
    def a_text_part_has_a_text(self) -> Self:
        if self.type == "text" and self.text is None:
            raise PydanticCustomError("part_without_text", "must have a text")
        return self

    @property
    def holds(self) -> Literal["text", "refusal"] | None:
        """The field with this part's text; None where it has none."""
        return "text" if self.text is not None else "refusal" if self.refusal is not None else None

    @property
    def words(self) -> str | None:
        """The text of this part, None where it has none."""
        return self.refusal if self.text is None else self.text

    def lean(self) -> ContentPart:
        """Return the part with its text alone."""
        bare = ContentPart.model_construct(type=self.type)
        return bare if self.holds is None else bare.model_copy(update={self.holds: self.words})

    def with_words(self, words: str) -> ContentPart:
        return self.model_copy(update={self.holds or "text": words})


Content = str | list[ContentPart]


class ChatMessage(_Passed):
    """One message of a chat; `name`, `tool_call_id` and all other fields come back as they were."""

    role: Role
    content: (
        Annotated[
            Annotated[str, Tag("text")] | Annotated[list[ContentPart], Tag("parts")],
            Discriminator(lambda content: "parts" if isinstance(content, list) else "text"),
        ]
        | None
    ) = None

    @property
    def texts(self) -> list[str]:
        """The texts of the content, in order."""
        if self.content is None:
            return []
        if isinstance(self.content, str):
            return [self.content]
        return [part.words for part in self.content if part.words is not None]

    @property
    def text(self) -> str:
        """What is judged of this message, and what the offsets of its findings count in."""
        return TEXT_SEPARATOR.join(self.texts)

    @property
    def not_judged(self) -> list[str]:
        """Kinds of content that were not read, each once: types of parts, and names of fields."""
        parts = self.content if isinstance(self.content, list) else []
        kinds = [part.type for part in parts if part.words is None]
        extra = self.model_extra or {}
        return list(dict.fromkeys([*kinds, *(name for name in UNREAD_FIELDS if extra.get(name))]))

    def lean(self) -> ChatMessage:
        """Return the message with its texts alone: what is not read does not travel, but its kind does."""
        content = self.content
        if isinstance(content, list):
            content = [part.lean() for part in content]
        marks: dict[str, Any] = {name: True for name in UNREAD_FIELDS if (self.model_extra or {}).get(name)}
        return ChatMessage(role=self.role, content=content, **marks)

    def with_content(self, content: Content) -> ChatMessage:
        """Return the message, in the shape it came, with the texts of this content, which is of the same shape."""
        if isinstance(self.content, str) or isinstance(content, str) or self.content is None:
            return self.model_copy(update={"content": content})
        filled = [
            part if part.words is None else part.with_words(other.words or "")
            for part, other in zip(self.content, content, strict=True)
        ]
        return self.model_copy(update={"content": filled})


def conversation_text(messages: Sequence[ChatMessage]) -> str:
    """Return the texts of all messages as one: what its length, and offsets into the whole conversation, count in."""
    return MESSAGE_SEPARATOR.join(message.text for message in messages)


def conversation_identity(messages: Sequence[ChatMessage]) -> str:
    """Return what two requests with the same id must have in common: roles and texts, in order."""
    return json.dumps([[message.role, *message.texts] for message in messages], ensure_ascii=False)
