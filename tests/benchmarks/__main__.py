"""`make bench`: fast and full mode beside the floor, alternating in one run, medians of several rounds.

Everything runs on this machine: nats-server, the service with its embedded event log, and the load generator. Parts:

closed   N connections that send the next prompt once the last is answered: throughput, latency, CPU per request
open     prompts at a fixed rate, latency from the time each should have left
lengths  CPU per request against the length of the text, one caller
burst    a pile of requests put on the queue at once: time until all are decided, and until all are in the event log
stream   answers judged as they come: what leaks, what a chunk waits for (`--part stream`, not part of a plain run)
soak     one rate for long (`--part soak --soak-s 600`, not part of a plain run): memory, lag, errors

Results go to bench-results/: JSON, and plots as PNG where matplotlib is installed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from app import __version__
from tests.benchmarks import machine, plots, stream
from tests.benchmarks.burst import burst, lag
from tests.benchmarks.load import bodies, closed_loop
from tests.benchmarks.open_loop import open_loop
from tests.running_service import CHECKOUT, RunningService
from tests.support import free_port

OWN_PROMPTS = CHECKOUT / "data" / "detection"
PARTS = ("closed", "open", "lengths", "burst")
WARM_UP_S = 3.0
LENGTHS = (10, 100, 1_000, 10_000)
REQUESTS_OF_A_LENGTH = {10: 40, 100: 40, 1_000: 20, 10_000: 5}
STARTED = "Application startup complete"
"""What uvicorn logs of each worker."""
LOOP = ("--loop", "uvloop", "--http", "httptools")


@dataclass
class Bench:
    """Both services running, and how to ask them."""

    service: RunningService
    floor_pid: int
    server_pid: int
    nats_url: str
    texts: list[str]
    urls: dict[str, str]
    requests: dict[str, list[bytes]]
    options: argparse.Namespace

    def pids(self, name: str) -> list[int]:
        """Return the processes of a target, without nats-server."""
        if name == "floor":
            return [self.floor_pid]
        assert self.service.process is not None
        return [pid for pid in machine.family_of(self.service.process.pid) if pid != self.server_pid]

    def cpu_ms(self, name: str) -> float:
        return sum(map(machine.cpu_ms, self.pids(name)))

    def resident_mb(self) -> float:
        """Return the service's memory; with several workers a page that they share counts for each of them."""
        return round(sum(map(machine.resident_mb, self.pids("fast"))), 1)

    def alternating(self, name: str, measure: Callable[[str], dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
        """Measure the targets in turn, as often as rounds are asked for."""
        results: dict[str, list[dict[str, Any]]] = {target: [] for target in self.urls}
        for number in range(self.options.rounds):
            for target in self.urls:
                results[target].append(measure(target))
                print(f"{name}, round {number + 1}, {target}: {_short(results[target][-1])}", flush=True)
        return results


def main() -> None:
    options = _options()
    texts = _texts(options.prompts)
    with tempfile.TemporaryDirectory() as folder:
        workers = ("--workers", str(options.workers)) if options.workers > 1 else ()
        service = RunningService(Path(folder, "state"), arguments=(*LOOP, *workers))
        started = time.perf_counter()
        try:
            service.start()
            service.wait_for(lambda _: service.log.count(STARTED) >= options.workers)
            start_s = round(time.perf_counter() - started, 2)
            report = _measured(service, texts, options)
        finally:
            service.end()
    report = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "machine": machine.described(),
        "prompts": len(texts),
        "workers": options.workers,
        "seconds": options.seconds,
        "rounds": options.rounds,
        "start_s": start_s,
        **report,
    }
    for line in _summary(report):
        print(line)
    target = Path(options.output)
    target.mkdir(parents=True, exist_ok=True)
    path = target / f"bench-{datetime.now(UTC):%Y%m%dT%H%M%S}.json"
    path.write_text(json.dumps(report, indent=2) + "\n")
    stored = [path, *plots.draw(report, path)]
    print(f"\nStored in {', '.join(map(str, stored))}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench ARGS=...", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=Path, action="append", help="JSON Lines with a field `text`")
    parser.add_argument(
        "--part", choices=(*PARTS, "stream", "soak"), action="append", help="only this part; may be repeated"
    )
    parser.add_argument("--stream-answers", type=int, default=stream.ANSWERS, help="answers of the part stream")
    parser.add_argument(
        "--workers",
        type=int,
        choices=range(1, 65),
        default=1,
        metavar="N",
        help="processes of the service; the floor has one",
    )
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8, 32, 64, 128])
    parser.add_argument("--rates", type=float, nargs="+", default=[150, 300, 500, 800, 1000])
    parser.add_argument("--seconds", type=float, default=6.0, help="length of one measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--burst", type=int, default=20_000, help="requests that are put on the queue at once")
    parser.add_argument("--soak-s", type=float, default=600.0)
    parser.add_argument("--soak-rate", type=float, default=300.0)
    parser.add_argument("--output", default="bench-results", help="folder of the report")
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


