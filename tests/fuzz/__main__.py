"""`make fuzz`: the long versions of the fuzz tests, against a service of their own.

make fuzz                                    # 100,000 messages, 2,000 examples an operation, hostile inputs
make fuzz ARGS="messages --count 5000"
make fuzz ARGS="http --count 200 --operation 'POST /guard'"
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

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
    options = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory(prefix="vigil-fuzz-") as folder:
        for part in options.parts or PARTS:
            print(f"== {part}", flush=True)
            service = RunningService(Path(folder) / part, environment=ENVIRONMENT)
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
    faults = 0
    for report in http.run(service.start(), options.count or 2_000, options.seed, options.operation):
        print("\n".join(report.lines()), flush=True)
        faults += len(report.faults)
    return faults > 0


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
