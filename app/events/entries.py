"""Rows of the tables beside the events: full texts and feedback."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from app.events.rows import EPOCH, MICROSECOND, microseconds
from app.log_contracts import FeedbackRecord, TextRecord

FEEDBACK_COLUMNS: Final = tuple(FeedbackRecord.model_fields)
FEEDBACK_TIMES: Final[dict[str, str | dict[str, str]]] = {"given_at": "int"}


def values_of(record: TextRecord | FeedbackRecord) -> tuple[Any, ...]:
    """Return the row of a record, in the order of its fields."""
    times = {"received_at", "given_at"}
    return tuple(
        microseconds(getattr(record, name)) if name in times else getattr(record, name)
        for name in type(record).model_fields
    )


def feedback_of(row: Sequence[Any]) -> FeedbackRecord:
    """Return the report that a row was made from.

    Raises:
        pydantic.ValidationError: the row was not written by this room.
    """
    column = dict(zip(FEEDBACK_COLUMNS, row, strict=True))
    return FeedbackRecord.model_validate(column | {"given_at": EPOCH + column["given_at"] * MICROSECOND})
