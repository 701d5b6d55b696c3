"""The drill that takes ClickHouse away under load."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import nats.errors

from app.topology import LOGGING_WORKER
from tests.drills.harness import Drill
from tests.drills.ledger import Outcome
from tests.integration.clickhouse_http import PASSWORD, USER
from tests.running_service import CHECKOUT
from tests.support import free_port

RATE = 90.0
"""Requests a second, so that the load spans the outage."""


@dataclass
class EventLogServer:
    """A ClickHouse server's stand-in that keeps its folder and port over a kill."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://{USER}:{quote(PASSWORD, safe='')}@127.0.0.1:{self.port}"

    def start(self) -> None:
        if self.process is not None:
            return
        command = [sys.executable, "-m", "tests.drills.clickhouse_stand_in", str(self.folder), str(self.port)]
        self.process = subprocess.Popen(command, cwd=CHECKOUT)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


async def event_log_away(drill: Drill) -> None:
    """kill -9 of the ClickHouse server; it comes back with its folder and port after a while."""
    server = EventLogServer(drill.folder / "event-log")
    drill.rows_folder = server.folder
    drill.before_reading = server.kill
    drill.before_starting = server.start
    drill.on_end(server.kill)
    await drill.start(drill.service(environment={"CLICKHOUSE_URL": server.url}))
    async with drill.load(rate=RATE):
        await drill.after_answers(drill.size.requests // 5)
        server.kill()
        gone_at = time.monotonic()
        await asyncio.sleep(drill.size.lasts_s)
        waiting = await _waiting_events(drill)
        server.start()
        back_at = time.monotonic()
        await drill.recovered(gone_at)
        await _until_events_are_written(drill)
        caught_up_s = time.monotonic() - back_at
    took_ms = {"before": [], "during the outage": []}
    for entry in drill.ledger.with_outcome(Outcome.DECIDED):
        if entry.sent_at < gone_at:
            took_ms["before"].append(entry.took_s * 1000)
        elif entry.sent_at < back_at:
            took_ms["during the outage"].append(entry.took_s * 1000)
    drill.account.figures |= {
        "events_waiting_at_the_end_of_the_outage": waiting,
        "caught_up_s": round(caught_up_s, 2),
        "latency_ms": {when: _percentiles(values) for when, values in took_ms.items()},
    }
    drill.note(
        f"ClickHouse away for {drill.size.lasts_s:g} s: {waiting} events waited in the stream, written "
        f"{caught_up_s:.1f} s after its return; "
        + ", ".join(f"{when} P50/P99 {p['p50']:g}/{p['p99']:g} ms" for when, p in _latencies(drill))
    )


def _latencies(drill: Drill) -> list[tuple[str, dict[str, float]]]:
    return list(drill.account.figures["latency_ms"].items())


def _percentiles(values: list[float]) -> dict[str, float]:
    if len(values) < 2:
        return {"p50": 0.0, "p99": 0.0}
    hundredths = statistics.quantiles(values, n=100)
    return {"p50": round(hundredths[49], 1), "p99": round(hundredths[98], 1)}


async def _waiting_events(drill: Drill) -> int:
    async with drill.jetstream() as jetstream:
        info = await jetstream.consumer_info(LOGGING_WORKER.stream, LOGGING_WORKER.durable)
        return (info.num_pending or 0) + (info.num_ack_pending or 0)


async def _until_events_are_written(drill: Drill) -> None:
    """Return once no more events wait than come in while they are written."""
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        with contextlib.suppress(nats.errors.Error, TimeoutError):
            if await _waiting_events(drill) <= 2 * RATE:
                return
        await asyncio.sleep(0.1)
