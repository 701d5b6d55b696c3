"""From bytes to a typed message, or to an error that names the field and never repeats the text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, Literal, TypeVar

from pydantic import ValidationError

from app.contracts import Message
from app.errors import InvalidRequest, MalformedJson, UnknownField

MessageType = TypeVar("MessageType", bound=Message)

NAMEABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}", re.ASCII)
"""Keys of a body that may be repeated in an error; anything else could itself be text of a caller."""
METADATA_RULE: Final = (
    "must map names of letters, digits, '_', '.' and '-' (64 at most) to a string of at most 512 characters, "
    "a finite number (a whole one of 64 bits at most), a boolean or null"
)
MOST_FAULTS: Final = 1_000
"""Beyond so many faults none is named: a body can have hundreds of thousands, and listing a thousand takes 2 ms, for
which all other requests wait."""
REASONS: Final = {
    "uuid_parsing": "must be a UUID",
    "extra_forbidden": "is not a known field",
    "missing": "is required",
    "int_type": "must be a JSON number without a fraction",
    "float_type": "must be a JSON number",
}
"""Own words where pydantic's message would repeat a part of the input, or leaves open what is wrong."""


def parse(
    model: type[MessageType], body: bytes, *, text_limit: int, extra: Literal["ignore"] | None = None
) -> MessageType:
    """Validate one JSON body.

    Args:
        model: the message type.
        body: UTF-8 JSON.
        text_limit: longest accepted text in code points.
        extra: what becomes of unknown fields; refused when None.

    Raises:
        MalformedJson: the body is not JSON (lone surrogates included); says where.
        InvalidRequest: a field is missing, unknown, of the wrong type or out of range; `faults` lists each.
    """
    try:
        return model.model_validate_json(body, context={"text_limit": text_limit}, extra=extra)
    except ValidationError as error:
        raise _explained(error) from None


def parse_job(model: type[MessageType], body: bytes, *, text_limit: int) -> MessageType:
    """Validate what one stage gave to the next.

    Raises:
        UnknownField: unknown fields are all that is wrong: another replica may know them.
        MalformedJson, InvalidRequest: as `parse`.
    """
    try:
        return model.model_validate_json(body, context={"text_limit": text_limit})
    except ValidationError as error:
        explained = _explained(error)
        if error.error_count() <= MOST_FAULTS and {fault["type"] for fault in error.errors()} == {"extra_forbidden"}:
            raise UnknownField(faults=explained.faults) from None
        raise explained from None


def checked(model: type[MessageType], fields: dict[str, object]) -> MessageType:
    """Validate what a command's options say.

    Raises:
        InvalidRequest: as `parse`.
    """
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise _explained(error) from None


def _explained(error: ValidationError) -> InvalidRequest:
    if error.error_count() > MOST_FAULTS:
        return _too_many(error.error_count())
    return explained(error.errors(include_url=False, include_input=False))


def _too_many(count: int) -> InvalidRequest:
    reason = f"has {count} faults, too many to name"
    return InvalidRequest(f"the request does not fit the schema: body: {reason}", faults=(("body", reason),))


def explained(found: Sequence[Any]) -> InvalidRequest:
    """Return the refusal of what pydantic found wrong: fields and reasons, and nothing that a caller wrote."""
    if len(found) > MOST_FAULTS:
        return _too_many(len(found))
    faults: dict[str, str] = {}
    for fault in found:
        if fault["type"] == "json_invalid":
            reason = f"is not valid JSON: {fault['ctx']['error']}"
            return MalformedJson(f"the body {reason}", faults=(("body", reason),))
        location = fault["loc"]
        if location and "metadata" in location[:3] and len(location) > 1 + location.index("metadata"):
            faults.setdefault(_path(location[: location.index("metadata") + 1]), METADATA_RULE)
            continue
        faults.setdefault(_path(location), REASONS.get(fault["type"], fault["msg"]))
    summary = "; ".join(f"{field}: {reason}" for field, reason in list(faults.items())[:5])
    return InvalidRequest(f"the request does not fit the schema: {summary}", faults=tuple(faults.items())[:20])


def _path(location: tuple[int | str, ...]) -> str:
    parts = [str(part) if isinstance(part, int) or NAMEABLE.fullmatch(part) else "(unnamed field)" for part in location]
    return ".".join(parts) or "body"
