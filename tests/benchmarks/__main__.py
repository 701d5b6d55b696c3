"""`make bench`: fast and full mode beside the floor, alternating in one run, medians of several rounds.

Everything runs on this machine: nats-server, the service with its embedded event log, and the load generator.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app import __version__
from tests.benchmarks.load import LoadResult, bodies, closed_loop
from tests.running_service import CHECKOUT, RunningService
from tests.support import free_port

OWN_PROMPTS = CHECKOUT / "data" / "detection"
DEFAULT_ROUNDS = 3
WARM_UP_S = 3.0


def main() -> None:
    options = _options()
    texts = _texts(options.prompts)
    with tempfile.TemporaryDirectory() as folder:
        service = RunningService(Path(folder, "state"), arguments=("--loop", "uvloop", "--http", "httptools"))
        started = time.perf_counter()
        try:
            service.start()
            start_s = time.perf_counter() - started
            results = _rounds(service, texts, options)
            memory = _resident_mb(service.process.pid if service.process else 0)
        finally:
            service.end()
    report = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "machine": {"cpus": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version()},
        "prompts": len(texts),
        "connections": options.connections,
        "seconds": options.seconds,
        "rounds": options.rounds,
        "start_s": round(start_s, 2),
        "resident_mb_after_load": memory,
        "results": {name: [result.as_dict() for result in rounds] for name, rounds in results.items()},
    }
    _print(report, results)
    target = Path(options.output)
    target.mkdir(parents=True, exist_ok=True)
    path = target / f"bench-{datetime.now(UTC):%Y%m%dT%H%M%S}.json"
    path.write_text(json.dumps(report, indent=2) + "\n")
    print(f"\nStored in {path}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__)
    parser.add_argument("--prompts", type=Path, action="append", help="JSON Lines with a field `text`")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=8.0, help="length of one measurement")
    parser.add_argument("--rounds", type=int, default=DEFAULT_ROUNDS)
    parser.add_argument("--output", default="bench-results", help="folder of the JSON report")
    return parser.parse_args()


def _texts(paths: list[Path] | None) -> list[str]:
    """Return the prompts in a fixed order."""
    texts = [
        json.loads(line)["text"]
        for path in paths or sorted(OWN_PROMPTS.glob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    random.Random(1).shuffle(texts)
    return texts


def _rounds(service: RunningService, texts: list[str], options: argparse.Namespace) -> dict[str, list[LoadResult]]:
    record = json.loads((service.state_dir / "nats" / "server.json").read_text())
    floor_port = free_port()
    floor = subprocess.Popen(
        [
            *(sys.executable, "-m", "uvicorn", "tests.benchmarks.floor:app", "--port", str(floor_port)),
            *("--no-access-log", "--log-level", "warning", "--loop", "uvloop", "--http", "httptools"),
        ],
        cwd=CHECKOUT,
        env={**os.environ, "NATS_URL": f"nats://{record['host']}:{record['port']}"},
    )
    targets = {
        "floor": (f"http://127.0.0.1:{floor_port}/guard", bodies(texts, "fast")),
        "fast": (f"{service.url}/guard", bodies(texts, "fast")),
        "full": (f"{service.url}/guard", bodies(texts, "full")),
    }
    results: dict[str, list[LoadResult]] = {name: [] for name in targets}
    try:
        _wait_for_port(floor_port)
        for url, requests in targets.values():
            closed_loop(url, requests, connections=options.connections, seconds=WARM_UP_S)
        for number in range(options.rounds):
            for name, (url, requests) in targets.items():
                result = closed_loop(url, requests, connections=options.connections, seconds=options.seconds)
                results[name].append(result)
                print(f"round {number + 1} {name:5} {result.requests_per_s:8.1f} requests/s", flush=True)
    finally:
        floor.terminate()
        floor.wait()
    return results


def _wait_for_port(port: int) -> None:
    import socket

    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError("the floor did not start")


def _resident_mb(pid: int) -> float | None:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return None
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def _print(report: dict[str, Any], results: dict[str, list[LoadResult]]) -> None:
    floor = statistics.median(result.requests_per_s for result in results["floor"])
    print(f"\n{report['connections']} connections, {report['rounds']} rounds of {report['seconds']:g} s, medians")
    print(f"{'':6}{'requests/s':>12}{'P50 ms':>9}{'P90 ms':>9}{'P99 ms':>9}{'errors':>8}{'of floor':>10}")
    for name, rounds in results.items():
        rate = statistics.median(result.requests_per_s for result in rounds)
        p50, p90, p99 = (
            statistics.median(getattr(result, field) for result in rounds) for field in ("p50_ms", "p90_ms", "p99_ms")
        )
        errors = sum(result.errors for result in rounds)
        print(f"{name:6}{rate:12.1f}{p50:9.1f}{p90:9.1f}{p99:9.1f}{errors:8d}{rate / floor:10.2f}")
    print(f"start to ready {report['start_s']} s, resident {report['resident_mb_after_load']} MB after the load")


if __name__ == "__main__":
    main()
