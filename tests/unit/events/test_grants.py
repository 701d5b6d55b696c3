"""The ClickHouse user of config/clickhouse/vigil.xml may do what the service sends, and little else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4
from xml.etree import ElementTree

import pytest

from app.events import schema
from app.events.engine import Engine
from app.identity import fingerprint, now
from app.log_contracts import EventQuery, FeedbackQuery, ForgetKind, ForgetOrder, StatsQuery
from app.settings import EventLogSettings, Settings
from tests.unit.events.records import full_record

SALT = "00" * 16
FILE = Path(__file__).parents[3] / "config" / "clickhouse" / "vigil.xml"
GRANT = re.compile(r"GRANT (?P<privileges>[A-Z ,]+?)(?:\((?P<columns>[a-z_, ]+)\))? ON (?P<where>[\w.*]+)")
OPEN_TO_ALL = {"system.databases", "system.tables", "system.columns", "system.settings"}
"""Tables of the server that need no grant; any other one does, unless `select_from_system_db_requires_grant` is off."""
KINDS = (
    (r"(SELECT|WITH|EXPLAIN)\b", {"SELECT"}),
    (r"INSERT INTO\b", {"INSERT"}),
    (r"CREATE DATABASE\b", {"CREATE DATABASE"}),
    (r"CREATE TABLE\b", {"CREATE TABLE"}),
    (r"CREATE OR REPLACE VIEW\b", {"CREATE VIEW", "DROP VIEW"}),
    (r"DROP VIEW\b", {"DROP VIEW"}),
    (r"CREATE VIEW\b", {"CREATE VIEW"}),
    (r"ALTER TABLE \S+\s+(ADD|MODIFY|DROP|RENAME|COMMENT) COLUMN\b", {"ALTER COLUMN"}),
    (r"ALTER TABLE \S+\s+(ADD|DROP|MATERIALIZE) INDEX\b", {"ALTER INDEX"}),
    (r"ALTER TABLE \S+\s+(MODIFY|REMOVE) TTL\b", {"ALTER TTL"}),
    (r"ALTER TABLE \S+\s+(MODIFY|RESET) SETTING\b", {"ALTER SETTINGS"}),
    (r"(DELETE FROM\b|ALTER TABLE \S+\s+DELETE\b)", {"ALTER DELETE", "SELECT"}),
    (r"(UPDATE\b|ALTER TABLE \S+\s+UPDATE\b)", {"ALTER UPDATE", "SELECT"}),
)
"""What ClickHouse asks for each kind of statement (its manual, GRANT)."""


def needed(statement: str) -> set[str]:
    text = re.sub(r"^\s*--.*$", "", statement, flags=re.MULTILINE).strip()
    for pattern, privileges in KINDS:
        if re.match(pattern, text, re.IGNORECASE):
            return privileges
    raise AssertionError(f"a statement of a kind that is not in the table: {text[:80]}")


def granted() -> dict[str, set[str]]:
    """Return the privileges by what they are granted on."""
    found: dict[str, set[str]] = {}
    for match in grants():
        found.setdefault(match["where"], set()).update(match["privileges"].split(", "))
    return found


def grants() -> Iterator[re.Match[str]]:
    for query in ElementTree.parse(FILE).iterfind("users/vigil/grants/query"):  # noqa: S314 - our own file
        match = GRANT.fullmatch((query.text or "").strip())
        assert match is not None, query.text
        yield match


class Noting:
    """A client that notes what is sent through it."""

    def __init__(self, client: Any, statements: list[str]) -> None:
        self._client, self._statements = client, statements

    def query(self, statement: str, *arguments: Any, **options: Any) -> Any:
        self._statements.append(statement)
        return self._client.query(statement, *arguments, **options)

    def command(self, statement: str, *arguments: Any, **options: Any) -> Any:
        self._statements.append(statement)
        return self._client.command(statement, *arguments, **options)

    def insert(self, table: str, *arguments: Any, **options: Any) -> Any:
        self._statements.append(f"INSERT INTO {table}")
        return self._client.insert(table, *arguments, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            super().__setattr__(name, value)
        else:
            setattr(self._client, name, value)


def sent(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Do all that an event log is there for, on the real engine, and return what was sent."""
    statements: list[str] = []
    connect = Engine._connect
    monkeypatch.setattr(Engine, "_connect", lambda self: Noting(connect(self), statements))
    for days in (90, 30):  # The second time the retention changes.
        engine = Engine(Settings(state_dir=state_dir, event_log=EventLogSettings(retention_days=days)))
        engine.open()
        try:
            record = full_record()
            engine.insert([record])
            engine.reader.find(record.answer.request_id)
            engine.reader.events(EventQuery())
            engine.reader.stats(StatsQuery())
            engine.reader.feedback(FeedbackQuery())
            engine.count()
            engine.ping()
            named = fingerprint(SALT, record.text_digest)
            order = ForgetOrder(forget_id=uuid4(), kind=ForgetKind.TEXT, salt=SALT, fingerprint=named, asked_at=now())
            found = [engine.search(order, stretch) for stretch in engine.stretches()]
            assert [each.events for each in found] == [1]
            engine.erase(order, found[0])
            engine.erasing()
        finally:
            engine.close()
    yield from statements


