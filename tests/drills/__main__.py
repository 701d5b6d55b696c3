"""`make drills`: every drill at full length; prints what was broken and what was counted, and keeps it as JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import traceback
from datetime import UTC, datetime
from pathlib import Path

import uvloop
from rich.console import Console
from rich.table import Table

from app import __version__
from tests.drills.catalogue import DRILLS
from tests.drills.ledger import Account

COLUMNS = {
    "sent": "sent",
    "answered": "200",
    "refused": "refused",
    "late": "504",
    "unknown": "unknown",
    "accepted": "accepted",
    "decided": "decided",
    "expired": "(expired)",
    "dead_lettered": "dead",
    "lost_by_definition": "deleted",
    "lost": "lost",
    "duplicate_rows": "row dup.",
    "duplicate_graves": "DLQ dup.",
    "hanging": "hanging",
    "restarts_needed": "restarts",
    "left_in_queue": "left",
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="make drills ARGS=...", description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of the names of the drills to run; all without")
    parser.add_argument("--short", action="store_true", help="the short versions, as the tests run them")
    parser.add_argument("--output", type=Path, default=Path("bench-results"), help="folder of the JSON report")
    options = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    accounts: list[Account] = []
    failed: list[str] = []
    path = options.output / f"drills-{datetime.now(UTC):%Y%m%dT%H%M%S}.json"
    for entry in DRILLS.values():
        if options.names and not any(part in entry.name for part in options.names):
            continue
        size = entry.short if options.short else entry.full
        console.print(f"[bold]{entry.name}[/bold] ({size.requests} requests or more): {(entry.run.__doc__ or '')}")
        with tempfile.TemporaryDirectory(prefix="vigil-drill-") as folder:
            try:
                account = uvloop.run(entry.account(Path(folder), size, lambda line: console.print(line, markup=False)))
            except Exception:  # noqa: BLE001 - the other drills still run, and the report names this one
                failed.append(entry.name)
                console.print(traceback.format_exc(), markup=False)
                continue
        accounts.append(account)
        console.print(f"  {account.seconds:g} s; {'; '.join(account.faults()) or 'as promised'}\n", markup=False)
        _store(accounts, failed, path)
    _print_table(console, accounts)
    console.print(f"Stored in {path}", markup=False)
    return 1 if failed or any(account.faults() for account in accounts) else 0


def _print_table(console: Console, accounts: list[Account]) -> None:
    table = Table("drill", *COLUMNS.values(), "recovery s")
    for account in accounts:
        cells = [str(getattr(account, column)) for column in COLUMNS]
        table.add_row(account.name, *cells, _recovery(account))
    Console(width=max(console.width, 200)).print(table)


def _recovery(account: Account) -> str:
    if not account.recovery_s:
        return ""
    return f"{statistics.median(account.recovery_s):.1f} (worst {max(account.recovery_s):.1f})"


def _store(accounts: list[Account], failed: list[str], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    report = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "machine": {"cpus": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version()},
        "not_finished": failed,
        "drills": [account.as_dict() for account in accounts],
    }
    path.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
