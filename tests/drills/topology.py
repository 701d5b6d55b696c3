"""Drills that delete a consumer or a stream under the running service."""

from __future__ import annotations

import time

from app.topology import DETECTION_STREAM, PIPELINE_CONSUMERS
from tests.drills.harness import Drill
from tests.drills.ledger import ACCEPTED, UNKNOWN


async def consumer_deleted(drill: Drill) -> None:
    """Each consumer of the pipeline is deleted under load; the service brings it back."""
    await drill.start(drill.service())
    async with drill.load(), drill.jetstream() as jetstream:
        for spec in PIPELINE_CONSUMERS:
            await drill.after_answers(drill.size.requests // 10)
            deleted_at = time.monotonic()
            await jetstream.delete_consumer(spec.stream, spec.durable)
            await drill.eventually_exists(lambda spec=spec: jetstream.consumer_info(spec.stream, spec.durable))
            took_s = await drill.recovered(time.monotonic())
            back_s = time.monotonic() - deleted_at
            drill.account.recovery_s[-1] = round(back_s, 2)
            drill.note(f"{spec.durable} deleted: back and answering after {back_s:.1f} s (answer {took_s:.2f} s)")


async def stream_deleted(drill: Drill) -> None:
    """The work queue itself is deleted under load; what was in it is gone by definition, and nothing else is."""
    await drill.start(drill.service())
    async with drill.load(), drill.jetstream() as jetstream:
        await drill.after_answers(drill.size.requests // 4)
        await jetstream.delete_stream(DETECTION_STREAM.name)
        deleted_at = time.monotonic()
        await drill.eventually_exists(lambda: jetstream.stream_info(DETECTION_STREAM.name))
        back_at = time.monotonic()
        await drill.recovered(back_at)
        drill.account.recovery_s[-1] = round(time.monotonic() - deleted_at, 2)
        drill.note(f"{DETECTION_STREAM.name} deleted: back after {back_at - deleted_at:.1f} s")
    # What was sent before the stream stood again may have been in it.
    drill.lost_by_definition = {
        entry.request_id
        for entry in drill.ledger.entries
        if entry.outcome in ACCEPTED | UNKNOWN and entry.sent_at < back_at
    }
