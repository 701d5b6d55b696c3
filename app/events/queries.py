"""Questions to the event log as SQL: constant text with bound parameters, never anything that was sent in."""

from __future__ import annotations

import base64
import binascii
import math
import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from app.errors import InvalidRequest
from app.events.rows import EPOCH, MICROSECOND, microseconds
from app.events.schema import FEEDBACK
from app.log_contracts import MOST_BUCKETS, EventFilter, FeedbackQuery, StatsGroup

GROUPS: Final = {
    StatsGroup.DECISION: "decision",
    StatsGroup.CATEGORY: "arrayJoin(categories)",
    StatsGroup.SOURCE: "source",
    StatsGroup.MODE: "mode",
    StatsGroup.POLICY: "policy",
    StatsGroup.TENANT: "tenant",
    StatsGroup.PII_TYPE: "arrayJoin(arrayDistinct(`pii_entities.type`))",
}
WINDOWS: Final = (timedelta(hours=1), timedelta(days=1), timedelta(days=7))
"""The newest rows are looked for in the last hour first, then further back: a page seldom needs more, and reading all
days to sort them would cost the more the longer the log is kept."""
BUCKET_WIDTHS_S: Final = (60, 300, 900, 3600, 6 * 3600, 86_400, 7 * 86_400, 31 * 86_400)
USUAL_BUCKETS: Final = 60
_CURSOR: Final = struct.Struct(">q16s")


@dataclass(frozen=True, slots=True)
class Condition:
    """What stands after WHERE, and the parameters it names."""

    sql: str
    parameters: dict[str, Any]

    def and_also(self, sql: str, **parameters: Any) -> Condition:
        return Condition(f"{self.sql} AND {sql}", self.parameters | parameters)


@dataclass(frozen=True, slots=True)
class Place:
    """The last row of a page: the next one goes on behind it."""

    at: datetime
    row_id: UUID

    def __str__(self) -> str:
        packed = _CURSOR.pack(microseconds(self.at), self.row_id.bytes)
        return base64.urlsafe_b64encode(packed).decode().rstrip("=")

    @classmethod
    def read(cls, cursor: str) -> Place:
        """Read a cursor.

        Raises:
            InvalidRequest: it is none.
        """
        try:
            at, row_id = _CURSOR.unpack(base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True))
            if at < 0:
                raise ValueError  # No row is as old, and the days before it, where the search begins, may not exist.
            return cls(EPOCH + at * MICROSECOND, UUID(bytes=row_id))
        except (binascii.Error, struct.error, ValueError, OverflowError):
            raise InvalidRequest("must be the next_cursor of a page", field="cursor") from None


def events_that(wanted: EventFilter) -> Condition:
    """Return the condition of a filter on events."""
    found = Condition("1", {})
    if wanted.decision:
        found = found.and_also("has({decision:Array(String)}, decision)", decision=list(wanted.decision))
    if wanted.category:
        found = found.and_also("hasAny(categories, {category:Array(String)})", category=list(wanted.category))
    for name in ("source", "mode", "policy", "tenant", "key_id"):
        value = getattr(wanted, name)
        if value is not None:
            found = found.and_also(f"{name} = {{{name}:String}}", **{name: str(value)})
    found = in_period(found, "received_at", wanted.since, wanted.before)
    if wanted.min_score is not None:
        found = found.and_also("score >= {min_score:UInt8}", min_score=wanted.min_score)
    if wanted.max_score is not None:
        found = found.and_also("score <= {max_score:UInt8}", max_score=wanted.max_score)
    if wanted.pii_type is not None:
        found = found.and_also("has(`pii_entities.type`, {pii_type:String})", pii_type=wanted.pii_type)
    if wanted.has_feedback is not None:
        negated = "" if wanted.has_feedback else "NOT "
        found = found.and_also(f"request_id {negated}IN (SELECT request_id FROM {FEEDBACK})")  # noqa: S608 - constants
    return found


def reports_that(wanted: FeedbackQuery) -> Condition:
    """Return the condition of a filter on feedback."""
    found = in_period(Condition("1", {}), "given_at", wanted.since, wanted.before)
    for name in ("verdict", "tenant"):
        value = getattr(wanted, name)
        if value is not None:
            found = found.and_also(f"{name} = {{{name}:String}}", **{name: str(value)})
    return found.and_also("isNotNull(text)") if wanted.with_text else found


def behind(place: Place, time_column: str, id_column: str) -> Condition:
    """Return the condition of rows that come after a place in a list from new to old."""
    sql = (
        f"({time_column} < fromUnixTimestamp64Micro({{place_at:Int64}}, 'UTC') OR "
        f"({time_column} = fromUnixTimestamp64Micro({{place_at:Int64}}, 'UTC') "
        f"AND toUInt128({id_column}) < toUInt128({{place_id:UUID}})))"
    )
    return Condition(sql, {"place_at": microseconds(place.at), "place_id": place.row_id})


def windows(newest: datetime, since: datetime | None) -> list[datetime | None]:
    """Return since when the newest rows are looked for, step by step; None is the log's beginning."""
    starts: list[datetime | None] = [newest - width for width in WINDOWS if since is None or newest - width > since]
    return [*starts, since]


def bucket_width_s(since: datetime, before: datetime, wanted_s: int | None) -> int:
    """Return the width of a time series' points: the wanted one, or one that gives at most USUAL_BUCKETS of them and
    one more where the period does not begin with a point.

    Raises:
        InvalidRequest: the period is none, or has too many points of this width.
    """
    seconds = (before - since).total_seconds()
    if seconds <= 0:
        raise InvalidRequest("must be earlier than `before`", field="since")
    if wanted_s is None:
        beyond_s = BUCKET_WIDTHS_S[-1] * math.ceil(seconds / BUCKET_WIDTHS_S[-1] / USUAL_BUCKETS)
        return next((width for width in BUCKET_WIDTHS_S if seconds / width <= USUAL_BUCKETS), beyond_s)
    if seconds / wanted_s > MOST_BUCKETS:
        raise InvalidRequest(f"would give more than {MOST_BUCKETS} points; make it wider", field="bucket_s")
    return wanted_s


def bucket_starts(since: datetime, before: datetime, width_s: int) -> list[datetime]:
    """Return where each point begins: multiples of the width since 1970, the first one at or before `since`."""
    width = timedelta(seconds=width_s)
    first = EPOCH + (since - EPOCH) // width * width
    count = -((first - before) // width)
    return [(first + number * width).astimezone(UTC) for number in range(count)]


def in_period(found: Condition, column: str, since: datetime | None, before: datetime | None) -> Condition:
    """Narrow a condition to rows of a period; its ends may be any times, also those that no question may name."""
    if since is not None:
        found = found.and_also(
            f"{column} >= fromUnixTimestamp64Micro({{since:Int64}}, 'UTC')", since=microseconds(since)
        )
    if before is not None:
        found = found.and_also(
            f"{column} < fromUnixTimestamp64Micro({{before:Int64}}, 'UTC')", before=microseconds(before)
        )
    return found