def _measured(service: RunningService, texts: list[str], options: argparse.Namespace) -> dict[str, Any]:
    record = json.loads((service.state_dir / "nats" / "server.json").read_text())
    nats_url = service.nats_url
    floor_port = free_port()
    floor = subprocess.Popen(
        [
            *(sys.executable, "-m", "uvicorn", "tests.benchmarks.floor:app", "--port", str(floor_port)),
            *("--no-access-log", "--log-level", "warning", *LOOP),
        ],
        cwd=CHECKOUT,
        env={**os.environ, "NATS_URL": nats_url},
    )
    urls = dict.fromkeys(("fast", "full"), f"{service.url}/guard")
    urls = {"floor": f"http://127.0.0.1:{floor_port}/guard"} | urls
    requests = {name: bodies(texts, "full" if name == "full" else "fast") for name in urls}
    bench = Bench(service, floor.pid, record["pid"], nats_url, texts, urls, requests, options)
    report: dict[str, Any] = {}
    try:
        _wait_for_port(floor_port)
        for name, url in urls.items():
            closed_loop(url, requests[name], connections=8, seconds=WARM_UP_S)
        measures = {
            "closed": _closed,
            "open": _open,
            "lengths": _lengths,
            "burst": _burst,
            "stream": _stream,
            "soak": _soak,
        }
        for part in options.part or PARTS:
            report[part] = measures[part](bench)
        report["resident_mb"] = bench.resident_mb()
    finally:
        floor.terminate()
        floor.wait()
    return report


def _closed(bench: Bench) -> dict[str, Any]:
    def measure(name: str, connections: int) -> dict[str, Any]:
        before = bench.cpu_ms(name), machine.cpu_ms(bench.server_pid)
        result = closed_loop(
            bench.urls[name], bench.requests[name], connections=connections, seconds=bench.options.seconds
        )
        done = max(1.0, result.requests_per_s * bench.options.seconds)
        after = bench.cpu_ms(name), machine.cpu_ms(bench.server_pid)
        return result.as_dict() | {
            "cpu_ms": round((after[0] - before[0]) / done, 3),
            "server_cpu_ms": round((after[1] - before[1]) / done, 3),
        }

    return {
        str(n): bench.alternating(f"{n} connections", lambda name, n=n: measure(name, n))  # type: ignore[misc]
        for n in bench.options.connections
    }


def _open(bench: Bench) -> dict[str, Any]:
    def measure(name: str, rate: float) -> dict[str, Any]:
        return open_loop(bench.urls[name], bench.requests[name], rate=rate, seconds=bench.options.seconds).as_dict()

    return {
        f"{rate:g}": bench.alternating(f"{rate:g} a second", lambda name, rate=rate: measure(name, rate))  # type: ignore[misc]
        for rate in bench.options.rates
    }


