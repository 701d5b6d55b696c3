"""The drill that offers more than the service can do: what is answered in time, and how the rest is refused."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterator
from typing import Any

from tests.drills.callers import DEADLINE_S, Connection, send
from tests.drills.harness import Drill, endless
from tests.drills.ledger import CERTAINLY_REFUSED, Entry, Outcome

CAPACITY_CONNECTIONS = 64
CAPACITY_S = 4.0
WARM_UP = 200
"""Answers before the capacity is measured."""
FACTORS = (1, 2, 3)
TICK_S = 0.005


async def overload(drill: Drill) -> None:
    """Open-loop load at one, two and three times the measured capacity, fast mode."""
    service = await drill.start(drill.service())
    requests = endless(full=False)
    async with drill.load(requests, connections=CAPACITY_CONNECTIONS):
        await drill.after_answers(WARM_UP)
        began, answered = time.monotonic(), drill.ledger.answered
        await asyncio.sleep(min(CAPACITY_S, drill.size.lasts_s))
        capacity = (drill.ledger.answered - answered) / (time.monotonic() - began)
    steps: dict[str, dict[str, float]] = {"capacity": {"offered": round(capacity, 1), "goodput": round(capacity, 1)}}
    for factor in FACTORS:
        entries = await offer(drill, service.port, requests, factor * capacity)
        figures = _figures(entries, drill.size.lasts_s)
        steps[f"{factor}x"] = figures
        drill.note(
            f"{factor}x: offered {figures['offered']:.0f}/s, answered in time {figures['goodput']:.0f}/s "
            f"(P50 {figures['p50_ms']:.0f}, P99 {figures['p99_ms']:.0f} ms), refused {figures['refused']:.0f}, "
            f"too late {figures['late']:.0f}, not confirmed {figures['unsure']:.0f}"
        )
        untold = sum(entry.outcome is Outcome.REFUSED and not entry.retry_after_s for entry in entries)
        drill.expect(not untold, f"{untold} requests were refused without Retry-After")
    peak = max(step["goodput"] for step in steps.values())
    drill.account.figures |= {"steps": steps, "share_of_peak_at_3x": round(steps["3x"]["goodput"] / peak, 2)}
    drill.note(f"goodput at three times the capacity is {steps['3x']['goodput'] / peak:.2f} of the peak")


async def offer(drill: Drill, port: int, requests: Iterator[dict[str, Any]], rate: float) -> list[Entry]:
    """Send at a rate whatever the answers are; return once all have ended."""
    free: list[Connection] = []
    entries: list[Entry] = []

    async def one(request: dict[str, Any]) -> None:
        entry = drill.ledger.open(request)
        entries.append(entry)
        connection = None
        while free and (connection is None or not connection.usable):
            connection = free.pop()
        try:
            if connection is None or not connection.usable:
                connection = await Connection.open(port)
        except OSError:
            entry.close(Outcome.NOT_REACHED)
            return
        await send(connection, entry)
        free.append(connection)

    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        while (passed := time.monotonic() - began) < drill.size.lasts_s:
            for _ in range(max(0, round(passed * rate) - len(entries))):
                group.create_task(one(next(requests)))
            await asyncio.sleep(TICK_S)
    for connection in free:
        connection.close()
    return entries


def _figures(entries: list[Entry], seconds: float) -> dict[str, float]:
    good = [entry for entry in entries if entry.outcome is Outcome.DECIDED and entry.took_s <= DEADLINE_S]
    took_ms = [entry.took_s * 1000 for entry in good]
    hundredths = statistics.quantiles(took_ms, n=100) if len(took_ms) > 1 else [0.0] * 99
    return {
        "offered": round(len(entries) / seconds, 1),
        "goodput": round(len(good) / seconds, 1),
        "p50_ms": round(hundredths[49], 1),
        "p99_ms": round(hundredths[98], 1),
        "refused": sum(entry.outcome in CERTAINLY_REFUSED for entry in entries),
        "late": sum(entry.outcome is Outcome.LATE for entry in entries),
        "unsure": sum(entry.outcome is Outcome.UNSURE for entry in entries),
    }
