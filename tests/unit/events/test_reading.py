"""A question's time holds for all its queries together, and a period of any length gives a chart that can be read."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from app.errors import QueryTimeout
from app.events.reading import Reader
from app.log_contracts import StatsQuery


class Client:
    """Has no rows, and notes how long each query may take."""

    def __init__(self) -> None:
        self.allowed_s: list[int] = []

    def query(self, sql: str, *, settings: dict[str, int], **_: Any) -> SimpleNamespace:
        self.allowed_s.append(settings["max_execution_time"])
        return SimpleNamespace(result_rows=[])


def test_a_query_may_take_what_is_left_of_its_questions_time() -> None:
    client: Any = Client()
    assert Reader(client, time.monotonic() + 6.5).find(uuid4()) is None
    assert client.allowed_s == [7]


@pytest.mark.parametrize("days", [0.01, 1, 30, 5 * 365, 199 * 365])
def test_a_period_of_any_length_gives_about_60_points_at_most(days: float) -> None:
    client: Any = Client()
    client.query = lambda sql, **_: SimpleNamespace(result_rows=[(0, 0, [])] if "countIf" in sql else [])
    since = datetime(2000, 1, 1, 0, 0, 30, tzinfo=UTC)
    before = since + timedelta(days=days)
    stats = Reader(client, time.monotonic() + 60).stats(StatsQuery(since=since, before=before))
    width = timedelta(seconds=stats.bucket_s)
    assert 10 <= len(stats.starts) <= 61
    assert stats.starts[0] <= since < stats.starts[0] + width
    assert stats.starts[-1] < before <= stats.starts[-1] + width


def test_nothing_is_asked_once_the_time_is_over() -> None:
    client: Any = Client()
    with pytest.raises(QueryTimeout):
        Reader(client, time.monotonic()).stats(StatsQuery())
    assert client.allowed_s == []
