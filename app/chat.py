"""Chats in the shape of OpenAI's API: messages with a role, content and tool calls, and which texts are read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Discriminator, Field, JsonValue, StringConstraints, Tag, model_validator
from pydantic_core import PydanticCustomError

from app.tool_calls import Arguments, CallArguments, FunctionCall, Passed, ToolCall
from app.tool_results import ToolResult, unread_kinds, without_data

MAX_MESSAGES: Final = 1000
"""Most messages of one request, whatever the settings say."""
TEXT_SEPARATOR: Final = "\n"
"""Between the texts of one message."""
MESSAGE_SEPARATOR: Final = "\n\n"
"""Between the messages of a conversation's text."""
UNREAD_FIELDS: Final = ("audio", "reasoning_content")
"""Fields of a message beside its content that may hold something and are not read."""
SPEAKER: Final = "name"
"""Who speaks, which is not read either: model services refuse names with the brackets of a placeholder."""


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


class ContentPart(Passed):
    """One part of a message's content. Texts, arguments of a tool call and its result are read; an image or a sound is
    not."""

    type: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")]
    text: str | None = None
    refusal: str | None = None
    input: Arguments = Field(default=None, description="What a tool is called with, as in Anthropic's `tool_use`.")
    content: ToolResult = Field(default=None, description="What a tool gave back, as in Anthropic's `tool_result`.")

    @model_validator(mode="after")
    def a_text_part_has_a_text(self) -> Self:
        if self.type == "text" and self.text is None:
            raise PydanticCustomError("part_without_text", "must have a text")
        return self

    @property
    def holds(self) -> Literal["text", "refusal"] | None:
        """The field with this part's text; None where it has none. A refusal beside a text is judged apart."""
        return "text" if self.text is not None else "refusal" if self.refusal is not None else None

    @property
    def words(self) -> str | None:
        """The text of this part, None where it has none."""
        return self.refusal if self.text is None else self.text

    @property
    def is_read(self) -> bool:
        return not (self.words is None and self.input is None and self.content is None)

    def lean(self) -> ContentPart:
        """Return the part with its texts, its arguments and the texts of its result alone."""
        words = [name for name in ("text", "refusal") if getattr(self, name) is not None]
        held = self.only("type", *words, "input", "content")
        return held if self.content is None else held.model_copy(update={"content": without_data(self.content)})

    def with_words(self, words: str) -> ContentPart:
        return self.model_copy(update={self.holds or "text": words})


Content = str | list[ContentPart]