def _lengths(bench: Bench) -> dict[str, Any]:
    """Return the CPU time of service and server for a request, by mode and number of words."""
    words = [word for path in sorted(OWN_PROMPTS.glob("everyday*.jsonl")) for word in _words(path)]
    results: dict[str, dict[str, float]] = {"fast": {}, "full": {}}
    for length in LENGTHS:
        count = REQUESTS_OF_A_LENGTH[length]
        step = max(1, (len(words) - length) // count)
        texts = [" ".join(words[at * step : at * step + length]) for at in range(count)]
        for mode, found in results.items():
            pids = [*bench.pids(mode), bench.server_pid]
            before = sum(map(machine.cpu_ms, pids))
            for body in bodies(texts, mode):
                _asked(bench.urls[mode], body)
            found[str(length)] = round((sum(map(machine.cpu_ms, pids)) - before) / count, 2)
            print(f"{length} words, {mode}: {found[str(length)]} ms of CPU", flush=True)
    return results


def _words(path: Path) -> list[str]:
    return [word for line in path.read_text().splitlines() for word in json.loads(line)["text"].split()]


def _asked(url: str, body: bytes) -> None:
    httpx.post(url, content=body, headers={"content-type": "application/json"}, timeout=30).raise_for_status()


def _burst(bench: Bench) -> dict[str, Any]:
    return burst(bench.nats_url, bench.texts, bench.options.burst)


def _stream(bench: Bench) -> dict[str, Any]:
    return stream.measure(bench.options.stream_answers, bench.service.url)


def _soak(bench: Bench) -> dict[str, Any]:
    """Offer one rate for long, in slices of a minute: latency, refusals, memory, and messages left in the stream."""
    slices = []
    for _ in range(max(1, round(bench.options.soak_s / 60))):
        with _memory(bench) as samples:
            result = open_loop(bench.urls["fast"], bench.requests["fast"], rate=bench.options.soak_rate, seconds=60)
        sums = [round(sum(mb for pid, mb in sample.items() if pid != bench.server_pid), 1) for sample in samples]
        each = {str(pid): round(statistics.median(sample.get(pid, 0.0) for sample in samples), 1) for pid in samples[0]}
        memory = {
            "resident_mb": round(statistics.median(sums), 1),
            "most_mb": max(sums),
            "server_mb": each.pop(str(bench.server_pid)),
            "each_mb": each,
        }
        slices.append(result.as_dict() | memory | {"lag": lag(bench.nats_url)})
        print(f"soak: {_short(slices[-1])}", flush=True)
    return {"rate": bench.options.soak_rate, "minutes": slices}


@contextlib.contextmanager
def _memory(bench: Bench) -> Iterator[list[dict[int, float]]]:
    """Look at the memory of each process every second: for a moment a merge of the event log takes tens of MB."""
    pids = [*bench.pids("fast"), bench.server_pid]
    samples = [{pid: machine.resident_mb(pid) for pid in pids}]
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(1.0):
            samples.append({pid: machine.resident_mb(pid) for pid in pids})

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield samples
    finally:
        ended.set()
        looking.join()


def _wait_for_port(port: int) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError("the floor did not start")


def _short(result: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:.1f}" if isinstance(value, float) else f"{name} {value}"
        for name, value in result.items()
        if name not in {"generator", "connections", "rate"}
    )


def _median(rounds: list[dict[str, Any]], field: str) -> float:
    return statistics.median(each[field] for each in rounds)


def _summary(report: dict[str, Any]) -> list[str]:
    """Return the tables, in Markdown."""
    lines = []
    if "closed" in report:
        lines += [
            "",
            "| connections | | requests/s | P50 ms | P99 ms | CPU ms | server CPU ms | errors | of the floor |",
        ]
        lines.append("|--:|---|" + "--:|" * 7)
        for connections, results in report["closed"].items():
            floor = _median(results["floor"], "requests_per_s")
            for name, rounds in results.items():
                rate, p50, p99, cpu, server = (
                    _median(rounds, f) for f in ("requests_per_s", "p50_ms", "p99_ms", "cpu_ms", "server_cpu_ms")
                )
                errors = sum(each["errors"] for each in rounds)
                lines.append(
                    f"| {connections} | {name} | {rate:.0f} | {p50:.1f} | {p99:.1f} | {cpu:.2f} | {server:.2f} "
                    f"| {errors} | {rate / floor:.2f} |"
                )
    if "open" in report:
        lines += ["", "| offered/s | | P50 ms | P99 ms | worst ms | refused |", "|--:|---|--:|--:|--:|--:|"]
        for rate, results in report["open"].items():
            for name, rounds in results.items():
                p50, p99, worst = (_median(rounds, field) for field in ("p50_ms", "p99_ms", "worst_ms"))
                share = sum(each["refused"] for each in rounds) / sum(each["sent"] for each in rounds)
                lines.append(f"| {rate} | {name} | {p50:.1f} | {p99:.1f} | {worst:.0f} | {share:.0%} |")
    if "lengths" in report:
        lines += ["", "| words | fast, CPU ms | full, CPU ms |", "|--:|--:|--:|"]
        fast, full = report["lengths"]["fast"], report["lengths"]["full"]
        lines += [f"| {length} | {fast[length]:.1f} | {full[length]:.1f} |" for length in fast]
    if "burst" in report:
        lines += ["", "burst: " + ", ".join(f"{name} {value}" for name, value in report["burst"].items())]
    if "stream" in report:
        lines += ["", "stream: " + ", ".join(f"{name} {value}" for name, value in report["stream"].items())]
    lines += ["", f"start to ready {report['start_s']} s, resident {report['resident_mb']} MB after the load"]
    return lines


if __name__ == "__main__":
    main()
