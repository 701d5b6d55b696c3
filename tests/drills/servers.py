"""Drills that kill or pause the message server under load."""

from __future__ import annotations

import asyncio
import os
import signal
import time

from tests.drills.harness import Drill
from tests.drills.killed import next_moment

PAUSE_RATE = 100.0
"""Requests a second during a pause, so that the load spans it."""


async def server_killed(drill: Drill) -> None:
    """kill -9 of nats-server; the service starts its embedded server again by itself."""
    await drill.start(drill.service())
    async with drill.load():
        for number in range(drill.size.faults):
            await drill.after_answers(next_moment(drill))
            killed_at = time.monotonic()
            os.kill(drill.server_pid, signal.SIGKILL)
            took_s = await drill.recovered(killed_at + 0.05)
            drill.note(f"kill -9 of nats-server, {number + 1}: answers again after {took_s:.1f} s")


async def server_paused(drill: Drill) -> None:
    """SIGSTOP of nats-server for a while, then SIGCONT."""
    await drill.start(drill.service())
    async with drill.load(rate=PAUSE_RATE):
        await drill.after_answers(drill.size.requests // 4)
        pid = drill.server_pid
        os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(drill.size.outage_s)
        finally:
            os.kill(pid, signal.SIGCONT)
        took_s = await drill.recovered(time.monotonic())
        drill.note(f"SIGSTOP of nats-server for {drill.size.outage_s:g} s: answers again {took_s:.1f} s after SIGCONT")
