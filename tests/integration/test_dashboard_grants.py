"""Grafana's user of config/clickhouse/grafana.xml reads what the dashboards ask for, and no text."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from app.events.engine import ENGINE_FOLDER
from app.events.reading import BY_DAY
from app.settings import Settings
from tests.integration.test_analysts_dashboard import QUESTIONS, filled_in
from tests.integration.test_event_log import opened_engine
from tests.running_service import CHECKOUT
from tests.unit.events.records import full_record

pytestmark = pytest.mark.integration


def test_the_dashboards_user_reads_what_they_ask_for_and_no_text(tmp_path: Path) -> None:
    with opened_engine(Settings(state_dir=tmp_path)) as (engine, _):
        engine.insert([full_record()])
    asked = [filled_in(question.text) for question in QUESTIONS]
    refused = [
        "SELECT text FROM vigil.event_texts",
        "SELECT count() FROM vigil.event_texts",
        "SELECT redacted_text FROM vigil.events",
        "SELECT text_digest FROM vigil.events",
        "SELECT metadata FROM vigil.events",
        "SELECT redacted_text FROM vigil.events_log",
        "SELECT * FROM vigil.events",
        "SELECT text FROM vigil.feedback",
        "SELECT comment FROM vigil.feedback",
    ]
    found = subprocess.run(
        [sys.executable, "-m", "tests.integration.clickhouse_reader", str(tmp_path / ENGINE_FOLDER)],
        input=json.dumps([*asked, *refused]),
        capture_output=True,
        text=True,
        check=True,
        cwd=CHECKOUT,
        env={**os.environ, "CLICKHOUSE_GRAFANA_PASSWORD": "s3cr3t"},
    )
    outcomes = dict(zip([*asked, *refused], json.loads(found.stdout), strict=True))
    assert {query: outcomes[query] for query in asked if outcomes[query]} == {}
    assert {query: outcomes[query] for query in refused} == dict.fromkeys(refused, "ACCESS_DENIED")


def test_no_column_is_granted_that_no_dashboard_asks_for() -> None:
    file = CHECKOUT / "config" / "clickhouse" / "grafana.xml"
    grants = [query.text or "" for query in ElementTree.parse(file).iterfind("users/grafana/grants/query")]  # noqa: S314 - our own file
    found = dict(reversed(re.fullmatch(r"GRANT SELECT\(([^)]+)\) ON vigil\.(\w+)", each).groups()) for each in grants)
    assert set(found) == {"events", "events_log", "feedback"}
    assert found["events"] == found["events_log"], "the view is read with the rights of who asks"
    for table, columns in found.items():
        view = table.removesuffix("_log")
        asked = [question.text for question in QUESTIONS if f"vigil.{view}" in question.text]
        for column in re.split(r",\s+", columns.strip()):
            assert any(re.search(rf"(?<![\w.]){re.escape(column)}(?!\w)", text) for text in asked), column


def test_the_dashboards_count_as_the_service_does() -> None:
    file = CHECKOUT / "config" / "clickhouse" / "grafana.xml"
    (profile,) = ElementTree.parse(file).iterfind("profiles/vigil_reader")  # noqa: S314 - our own file
    assert {name: int(profile.findtext(name) or 0) for name in BY_DAY} == BY_DAY
