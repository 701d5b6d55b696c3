"""What the event log answers: pages of events and reports, one event in full, counts over time. Every call blocks."""

# ruff: noqa: S608 - every statement is built of constants alone; what is asked for is bound.
from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from app.contracts import DecisionRecord, Verdict
from app.errors import QueryTimeout, UnknownRequest
from app.events import queries, rows, schema
from app.events.entries import FEEDBACK_COLUMNS, FEEDBACK_TIMES, feedback_of
from app.events.queries import Condition, Place
from app.identity import now
from app.log_contracts import (
    MOST_SERIES,
    EventDetail,
    EventPage,
    EventQuery,
    EventQuestion,
    EventSummary,
    FeedbackPage,
    FeedbackQuery,
    FeedbackRecord,
    Percentiles,
    Series,
    Stats,
    StatsQuery,
)

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

BY_DAY: Final = {"do_not_merge_across_partitions_select_final": 1}
"""For questions about a period: of a request id, each day shows one row. To show the first day's alone ClickHouse reads
all days, since ids that callers choose lie anywhere: for an hour of 6.7 million rows 0.9 s of a core, not 0.03 s."""
USUAL_PERIOD: Final = timedelta(days=1)
"""What statistics look back to when nobody says."""
_SUMMARY: Final = (
    *("request_id", "received_at", "decision", "score", "threat_level", "mode", "source", "policy", "categories"),
    *("pii_types", "pii_count", "latency_ms", "text_length", "text_digest", "tenant", "key_id", "model_version"),
)
_SUMMARY_SQL: Final = ", ".join(
    "arraySort(arrayDistinct(`pii_entities.type`)) AS pii_types" if name == "pii_types" else name for name in _SUMMARY
)
_TIMES: Final[dict[str, str | dict[str, str]]] = dict.fromkeys(rows.TIME_COLUMNS, "int")


