"""The dashboards of a service that was just started: nothing is recorded, and All is chosen of nothing.

A module of its own, since a process can have one engine open.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from clickhouse_connect.driver import Client

from app.settings import Settings
from tests.integration.test_analysts_dashboard import ALL, QUESTIONS, filled_in
from tests.integration.test_event_log import opened_engine
from tests.monitoring import Question

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with opened_engine(Settings(state_dir=tmp_path_factory.mktemp("empty"))) as (_, client):
        yield client


@pytest.mark.parametrize("question", QUESTIONS, ids=[question.place for question in QUESTIONS])
def test_a_query_runs_on_an_empty_log_where_all_is_chosen(client: Client, question: Question) -> None:
    client.query(filled_in(question.text, ALL))
