"""A question's time holds for all its queries together."""

from __future__ import annotations

import time
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


def test_nothing_is_asked_once_the_time_is_over() -> None:
    client: Any = Client()
    with pytest.raises(QueryTimeout):
        Reader(client, time.monotonic()).stats(StatsQuery())
    assert client.allowed_s == []
