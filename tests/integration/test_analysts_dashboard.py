"""Every ClickHouse query of the dashboards runs on the real engine and finds what was recorded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from uuid import uuid4

import pytest
from clickhouse_connect.driver import Client

from app.contracts import BranchName, BranchResult, Category, DecisionRecord, Finding, Verdict
from app.settings import Settings
from tests.integration.test_event_log import opened_engine
from tests.monitoring import Question, sql_questions
from tests.unit.events.records import RECEIVED_AT, full_record, plain_record

pytestmark = pytest.mark.integration

FROM, TO = (f"toDateTime64('{RECEIVED_AT + timedelta(days=days):%Y-%m-%d %H:%M:%S}', 3, 'UTC')" for days in (-1, 2))
QUESTIONS = sql_questions()


CHOSEN = {"tenant": "'default'", "policy": "'balanced','strict'", "source": "'input','tool'"}
ALL = dict.fromkeys(CHOSEN, "")
"""What Grafana knows of variables that are All, while the event log holds nothing to choose from."""


def filled_in(query: str, chosen: dict[str, str] = CHOSEN) -> str:
    """Put in what Grafana and its ClickHouse plugin put in: macros, and chosen values of variables."""
    for name, values in chosen.items():
        condition = re.compile(rf"\$__conditionalAll\(([^$]*\$\{{{name}:singlequote\}}\)), \${name}\)")
        query = condition.sub(r"\1" if values else "1=1", query)
    query = re.sub(r"\$__timeFilter\((\w+)\)", rf"\1 >= {FROM} AND \1 <= {TO}", query)
    query = re.sub(r"\$__timeInterval\((\w+)\)", r"toStartOfInterval(toDateTime(\1), INTERVAL 60 second)", query)
    for name, values in chosen.items():
        query = query.replace(f"${{{name}:singlequote}}", values)
    assert "$" not in query
    assert not re.search(r"IN \(\s*\)", query), "ClickHouse takes it from 25 on, and not in every version"
    return query


OVERRIDE = Finding(detector="heuristics", rule="override-1", start=0, end=3, score=80)


def allowed_record() -> DecisionRecord:
    record = plain_record()
    return record.model_copy(update={"answer": record.answer.model_copy(update={"findings": [OVERRIDE]})})


def blocked_record() -> DecisionRecord:
    record = plain_record(decision=Verdict.BLOCKED)
    answer = record.answer.model_copy(
        update={
            "categories": [Category.JAILBREAK, Category.OBFUSCATION],
            "branches": {BranchName.SEMANTIC: BranchResult(score=80, confidence=0.8, signals=["family:role_play"])},
            "findings": [OVERRIDE] * 3,
            "boosts": ["unanimous_high"],
            "score": 91,
        }
    )
    return record.model_copy(update={"answer": answer})


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with opened_engine(Settings(state_dir=tmp_path_factory.mktemp("dashboards"))) as (engine, client):
        blocked = blocked_record()
        engine.insert([allowed_record(), blocked, full_record(), plain_record(decision=Verdict.EXPIRED)])
        report = {
            "request_id": blocked.answer.request_id,
            "feedback_id": uuid4(),
            "tenant": "default",
            "given_at": RECEIVED_AT,
            "verdict": "false_positive",
            "decision": "BLOCKED",
            "score": 91,
            "mode": "fast",
            "source": "input",
            "policy": "balanced",
        }
        client.insert("feedback", [list(report.values())], column_names=list(report))
        yield client


@pytest.mark.parametrize("question", QUESTIONS, ids=[question.place for question in QUESTIONS])
def test_a_query_runs_and_finds_something(client: Client, question: Question) -> None:
    assert client.query(filled_in(question.text)).result_rows


@pytest.mark.parametrize("question", QUESTIONS, ids=[question.place for question in QUESTIONS])
def test_all_finds_what_choosing_every_value_finds(client: Client, question: Question) -> None:
    assert client.query(filled_in(question.text, ALL)).result_rows == client.query(filled_in(question.text)).result_rows


@pytest.mark.parametrize(
    ("panel", "rows"),
    [
        ("Texts judged", [(3,)]),
        ("Blocked", [(1,)]),
        ("Share blocked", [(pytest.approx(1 / 3),)]),
        ("Judged without a branch", [(1,)]),
        ("Top families", [("role_play", 1)]),
        ("Boosts", [("unanimous_high", 2), ("critical_heuristics", 1)]),
        ("Kinds of personal data", [("PERSON", 500)]),
        ("Rules behind false alarms", [("override-1", "heuristics", 1)]),
    ],
)
def test_a_panel_says_what_was_recorded(client: Client, panel: str, rows: list[tuple[object, ...]]) -> None:
    [text] = [question.text for question in QUESTIONS if question.place == f"analysts.json: {panel}"]
    assert client.query(filled_in(text)).result_rows == rows


def test_a_rule_that_matches_often_in_one_text_counts_that_text_once(client: Client) -> None:
    [text] = [question.text for question in QUESTIONS if question.place == "analysts.json: Top rules"]
    assert client.query(filled_in(text)).result_rows[0] == ("override-1", "heuristics", 2, 50.0)
