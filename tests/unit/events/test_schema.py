"""Migrations: numbered files, read in order, cut into statements."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.errors import ConfigurationError
from app.events.schema import load_migrations


def test_the_shipped_migrations_load_and_contain_no_comments() -> None:
    migrations = load_migrations()
    assert [migration.version for migration in migrations] == list(range(1, len(migrations) + 1))
    assert all(migration.statements for migration in migrations)
    assert not any(line.lstrip().startswith("--") for m in migrations for s in m.statements for line in s.splitlines())


def test_every_statement_of_a_shipped_migration_can_be_repeated() -> None:
    for migration in load_migrations():
        for statement in migration.statements:
            assert any(words in statement for words in ("IF NOT EXISTS", "IF EXISTS", "OR REPLACE", "MODIFY SETTING"))


def test_statements_end_at_a_semicolon_at_the_end_of_a_line(tmp_path: Path) -> None:
    (tmp_path / "0001_first.sql").write_text("-- why;\nSELECT ';' AS a;\n\nSELECT 2\n;\n")
    assert load_migrations(tmp_path)[0].statements == ("SELECT ';' AS a", "SELECT 2")


@pytest.mark.parametrize("names", [("0002_late.sql",), ("0001_a.sql", "0001_b.sql"), ("first.sql",)])
def test_files_that_leave_the_order_open_are_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (tmp_path / name).write_text("SELECT 1;")
    with pytest.raises(ConfigurationError):
        load_migrations(tmp_path)


def test_a_migration_says_which_programs_can_go_on(tmp_path: Path) -> None:
    (tmp_path / "0001_first.sql").write_text("-- The table.\n-- compatible-with: 0\nSELECT 1;\n")
    (tmp_path / "0002_added.sql").write_text("-- compatible-with: 1\n-- A column.\nSELECT 2;\n")
    first, added = load_migrations(tmp_path)
    assert (first.compatible_with, added.compatible_with) == (1, 1), "only the first line counts"
    assert added.statements == ("SELECT 2",)


def test_a_migration_that_says_it_is_compatible_with_itself_alone_is_refused(tmp_path: Path) -> None:
    (tmp_path / "0001_first.sql").write_text("-- compatible-with: 1\nSELECT 1;\n")
    with pytest.raises(ConfigurationError, match="0001_first"):
        load_migrations(tmp_path)
