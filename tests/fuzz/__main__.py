"""`make fuzz`: the long versions of the fuzz tests, against a service of their own.

make fuzz                                    # 100,000 messages, 2,000 examples an operation, hostile inputs
make fuzz ARGS="messages --count 5000"
make fuzz ARGS="http --count 200 --operation 'POST /guard'"
make fuzz ARGS="http --workers 4"            # processes that make and check requests; the service is one
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
from pathlib import Path

from app.settings import default_config_dir
from tests.fuzz import hostile, http, messages
from tests.running_service import RunningService

PARTS = ("messages", "http", "hostile")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="make fuzz", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=list(PARTS))
    parser.add_argument("--count", type=int, help="messages, or examples for each operation")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--operation", help="only this one, as 'POST /guard'")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes that ask, for http")
    options = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory(prefix="vigil-fuzz-") as folder:
        for part in options.parts or PARTS:
            print(f"== {part}", flush=True)
            environment = ENVIRONMENT | (fast_by_default(Path(folder)) if part == "http" else {})
            service = RunningService(Path(folder) / part, environment=environment)
            try:
                failed |= RUN[part](service, options)
            finally:
                service.end()
    return int(failed)


ENVIRONMENT = {"VIGIL_WORKERS__SWEEP_INTERVAL_S": "1", "VIGIL_ACCESS__MODE": "open"}
"""Open, since the operations that are tried make keys, and the first key would close the service."""


def fuzz_messages(service: RunningService, options: argparse.Namespace) -> bool:
    account = asyncio.run(messages.run(service.start(), options.count or 100_000, options.seed))
    print("\n".join(account.lines()))
    return bool(account.unaccounted or account.left)


def fuzz_http(service: RunningService, options: argparse.Namespace) -> bool:
    reports: dict[str, http.Report] = {}
    running = service.start()
    for report in http.run(running, options.count or 2_000, options.seed, options.operation, options.workers):
        reports[report.operation] = report
        if report.left == 0 or report.faults:
            print("\n".join(report.lines()), flush=True)
        else:
            print(f"... {next(report.lines())}", flush=True)
    print(f"{len(reports)} operations, {sum(each.examples for each in reports.values())} examples")
    return any(report.faults for report in reports.values())


def fast_by_default(folder: Path) -> dict[str, str]:
    """Return settings under which a request that names no mode is judged without the encoder: its answer has the same
    shape at a tenth of the cost. Those that ask for full mode get it."""
    shutil.copytree(default_config_dir(), folder / "config")
    for policy in (folder / "config" / "policies").iterdir():
        policy.write_text(policy.read_text() + "mode: fast\n")
    return {"VIGIL_CONFIG_DIR": str(folder / "config"), "VIGIL_HTTP__TIMEOUT_S": "30"}


def measure_hostile(_: RunningService, __: argparse.Namespace) -> bool:
    """Print the table; over the limit is no failure of the run, since machines differ."""
    print(f"{'text':26} {'characters':>10} {'fast ms':>9} {'full ms':>9} {'personal data ms':>17}")
    for cost in hostile.costs():
        over = "  over" if max(cost.fast_ms, cost.full_ms, cost.pii_ms) > hostile.LIMIT_MS else ""
        figures = f"{cost.fast_ms:9} {cost.full_ms:9} {cost.pii_ms:17}"
        print(f"{cost.name:26} {cost.characters:10} {figures}{over}", flush=True)
    return False


RUN = {"messages": fuzz_messages, "http": fuzz_http, "hostile": measure_hostile}


if __name__ == "__main__":
    sys.exit(main())
