"""Tool calls in the shape of OpenAI's API, and fields that pass as they came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    GetJsonSchemaHandler,
    JsonValue,
    SerializerFunctionWrapHandler,
    model_serializer,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import core_schema

from app.tool_arguments import ArgumentText, argument_texts, readable, with_argument_texts
from app.tool_results import result_texts, with_result_texts


class Passed(BaseModel):
    """Keeps fields nobody declared: they come back with the answer, unread, and travel no further than the edge."""

    model_config = ConfigDict(extra="allow", frozen=True)

    @model_serializer(mode="wrap")
    def in_the_shape_it_came(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what was not given."""
        unset = set(type(self).model_fields) - self.model_fields_set
        return {name: value for name, value in written(self).items() if name not in unset}

    def only(self, *names: str) -> Self:
        """Return these fields alone, as far as they were given."""
        held = {name: getattr(self, name) for name in names if name in self.model_fields_set}
        bare: Any = type(self).model_construct()
        return cast("Self", bare.model_copy(update=held))

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


Arguments = Annotated[JsonValue, AfterValidator(readable)]
"""What a tool is called with: the text of a JSON value, any other text, or the value itself."""


class FunctionCall(Passed):
    """A function that a model wants called; its name is not read."""

    arguments: Arguments = None

    @property
    def is_read(self) -> bool:
        return "arguments" in self.model_fields_set

    def lean(self) -> FunctionCall:
        """Return the call with its arguments alone."""
        return self.only("arguments")


class CustomCall(Passed):
    """A tool that takes one text."""

    input: Arguments = None

    @property
    def is_read(self) -> bool:
        return "input" in self.model_fields_set

    def lean(self) -> CustomCall:
        """Return the call with its text alone."""
        return self.only("input")


class ToolCall(Passed):
    """A tool that a model wants called; `id`, `type` and all other fields come back as they were."""

    function: FunctionCall | None = None
    custom: CustomCall | None = None

    @property
    def is_read(self) -> bool:
        """Whether its arguments stand where they are looked for."""
        return any(call is not None and call.is_read for call in (self.function, self.custom))

    def lean(self) -> ToolCall:
        """Return the call with its arguments alone."""
        calls = {"function": self.function, "custom": self.custom}
        held = {name: call.lean() for name, call in calls.items() if call is not None}
        return ToolCall.model_construct().model_copy(update=held)

    def with_arguments(self, path: str, new: Mapping[str, JsonValue]) -> ToolCall:
        """Return the call, which stands at `path` in its message, with the new arguments of that path's fields."""
        held: dict[str, object] = {}
        if self.function is not None and (inner := f"{path}.function.arguments") in new:
            held["function"] = self.function.model_copy(update={"arguments": new[inner]})
        if self.custom is not None and (inner := f"{path}.custom.input") in new:
            held["custom"] = self.custom.model_copy(update={"input": new[inner]})
        return self.model_copy(update=held)


@dataclass(frozen=True, slots=True)
class CallArguments:
    """The arguments of one tool call of a message, what a tool gave back, or a refusal beside another text."""

    path: str
    """Where they stand in the message: `tool_calls.0.function.arguments`."""
    value: JsonValue

    is_result: bool = False
    """Whether it is what a tool gave back, and not what one is called with."""
    is_refusal: bool = False
    """Whether it is a text of the message itself, which is read whole also where it is JSON."""

    @property
    def texts(self) -> list[ArgumentText]:
        if self.is_refusal and isinstance(self.value, str):
            return [ArgumentText("", self.value)] if self.value.strip() else []
        return result_texts(self.value) if self.is_result else argument_texts(self.value)

    @property
    def identity(self) -> JsonValue:
        """What two requests with the same id must have in common."""
        return [[each.pointer, each.text] for each in self.texts] if self.is_result else self.value

    def with_texts(self, texts: Sequence[str]) -> JsonValue:
        """Return the value in the shape it came with other texts, one for each of `texts`."""
        if self.is_refusal:
            return texts[0] if texts else self.value
        fill = with_result_texts if self.is_result else with_argument_texts
        return fill(self.value, texts)
