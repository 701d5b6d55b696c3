"""Drills that kill or stop the service itself under load."""

from __future__ import annotations

import asyncio
import signal
import time

from app.lifecycle import FORCED_STATUS
from tests.drills.harness import STOP_LIMIT_S, Drill

STOPPING = "Shutting down"
"""What uvicorn says once it has heard the first signal."""
ANSWERS_BETWEEN_FAULTS = 0.5
"""Share of the load that is answered between the faults, on average; the rest is sent after them."""


def next_moment(drill: Drill) -> int:
    """Return after how many more answers the next fault comes, at random."""
    mean = ANSWERS_BETWEEN_FAULTS * drill.size.requests / drill.size.faults
    return max(1, round(drill.random.uniform(0.2, 1.8) * mean))


async def service_killed(drill: Drill) -> None:
    """kill -9 of the service at random moments; the drill starts it again."""
    service = await drill.start(drill.service())
    async with drill.load():
        for number in range(drill.size.faults):
            await drill.after_answers(next_moment(drill))
            killed_at = time.monotonic()
            await drill.kill(service)
            await drill.start(service)
            took_s = await drill.recovered(killed_at)
            drill.note(f"kill -9 of the service, {number + 1}: answers again after {took_s:.1f} s, its start included")


async def replica_killed(drill: Drill) -> None:
    """Two replicas share the embedded server; the one that writes the event log is killed and stays away."""
    writer = await drill.start(drill.service())
    await drill.start(drill.service())
    async with drill.load():
        await drill.after_answers(drill.size.requests // 3)
        killed_at = time.monotonic()
        await drill.kill(writer)
        took_s = await drill.recovered(killed_at)
        drill.note(f"kill -9 of one of two replicas: answers from the other after {took_s:.2f} s")
    drill.services.reverse()


async def service_stopped(drill: Drill) -> None:
    """SIGTERM in the middle of the load, then the same with a second one right after."""
    service = await drill.start(drill.service())
    async with drill.load():
        for number in range(drill.size.faults):
            await drill.after_answers(next_moment(drill))
            stopped_at = time.monotonic()
            await drill.stop(service)
            took_s = time.monotonic() - stopped_at
            await drill.start(service)
            drill.account.figures.setdefault("stop_s", []).append(round(took_s, 2))
            await drill.recovered(stopped_at)
            drill.note(f"SIGTERM under load, {number + 1}: gone after {took_s:.1f} s")
        await drill.after_answers(next_moment(drill))
        stopped_at = time.monotonic()
        process = service.process
        assert process is not None
        stops = service.log.count(STOPPING)
        process.send_signal(signal.SIGTERM)
        await drill.until(lambda: service.log.count(STOPPING) > stops, "reaction to SIGTERM")
        process.send_signal(signal.SIGTERM)
        status = await asyncio.to_thread(process.wait, STOP_LIMIT_S)
        took_s = time.monotonic() - stopped_at
        drill.account.bad_stops += status != FORCED_STATUS
        drill.account.figures["forced_stop"] = {"status": status, "seconds": round(took_s, 2)}
        drill.note(f"two SIGTERMs: gone after {took_s:.2f} s with status {status}")
        await drill.start(service)
        await drill.recovered(stopped_at)
