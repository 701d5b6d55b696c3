"""Runs queries on the real engine with the rights that config/clickhouse/grafana.xml grants.

No ClickHouse server can run beside the tests, but the engine reads the same user files, and a view with a definer is
read with the definer's rights. `python -m tests.integration.clickhouse_reader FOLDER` takes queries as a JSON list, and
prints what became of each: the name of the error, or nothing.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
from pathlib import Path

from chdb.session import Session

from tests.running_service import CHECKOUT

USERS = """<clickhouse>
    <profiles><default/></profiles><quotas><default/></quotas>
    <users><default>
        <password/><networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota>
        <access_management>1</access_management>
    </default></users>
</clickhouse>"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        users = Path(folder) / "users.xml"
        users.write_text(USERS)
        (users.parent / "users.d").mkdir()
        shutil.copy(CHECKOUT / "config" / "clickhouse" / "grafana.xml", users.parent / "users.d")
        configuration = users.with_name("config.xml")
        configuration.write_text(f"<clickhouse><users_config>{users}</users_config></clickhouse>")
        session = Session(f"{sys.argv[1]}?config-file={configuration}")
        outcomes = [outcome(session, query) for query in json.load(sys.stdin)]
        json.dump(outcomes, sys.stdout)


def outcome(session: Session, query: str) -> str:
    try:
        # Everybody may read views of this database; what is in them is read as the definer.
        session.query(f"CREATE OR REPLACE VIEW default.asked DEFINER = grafana SQL SECURITY DEFINER AS {query}")
        session.query("SELECT * FROM default.asked", "JSONCompact")
    except Exception as error:  # noqa: BLE001 - the engine raises plain exceptions
        found = re.search(r"\(([A-Z_]+)\)\s*$", str(error))
        return found[1] if found else str(error)
    return ""


if __name__ == "__main__":
    main()
