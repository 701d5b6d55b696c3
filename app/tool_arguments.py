"""Arguments of a tool call: the texts in them, each with its place, and the same arguments with other texts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue
from pydantic_core import PydanticCustomError

MOST_TEXTS: Final = 2_000
"""Most texts of one chat, those of arguments among them: each is read for personal data by itself, in about 1 ms."""
DEEPEST: Final = 32
LONGEST_POINTER: Final = 512
"""Deeper arguments and longer places are refused: no tool call needs them, and verdicts repeat places."""
_TOKEN: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],:]', re.DOTALL)
"""Strings and structure of a text that is JSON; numbers and literals hold neither."""
_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_BLANKS: Final = re.compile(r"[ \t\n\r]*")
_LENIENT: Final = json.JSONDecoder(strict=False, parse_int=str, parse_float=str)
"""Reads what tools may: what they accept is acted on."""


@dataclass(frozen=True, slots=True)
class ArgumentText:
    """A string of the arguments that is not blank."""

    pointer: str
    """Its place as a JSON Pointer (RFC 6901); empty where the arguments are this one text."""
    text: str


@dataclass(slots=True)
class _Container:
    is_object: bool
    step: str = "0"
    """The key or the index that is being read."""
    awaits_key: bool = True


PassedOver = Callable[[dict[str, JsonValue], str], bool]
"""Whether what an object holds under a name is no text."""


def _nothing(_: dict[str, JsonValue], __: str) -> bool:
    return False


def argument_texts(arguments: JsonValue) -> list[ArgumentText]:
    """Return the strings of arguments in order, keys and numbers left out.

    Args:
        arguments: the text of a JSON value, as OpenAI writes them, or the value itself. A text that is no JSON is one
            string.

    Raises:
        PydanticCustomError: they are too deep, or have too many texts.
    """
    if isinstance(arguments, str):
        return [ArgumentText(pointer, text) for pointer, text, _, _ in _written(arguments, _is_json(arguments))]
    return held_texts(arguments)


def readable(arguments: JsonValue) -> JsonValue:
    """Return arguments that `argument_texts` can read.

    Raises:
        PydanticCustomError: it cannot.
    """
    argument_texts(arguments)
    return arguments


def with_argument_texts(arguments: JsonValue, texts: Sequence[str]) -> JsonValue:
    """Return the arguments in the shape they came with other texts, one for each of `argument_texts`.

    Everything else of a JSON text stays as it was written, down to the last digit of a number.
    """
    if not isinstance(arguments, str):
        return filled_texts(arguments, texts)
    pieces: list[str] = []
    position = 0
    is_json = _is_json(arguments)
    for (_, before, start, end), text in zip(_written(arguments, is_json), texts, strict=True):
        if text != before:
            # A text that is no JSON is replaced as it is.
            pieces += arguments[position:start], json.dumps(text, ensure_ascii=False) if is_json else text
            position = end
    return "".join([*pieces, arguments[position:]])


def is_json_container(written: str) -> bool:
    """Whether a text is a JSON object or list, a JSON string that says one, or several such behind each other, as in
    JSON Lines; one that is too deep to be parsed is a text like any other."""
    place = _after_blanks(written, 0)
    found = False
    try:
        while place < len(written):
            if written[place] not in '{["':
                return False
            value, end = _LENIENT.raw_decode(written, place)
            if isinstance(value, str) and not is_json_container(value):
                return False
            found, place = True, _after_blanks(written, end)
    except (ValueError, RecursionError):
        return False
    return found


def _after_blanks(written: str, place: int) -> int:
    blanks = _BLANKS.match(written, place)
    return place if blanks is None else blanks.end()


def _is_json(written: str) -> bool:
    """Whether it is an object, a list or a string, read as leniently as tools may: what they accept is acted on."""
    if written.lstrip()[:1] not in ("{", "[", '"'):
        return False
    try:
        json.loads(written, strict=False, parse_int=str, parse_float=str)
    except ValueError:
        return False
    except RecursionError:
        raise _too_deep() from None
    return True


def _written(written: str, is_json: bool) -> Iterator[tuple[str, str, int, int]]:
    """Yield pointer, text, start and end of the strings of a JSON text; values of a repeated key are all among them."""
    if not is_json:
        if written.strip():
            yield "", written, 0, len(written)
        return
    containers: list[_Container] = []
    count = 0
    for match in _TOKEN.finditer(written):
        sign = match[0]
        inner = containers[-1] if containers else None
        if sign in "{[":
            containers.append(_Container(is_object=sign == "{"))
            if len(containers) > DEEPEST:
                raise _too_deep()
        elif sign in "}]":
            containers.pop()
        elif sign == ":":
            containers[-1].awaits_key = False
        elif sign == ",":
            containers[-1].awaits_key = True
            if not containers[-1].is_object:
                containers[-1].step = str(int(containers[-1].step) + 1)
        elif inner is not None and inner.is_object and inner.awaits_key:
            inner.step = _escaped(decoded(sign))
        elif sign.startswith('"') and (text := decoded(sign)).strip():
            count += 1
            yield _pointer([each.step for each in containers], count), text, match.start(), match.end()


def decoded(token: str) -> str:
    """Return what a JSON string says, quotation marks and escapes undone."""
    # Half a surrogate pair is no text that can be sent on.
    return _LONE_SURROGATE.sub("\ufffd", json.loads(token, strict=False))


def held_texts(value: JsonValue, passed_over: PassedOver = _nothing) -> list[ArgumentText]:
    """Return the strings of a value in order, keys and numbers left out, and what is passed over.

    Raises:
        PydanticCustomError: it is too deep, or has too many texts.
    """
    return [ArgumentText(pointer, text) for pointer, text in _held(value, [], passed_over)]


def filled_texts(value: JsonValue, texts: Sequence[str], passed_over: PassedOver = _nothing) -> JsonValue:
    """Return the value with other texts, one for each of `held_texts`."""
    return _filled(value, iter(texts), passed_over)


def _held(value: JsonValue, steps: list[str], passed_over: PassedOver) -> Iterator[tuple[str, str]]:
    if len(steps) > DEEPEST:
        raise _too_deep()
    if isinstance(value, str):
        if value.strip():
            yield _pointer(steps, 1), value
        return
    count = 0
    inner: Iterator[tuple[str, JsonValue]] = iter(())
    if isinstance(value, dict):
        inner = ((_escaped(key), each) for key, each in value.items() if not passed_over(value, key))
    elif isinstance(value, list):
        inner = ((str(index), each) for index, each in enumerate(value))
    for step, each in inner:
        for found in _held(each, [*steps, step], passed_over):
            count += 1
            if count > MOST_TEXTS:
                raise _too_many()
            yield found


def _filled(value: JsonValue, texts: Iterator[str], passed_over: PassedOver) -> JsonValue:
    if isinstance(value, str):
        return next(texts) if value.strip() else value
    if isinstance(value, dict):
        return {
            key: each if passed_over(value, key) else _filled(each, texts, passed_over) for key, each in value.items()
        }
    if isinstance(value, list):
        return [_filled(each, texts, passed_over) for each in value]
    return value


def _pointer(steps: Sequence[str], count: int) -> str:
    if count > MOST_TEXTS:
        raise _too_many()
    pointer = "".join([f"/{step}" for step in steps])
    if len(pointer) > LONGEST_POINTER:
        raise PydanticCustomError(
            "argument_names_too_long",
            "has a text under names of more than {limit} characters together",
            {"limit": LONGEST_POINTER},
        )
    return pointer


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _too_deep() -> PydanticCustomError:
    return PydanticCustomError("arguments_too_deep", "must not be deeper than {limit} levels", {"limit": DEEPEST})


def _too_many() -> PydanticCustomError:
    return PydanticCustomError("arguments_too_many", "may hold at most {limit} texts", {"limit": MOST_TEXTS})
