"""A pile of requests put on the work queue at once, without anybody waiting: how long until nothing is left of it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence

import nats
from nats.js import JetStreamContext

from app.identity import new_request_id
from app.topology import DETECTION_STREAM, Header, Subject

UNFINISHED = 500
"""Publishes that may be on their way at a time."""
PATIENCE_S = 900.0


def burst(nats_url: str, texts: Sequence[str], count: int) -> dict[str, float]:
    """Return how many were put, and the seconds until all were on the queue, decided, and in the event log."""
    return asyncio.run(_burst(nats_url, texts, count))


def lag(nats_url: str) -> int:
    """Return how many messages nobody has worked off, the events that wait for the event log included."""
    return asyncio.run(_lag(nats_url))


async def _lag(nats_url: str) -> int:
    client = await nats.connect(nats_url)
    try:
        return await _left(client.jetstream(), events=True)
    finally:
        await client.close()


async def _left(jetstream: JetStreamContext, *, events: bool) -> int:
    """Count what lies in the stream, the events that wait for the event log included or not."""
    info = await jetstream.stream_info(DETECTION_STREAM.name, subjects_filter=">")
    subjects = info.state.subjects or {}
    return sum(number for subject, number in subjects.items() if events or subject != Subject.LOGS_EVENT)


async def _burst(nats_url: str, texts: Sequence[str], count: int) -> dict[str, float]:
    client = await nats.connect(nats_url)
    jetstream = client.jetstream(publish_async_max_pending=UNFINISHED)
    room = asyncio.Semaphore(UNFINISHED)
    begin = time.perf_counter()

    async def put(number: int) -> None:
        async with room:
            request_id = str(new_request_id())
            body = {"text": texts[number % len(texts)], "mode": "fast", "request_id": request_id}
            await jetstream.publish(
                Subject.GUARD_INPUT,
                json.dumps(body).encode(),
                headers={Header.MESSAGE_ID: request_id, "content-type": "application/json"},
                timeout=30,
            )

    await asyncio.gather(*(put(number) for number in range(count)))
    queued = time.perf_counter() - begin
    seconds = {"requests": float(count), "queued_s": round(queued, 2)}

    for name, events in (("decided_s", False), ("logged_s", True)):
        while await _left(jetstream, events=events):
            if time.perf_counter() - begin > PATIENCE_S:
                raise TimeoutError(f"{count} requests are not through after {PATIENCE_S:g} s")
            await asyncio.sleep(0.05)
        seconds[name] = round(time.perf_counter() - begin, 2)
    await client.close()
    return seconds | {"requests_per_s": round(count / seconds["decided_s"], 1)}