@dataclass(frozen=True, slots=True)
class Reader:
    """Answers one question with a client.

    Every method raises QueryTimeout once the time is over.
    """

    client: Client
    until: float
    """When the answer must be there, in seconds of the monotonic clock: some questions take several queries."""

    def find(self, request_id: UUID) -> DecisionRecord | None:
        names = ", ".join(f"`{column}`" for column in rows.COLUMNS)
        found = self._rows(
            # What FINAL would leave, without reading 8,192 rows of every column of each part that may hold the id.
            f"SELECT {names} FROM {schema.TABLE} WHERE request_id = {{request_id:UUID}} "
            "ORDER BY precedence DESC, inserted_at DESC LIMIT 1",
            {"request_id": request_id},
            times=_TIMES,
        )
        return rows.record_of(tuple(found[0])) if found else None

    def events(self, query: EventQuery) -> EventPage:
        """Return a page, newest first.

        Raises:
            InvalidRequest: the cursor is none.
        """
        condition = queries.events_that(query.model_copy(update={"since": None}))
        newest = query.before or now()
        if query.cursor is not None:
            place = Place.read(query.cursor)
            after = queries.behind(place, "received_at", "request_id")
            condition, newest = condition.and_also(after.sql, **after.parameters), min(place.at, newest)
        found: Sequence[Sequence[Any]] = []
        for since in queries.windows(newest, query.since):
            both = queries.in_period(condition, "received_at", since, None)
            found = self._rows(
                f"SELECT {_SUMMARY_SQL} FROM {schema.VIEW} WHERE {both.sql} "
                "ORDER BY received_at DESC, toUInt128(request_id) DESC LIMIT {wanted:UInt32}",
                both.parameters | {"wanted": query.limit + 1},
                times=_TIMES,
                settings=BY_DAY,
            )
            if len(found) > query.limit:
                break
        listed = [dict(zip(_SUMMARY, row, strict=True)) for row in found[: query.limit]]
        verdicts = self._verdicts([each["request_id"] for each in listed])
        events = [
            EventSummary(
                **each
                | {
                    "received_at": rows.EPOCH + each["received_at"] * rows.MICROSECOND,
                    "feedback": verdicts.get(each["request_id"]),
                }
            )
            for each in listed
        ]
        more = len(found) > query.limit
        return EventPage(events=events, next_cursor=str(place_of(events[-1])) if more else None)

    def event(self, question: EventQuestion) -> EventDetail:
        """Return everything about one request.

        Raises:
            UnknownRequest: there is none, or it is another tenant's.
        """
        record = self.find(question.request_id)
        if record is None or question.tenant not in (None, record.tenant):
            raise UnknownRequest(field="request_id")
        asked = {"request_id": question.request_id, "digest": record.text_digest}
        texts: Sequence[Sequence[Any]] = []
        if question.with_text:
            texts = self._rows(
                f"SELECT text FROM {schema.TEXTS} WHERE request_id = {{request_id:UUID}} "
                "AND text_digest = {digest:String} LIMIT 1",
                asked,
            )
        reports = self._reports(Condition("request_id = {request_id:UUID}", asked), limit=MOST_REPORTS, with_text=False)
        return EventDetail(record=record, feedback=reports, text=texts[0][0] if texts else None)

    def feedback(self, query: FeedbackQuery) -> FeedbackPage:
        """Return a page of reports, newest first.

        Raises:
            InvalidRequest: the cursor is none.
        """
        condition = queries.reports_that(query)
        if query.cursor is not None:
            after = queries.behind(Place.read(query.cursor), "given_at", "feedback_id")
            condition = condition.and_also(after.sql, **after.parameters)
        if query.with_text:
            return self._with_texts(condition, query.limit)
        found = self._reports(condition, limit=query.limit + 1, with_text=False)
        reports = found[: query.limit]
        more = len(found) > query.limit
        return FeedbackPage(reports=reports, next_cursor=str(place_of(reports[-1])) if more else None)

    def _with_texts(self, condition: Condition, limit: int) -> FeedbackPage:
        """Return as many reports as hold PAGE_BYTES of text, one at least; a thousand might hold 400 MB."""
        found = self._rows(
            "SELECT request_id, feedback_id, given_at, length(ifNull(text, '')) + length(ifNull(comment, '')) AS size "
            # Sorted by size too, after all: otherwise it is computed once all texts are sorted.
            f"FROM {schema.FEEDBACK} FINAL WHERE {condition.sql} "
            "ORDER BY given_at DESC, toUInt128(feedback_id) DESC, size LIMIT {wanted:UInt32}",
            condition.parameters | {"wanted": limit + 1},
            times=FEEDBACK_TIMES,
        )
        sizes = accumulate(size for _, _, _, size in found[:limit])
        listed = found[: max(1, sum(size <= PAGE_BYTES for size in sizes))]
        if not listed:
            return FeedbackPage(reports=[])
        # By the key, so that the texts of no others are read.
        chosen = condition.and_also(
            "toUInt128(request_id) IN {requests:Array(UInt128)} AND has({reports:Array(UUID)}, feedback_id)",
            requests=[request_id.int for request_id, *_ in listed],
            reports=[feedback_id for _, feedback_id, *_ in listed],
        )
        reports = self._reports(chosen, limit=len(listed), with_text=True)
        _, feedback_id, given_at, _ = listed[-1]
        last = Place(rows.EPOCH + given_at * rows.MICROSECOND, feedback_id)
        return FeedbackPage(reports=reports, next_cursor=str(last) if len(found) > len(listed) else None)

    def stats(self, query: StatsQuery) -> Stats:
        """Count events over time.

        Raises:
            InvalidRequest: the period is none, or has too many points.
        """
        before = query.before or now()
        since = query.since or before - USUAL_PERIOD
        width_s = queries.bucket_width_s(since, before, query.bucket_s)
        starts = queries.bucket_starts(since, before, width_s)
        place_of_start = {int(start.timestamp()): place for place, start in enumerate(starts)}
        where = queries.events_that(query.model_copy(update={"since": since, "before": before}))
        group = queries.GROUPS[query.by]
        (totals,) = self._rows(
            "SELECT count(), countIf(decision != {expired:String}), "
            "quantilesIf(0.5, 0.9, 0.95, 0.99)(latency_ms, decision != {expired:String}) "
            f"FROM {schema.VIEW} WHERE {where.sql}",
            where.parameters | {"expired": str(Verdict.EXPIRED)},
            settings=BY_DAY,
        )
        largest = self._rows(
            f"SELECT {group} AS name, count() AS total FROM {schema.VIEW} WHERE {where.sql} "
            "GROUP BY name ORDER BY total DESC, name LIMIT {most:UInt32}",
            where.parameters | {"most": MOST_SERIES},
            settings=BY_DAY,
        )
        counts = {name: [0] * len(starts) for name, _ in largest}
        points = self._rows(
            "SELECT intDiv(toUnixTimestamp(received_at), {width:UInt32}) * {width:UInt32} AS start, "
            f"{group} AS name, count() FROM {schema.VIEW} WHERE {where.sql} "
            "GROUP BY start, name HAVING has({names:Array(String)}, name)",
            where.parameters | {"width": width_s, "names": [name for name, _ in largest]},
            settings=BY_DAY,
        )
        for start, name, count in points:
            counts[name][place_of_start[start]] = count
        total, judged, quantiles = totals
        return Stats(
            since=since,
            before=before,
            bucket_s=width_s,
            by=query.by,
            total=total,
            latency_ms=Percentiles(**dict(zip(Percentiles.model_fields, quantiles, strict=True))) if judged else None,
            starts=starts,
            series=[Series(name=name, total=total, counts=counts[name]) for name, total in largest],
        )

    def _verdicts(self, request_ids: list[UUID]) -> dict[UUID, str]:
        if not request_ids:
            return {}
        found = self._rows(
            f"SELECT request_id, argMax(verdict, given_at) FROM {schema.FEEDBACK} "
            "WHERE has({request_ids:Array(UUID)}, request_id) GROUP BY request_id",
            {"request_ids": request_ids},
        )
        return dict(found)  # type: ignore[arg-type]

    def _reports(self, condition: Condition, *, limit: int, with_text: bool) -> list[FeedbackRecord]:
        columns = ", ".join("NULL" if name == "text" and not with_text else name for name in FEEDBACK_COLUMNS)
        found = self._rows(
            f"SELECT {columns} FROM {schema.FEEDBACK} FINAL WHERE {condition.sql} "
            "ORDER BY given_at DESC, toUInt128(feedback_id) DESC LIMIT {wanted:UInt32}",
            condition.parameters | {"wanted": limit},
            times=FEEDBACK_TIMES,
        )
        return [feedback_of(row) for row in found]

    def _rows(
        self,
        sql: str,
        parameters: dict[str, Any],
        times: dict[str, str | dict[str, str]] | None = None,
        settings: dict[str, int] | None = None,
    ) -> Sequence[Sequence[Any]]:
        remaining_s = self.until - time.monotonic()
        if remaining_s <= 0:
            raise QueryTimeout
        limits = {"max_execution_time": math.ceil(remaining_s)}
        answer = self.client.query(sql, parameters=parameters, column_formats=times, settings=limits | (settings or {}))
        return answer.result_rows


MOST_REPORTS: Final = 100
"""Reports shown with one event."""
PAGE_BYTES: Final = 2**20
"""Bytes of text in one page of reports; a longer one is a page of its own."""


def place_of(row: EventSummary | FeedbackRecord) -> Place:
    """Return where a list goes on behind a row."""
    if isinstance(row, EventSummary):
        return Place(row.received_at, row.request_id)
    return Place(row.given_at, row.feedback_id)
