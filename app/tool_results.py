"""What a tool gave back, as parts of a message hold it: its texts, each with its place, and the same with others."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Final

from pydantic import AfterValidator, JsonValue

from app.tool_arguments import ArgumentText, filled_texts, held_texts

_TOKENS: Final = frozenset(("file_id", "id", "media_type", "tool_use_id", "ttl", "type"))
_ENCRYPTED: Final = frozenset(("encrypted_content", "encrypted_index"))
_TOKEN: Final = re.compile(r"[\w.:/+=-]{0,64}")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/=_-]*")


def result_texts(result: JsonValue) -> list[ArgumentText]:
    """Return the strings of a result in order: itself, or those of its parts, but no names of kinds nor an image.

    Raises:
        PydanticCustomError: it is too deep, or has too many texts.
    """
    return held_texts(result, _is_passed_over)


def with_result_texts(result: JsonValue, texts: Sequence[str]) -> JsonValue:
    """Return the result in the shape it came with other texts, one for each of `result_texts`."""
    return filled_texts(result, texts, _is_passed_over)


def without_data(result: JsonValue) -> JsonValue:
    """Return the result without what is not read, kinds of parts excepted: an image may be larger than a message."""
    if isinstance(result, dict):
        return {
            name: without_data(held)
            for name, held in result.items()
            if name == "type" or not _is_passed_over(result, name)
        }
    return [without_data(part) for part in result] if isinstance(result, list) else result


def unread_kinds(result: JsonValue) -> list[str]:
    """Return the kinds of the parts in which nothing is read, such as `image`."""
    if not isinstance(result, list):
        return []
    bare = [part for part in result if isinstance(part, dict) and not result_texts(part)]
    return [kind for part in bare if isinstance(kind := part.get("type"), str)]


def _is_passed_over(container: dict[str, JsonValue], name: str) -> bool:
    """Whether what stands under a name is no text, by its name and its look: a tool may write an order under any."""
    held = container[name]
    if not isinstance(held, str):
        return False
    if name in _TOKENS:
        return _TOKEN.fullmatch(held) is not None
    coded = name in _ENCRYPTED or (name == "data" and container.get("type") == "base64")
    return coded and _BASE64.fullmatch(held) is not None


def _readable(result: JsonValue) -> JsonValue:
    result_texts(result)
    return result


ToolResult = Annotated[JsonValue, AfterValidator(_readable)]
"""What a tool gave back: a text, or parts with texts in them."""