def test_what_the_service_sends_is_granted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    privileges = set().union(*(needed(statement) for statement in sent(tmp_path, monkeypatch)))
    assert {"CREATE TABLE", "CREATE VIEW", "INSERT", "SELECT", "ALTER TTL"} <= privileges
    assert privileges - granted()["vigil.*"] == set()


def test_what_the_service_asks_of_the_server_itself_is_granted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [
        (found[1], statement)
        for statement in sent(tmp_path, monkeypatch)
        if (found := re.search(r"\bFROM (system\.\w+)", statement)) and found[1] not in OPEN_TO_ALL
    ]
    columns = {
        match["where"]: set(match["columns"].split(", "))
        for match in grants()
        if match["privileges"] == "SELECT" and match["columns"]
    }
    assert asked
    for table, statement in asked:
        named = set(re.findall(r"\b[a-z_]+\b", re.sub(r"\{\w+:[\w()]+\}|system\.\w+", "", statement)))
        assert columns.get(table, set()) == named - {"has"}, statement


def test_a_view_can_be_replaced_where_that_takes_rights_on_the_new_one() -> None:
    """It is made as `_tmp_replace_...` and renamed: SELECT, DROP TABLE there, and CREATE TABLE, INSERT on the view."""
    allowed = granted()
    assert allowed["vigil._tmp_replace_*"] == {"DROP TABLE"}
    assert {"SELECT", "CREATE TABLE", "INSERT"} <= allowed["vigil.*"]


def test_every_migration_is_granted() -> None:
    allowed = granted()
    for migration in schema.load_migrations():
        for statement in migration.statements:
            assert needed(statement) - allowed["vigil.*"] == set(), statement[:80]
            engines = set(re.findall(r"\bENGINE = (\w+)", statement))
            assert {engine for engine in engines if "TABLE ENGINE" not in allowed.get(engine, set())} == set()


def test_nothing_is_granted_beyond_the_database() -> None:
    allowed = granted()
    assert set(allowed) == {
        "vigil.*",
        "vigil._tmp_replace_*",
        "system.mutations",
        "ReplacingMergeTree",
        "MergeTree",
    }
    assert allowed["system.mutations"] == {"SELECT"}
    assert not allowed["vigil.*"] & {"ALL", "DROP", "DROP TABLE", "DROP DATABASE", "TRUNCATE", "ALTER", "ALTER TABLE"}
    users = ElementTree.parse(FILE).find("users")  # noqa: S314 - our own file
    assert users is not None
    assert [user.get("remove") for user in users if user.tag == "default"] == ["remove"]
    assert users.find("vigil/access_management") is None


def test_the_name_of_the_database_is_the_settings_default() -> None:
    assert EventLogSettings().database == "vigil"