class ChatMessage(Passed):
    """One message of a chat; `name`, `tool_call_id` and all other fields come back as they were.

    Arguments of tool calls are judged as a model's output, string by string of their JSON.
    """

    role: Role
    content: (
        Annotated[
            Annotated[str, Tag("text")] | Annotated[list[ContentPart], Tag("parts")],
            Discriminator(lambda content: "parts" if isinstance(content, list) else "text"),
        ]
        | None
    ) = None
    refusal: JsonValue = Field(
        default=None, description="A text in which a model refuses: judged by the role, beside the content."
    )
    tool_calls: list[ToolCall] | None = None
    function_call: FunctionCall | None = Field(default=None, description="As tools were called first.")

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
        """What the content says, and what the offsets of its findings count in."""
        return TEXT_SEPARATOR.join(self.texts)

    @property
    def calls(self) -> Iterator[CallArguments]:
        """The arguments of all tool calls, what tools gave back in parts of the content, and refusals beside a text, in
        order: those of the content, `tool_calls`, `function_call`, `refusal`."""
        for index, part in enumerate(self.content if isinstance(self.content, list) else ()):
            if part.text is not None and part.refusal is not None:
                yield CallArguments(f"content.{index}.refusal", part.refusal, is_refusal=True)
            if part.input is not None:
                yield CallArguments(f"content.{index}.input", part.input)
            if part.content is not None:
                yield CallArguments(f"content.{index}.content", part.content, is_result=True)
        for index, call in enumerate(self.tool_calls or ()):
            if call.function is not None:
                yield CallArguments(f"tool_calls.{index}.function.arguments", call.function.arguments)
            if call.custom is not None:
                yield CallArguments(f"tool_calls.{index}.custom.input", call.custom.input)
        if self.function_call is not None:
            yield CallArguments("function_call.arguments", self.function_call.arguments)
        if isinstance(self.refusal, str):
            yield CallArguments("refusal", self.refusal, is_refusal=True)

    @property
    def says_something(self) -> bool:
        """Whether there is anything to judge."""
        return bool(self.text.strip()) or any(call.texts for call in self.calls)

    @property
    def not_judged(self) -> list[str]:
        """Kinds of content that were not read, each once: types of parts, and names of fields."""
        parts = self.content if isinstance(self.content, list) else []
        kinds = [kind for part in parts for kind in ([part.type] if not part.is_read else unread_kinds(part.content))]
        unread = ["tool_calls"] if any(not call.is_read for call in self.tool_calls or ()) else []
        if self.function_call is not None and not self.function_call.is_read:
            unread.append("function_call")
        if self.refusal and not isinstance(self.refusal, str):
            unread.append("refusal")
        return list(dict.fromkeys([*kinds, *unread, *self._unread_fields]))

    @property
    def _unread_fields(self) -> list[str]:
        """The fields that hold something and are not read; the name of a tool's message is that of a function."""
        unread = UNREAD_FIELDS if self.role in (Role.TOOL, Role.FUNCTION) else (*UNREAD_FIELDS, SPEAKER)
        return [name for name in unread if (self.model_extra or {}).get(name)]

    def lean(self) -> ChatMessage:
        """Return the message with what is read of it alone: nothing else travels, but its kind does."""
        held: dict[str, Any] = dict.fromkeys(self._unread_fields, True)
        if isinstance(self.content, list):
            held["content"] = [part.lean() for part in self.content]
        else:
            held["content"] = self.content
        if self.tool_calls:
            held["tool_calls"] = [call.lean() for call in self.tool_calls]
        if self.function_call is not None:
            held["function_call"] = self.function_call.lean()
        if self.refusal:
            held["refusal"] = self.refusal if isinstance(self.refusal, str) else True
        return ChatMessage(role=self.role, **held)

    def with_content(self, content: Content) -> ChatMessage:
        """Return the message, in the shape it came, with the texts of this content, which has as many.

        Parts without a text may differ: a repeat is given the texts of the first request under its id.
        """
        texts = [content] if isinstance(content, str) else [part.words for part in content if part.words is not None]
        if not isinstance(self.content, list):
            return self.model_copy(update={"content": texts[0]})
        rest = iter(texts)
        filled = [part if part.words is None else part.with_words(next(rest)) for part in self.content]
        return self.model_copy(update={"content": filled})

    def with_arguments(self, texts: Mapping[str, Sequence[str]]) -> ChatMessage:
        """Return the message with other texts in the arguments of its tool calls, and in what tools gave back.

        Args:
            texts: all texts of a call by its path; calls that are not named stay.
        """
        new = {call.path: call.with_texts(texts[call.path]) for call in self.calls if call.path in texts}
        return self.model_copy(update=dict(self._changed(new)))

    def _changed(self, new: Mapping[str, JsonValue]) -> Iterator[tuple[str, object]]:
        if isinstance(self.content, list):
            yield (
                "content",
                [
                    part.model_copy(
                        update={
                            field: new[path]
                            for field in ("refusal", "input", "content")
                            if (path := f"content.{index}.{field}") in new
                        }
                    )
                    for index, part in enumerate(self.content)
                ],
            )
        if self.tool_calls is not None:
            yield (
                "tool_calls",
                [call.with_arguments(f"tool_calls.{index}", new) for index, call in enumerate(self.tool_calls)],
            )
        if self.function_call is not None and (path := "function_call.arguments") in new:
            yield "function_call", self.function_call.model_copy(update={"arguments": new[path]})
        if "refusal" in new:
            yield "refusal", new["refusal"]


@dataclass(frozen=True, slots=True)
class Utterance:
    """What is judged as one: the content of a message, the arguments of one of its tool calls, one's result, or a
    refusal beside the content."""

    index: int
    """Of the message."""
    message: ChatMessage
    texts: list[str]
    call: CallArguments | None = None
    pointers: list[str] | None = None
    """Where the texts of a call stand in its arguments."""

    @property
    def text(self) -> str:
        return TEXT_SEPARATOR.join(self.texts)


def utterances(messages: Sequence[ChatMessage]) -> Iterator[Utterance]:
    """Yield the content of each message, also where it has none, and after it each call that has a text."""
    for index, message in enumerate(messages):
        yield Utterance(index, message, message.texts)
        for call in message.calls:
            if texts := call.texts:
                yield Utterance(index, message, [each.text for each in texts], call, [each.pointer for each in texts])


def conversation_text(messages: Sequence[ChatMessage]) -> str:
    """Return the texts of all messages as one: what its length, and offsets into the whole conversation, count in."""
    return MESSAGE_SEPARATOR.join(each.text for each in utterances(messages))


def conversation_length(messages: Sequence[ChatMessage]) -> int:
    """Return what counts against the limit of a text: all texts, and the places of those in arguments."""
    said = list(utterances(messages))
    texts = sum(len(each.text) for each in said) + len(MESSAGE_SEPARATOR) * (len(said) - 1)
    return texts + sum(len(pointer) for each in said for pointer in each.pointers or ())


def conversation_identity(messages: Sequence[ChatMessage]) -> str:
    """Return what two requests with the same id must have in common: roles, texts and arguments, in order."""
    return json.dumps(
        [
            [message.role, *message.texts, *([call.path, call.identity] for call in message.calls)]
            for message in messages
        ],
        ensure_ascii=False,
    )
