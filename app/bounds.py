"""How many items a list or a map may have, checked before any of them is looked at.

A body can hold hundreds of thousands of items that are each at fault: finding all faults takes half a second, for which
all other requests wait.
"""

from __future__ import annotations

from typing import Any

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError


def at_most(limit: int) -> BeforeValidator:
    """Return a check that refuses a list, tuple or map of more than `limit` items; all else passes as it is."""

    def few(given: Any) -> Any:
        if isinstance(given, list | tuple | dict):
            check_count(len(given), limit, "items")
        return given

    return BeforeValidator(few)


def check_count(count: int, limit: int, what: str) -> None:
    """Refuse more than `limit` of what is counted.

    Raises:
        PydanticCustomError: says how many there are and may be.
    """
    if count > limit:
        raise PydanticCustomError(
            "too_many_items",
            "must have at most {limit} {what}, not {count}",
            {"limit": limit, "what": what, "count": count},
        )
