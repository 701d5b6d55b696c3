"""The event log's schema: numbered SQL files applied once and in order, and the retention that settings ask for."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from app.errors import ConfigurationError

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

logger: Final = logging.getLogger("vigil.events")

MIGRATIONS_DIR: Final = Path(__file__).parent / "migrations"
TABLE: Final = "events_log"
"""Where rows are written; a request may have several here until ClickHouse has merged them."""
VIEW: Final = "events"
"""Where rows are read: exactly one for each request id, the first decision's."""
TEXTS: Final = "event_texts"
"""Full texts, where they are stored."""
FEEDBACK: Final = "feedback"
"""Reports on decisions; read with FINAL, each key's latest report on a request."""

_FILE_NAME: Final = re.compile(r"^(\d{4})_([a-z0-9_]+)\.sql$")
_COMPATIBLE: Final = re.compile(r"\A--[ ]compatible-with:[ ](\d{1,9})[ ]*$", re.MULTILINE)
_COMMENT_LINE: Final = re.compile(r"^\s*--.*$", re.MULTILINE)
_STATEMENT_END: Final = re.compile(r";\s*$", re.MULTILINE)
_RETENTION: Final = re.compile(r"\bTTL toDateTime\(\w+\) \+ toIntervalDay\((\d+)\)")

_RECORD_TABLE: Final = """
CREATE TABLE IF NOT EXISTS schema_migrations
(
    version UInt32,
    name String,
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC'),
    compatible_with UInt32 DEFAULT version
)
ENGINE = ReplacingMergeTree
ORDER BY version
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
"""
_COMPATIBILITY: Final = "compatible_with"
_RECORD_COMPATIBILITY: Final = (
    f"ALTER TABLE schema_migrations ADD COLUMN IF NOT EXISTS {_COMPATIBILITY} UInt32 DEFAULT version"
)
"""For tables that programs made which did not record it."""


@dataclass(frozen=True)
class Migration:
    """One file of migrations/. Each statement can be repeated: two replicas may run it at once, or one run twice."""

    version: int
    name: str
    statements: tuple[str, ...]
    compatible_with: int
    """The oldest program, by the newest migration it knows, that can still write and read after this one: the version
    itself, unless the file's first line says `-- compatible-with: 4`."""


def load_migrations(folder: Path = MIGRATIONS_DIR) -> tuple[Migration, ...]:
    """Read the migrations of a folder, ordered by version.

    Raises:
        ConfigurationError: a file is not named NNNN_name.sql, the numbers do not run 1, 2, 3 and so on, or a file says
            that it is compatible with itself or what comes after it.
    """
    migrations = []
    for expected, path in enumerate(sorted(folder.glob("*.sql")), start=1):
        named = _FILE_NAME.match(path.name)
        if named is None or int(named[1]) != expected:
            raise ConfigurationError(f"migration {path.name} should be number {expected:04} of its folder")
        content = path.read_text(encoding="utf-8")
        compatible = _COMPATIBLE.match(content)
        if compatible is not None and int(compatible[1]) >= expected:
            raise ConfigurationError(f"migration {path.name} should be compatible with an earlier version than its own")
        text = _COMMENT_LINE.sub("", content)
        statements = tuple(part.strip() for part in _STATEMENT_END.split(text) if part.strip())
        migrations.append(Migration(expected, named[2], statements, int(compatible[1]) if compatible else expected))
    return tuple(migrations)


def create_database(client: Client, database: str) -> None:
    """Create the database if it is missing and make it the client's; one that exists needs no right to create it."""
    known = client.query(
        "SELECT count() FROM system.databases WHERE name = {name:String}", parameters={"name": database}
    )
    if not known.result_rows[0][0]:
        client.command(f"CREATE DATABASE IF NOT EXISTS `{database}`")
    client.database = database


def apply_migrations(client: Client, migrations: Sequence[Migration]) -> list[int]:
    """Run what the client's database lacks and return the versions run.

    Safe when several replicas start at once and after an interrupted run: a migration is recorded after its last
    statement, and running one again changes nothing. A database that is up to date, or newer, is only read.

    Raises:
        ConfigurationError: the database has a migration that this code does not know and cannot work with.
    """
    applied = _applied_versions(client)
    newest_known = max((migration.version for migration in migrations), default=0)
    newest_applied = max(applied, default=0)
    if newest_applied > newest_known:
        needed = max(compatible for version, compatible in applied.items() if version > newest_known)
        if needed > newest_known:
            raise ConfigurationError(
                f"the event log's database is at schema version {newest_applied}, newer than this program's "
                f"{newest_known}, and can be used from version {needed} on"
            )
        logger.warning("the event log's database is at schema version %d, newer than this program's", newest_applied)
    missing = [migration for migration in migrations if migration.version not in applied]
    for migration in missing:
        for statement in migration.statements:
            client.command(statement)
        client.command(
            f"INSERT INTO schema_migrations (version, name, {_COMPATIBILITY}) "
            "SELECT {version:UInt32}, {name:String}, {compatible:UInt32}",
            parameters={
                "version": migration.version,
                "name": migration.name,
                "compatible": migration.compatible_with,
            },
        )
    return [migration.version for migration in missing]


def apply_retention(client: Client, days: int, table: str = TABLE, column: str = "received_at") -> bool:
    """Keep a table's rows for this many days after the time in a column; return whether that changed the table.

    Where a partition is a day it is dropped when its last row has expired, so a row lives at most one day longer.
    """
    definition = client.query(
        "SELECT engine_full FROM system.tables WHERE database = {database:String} AND name = {name:String}",
        parameters={"database": client.database, "name": table},
    ).result_rows[0][0]
    current = _RETENTION.search(definition)
    if current is not None and int(current[1]) == days:
        return False
    client.command(f"ALTER TABLE {table} MODIFY TTL toDateTime({column}) + toIntervalDay({int(days)})")
    return True


def _applied_versions(client: Client) -> dict[int, int]:
    """Return the migrations of the database, each with the oldest program that works after it."""
    columns = client.query(
        "SELECT name FROM system.columns WHERE database = {database:String} AND table = 'schema_migrations'",
        parameters={"database": client.database},
    ).result_rows
    if not columns:
        client.command(_RECORD_TABLE)
    elif (_COMPATIBILITY,) not in columns:
        client.command(_RECORD_COMPATIBILITY)
    applied = client.query(
        f"SELECT version, max({_COMPATIBILITY}) FROM schema_migrations GROUP BY version"  # noqa: S608 - constant
    )
    return {int(version): int(compatible) for version, compatible in applied.result_rows}
