"""Metrics of the messaging room on a real server: queue time, work, lag, dead letters, what streams take."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from app.contracts import GuardRequest
from app.identity import new_request_id
from app.messaging import lag
from tests.integration.messaging.conftest import Running
from tests.metric_values import growth_of, value_of
from tests.support import eventually

pytestmark = pytest.mark.integration

WORKER = "detection-worker"


async def test_a_request_is_counted_at_each_stage(running: Running) -> None:
    with (
        growth_of("vigil_requests_total", mode="full", source="input", decision="ALLOWED", policy="test") as decided,
        growth_of("vigil_queue_seconds_count", consumer="pii-worker") as queued,
        growth_of("vigil_queue_seconds_sum", consumer="pii-worker") as queued_s,
        growth_of("vigil_stage_seconds_count", stage="arbiter-worker") as worked,
        growth_of("vigil_deliveries_total", consumer="logging-worker", outcome="ack") as logged,
    ):
        await running.gateway.guard(GuardRequest(text="hello"))
        await eventually(running.idle)
        assert (decided.value, queued.value, worked.value, logged.value) == (1, 1, 1, 1)
        assert 0 <= queued_s.value < 5
    assert value_of("vigil_messages_in_work", consumer=WORKER) == 0


async def test_what_is_in_work_and_how_old_it_is_can_be_seen(running: Running) -> None:
    done = asyncio.Event()
    running.plain.before_detect = lambda _: done.wait()  # type: ignore[assignment,return-value]
    waiting = asyncio.create_task(running.gateway.guard(GuardRequest(text="slow", mode="fast")))

    async def in_work() -> bool:
        await lag.observe(running.jetstream)
        return value_of("vigil_messages_in_work", consumer=WORKER) == 1

    await eventually(in_work)
    assert value_of("vigil_consumer_ack_pending", consumer=WORKER) == 1
    first_age_s = value_of("vigil_consumer_oldest_seconds", consumer=WORKER)
    assert 0 < first_age_s < 10
    await lag.observe(running.jetstream)
    assert value_of("vigil_consumer_oldest_seconds", consumer=WORKER) > first_age_s
    done.set()
    await waiting
    await eventually(running.idle)
    await lag.observe(running.jetstream)
    assert value_of("vigil_consumer_oldest_seconds", consumer=WORKER) == 0


async def test_a_redelivery_does_not_count_as_queue_time(running: Running) -> None:
    tries = 0

    async def fail_once(_: GuardRequest) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise RuntimeError

    running.plain.before_detect = fail_once
    with (
        growth_of("vigil_queue_seconds_count", consumer=WORKER) as queued,
        growth_of("vigil_deliveries_total", consumer=WORKER, outcome="retry") as retried,
    ):
        await running.gateway.guard(GuardRequest(text="hello", mode="fast"))
        assert (queued.value, retried.value) == (1, 1)


async def test_dead_letters_are_counted_by_consumer_and_error(running: Running) -> None:
    poison = json.dumps({"text": "hello", "mode": "slow", "request_id": str(new_request_id())}).encode()
    with growth_of("vigil_dead_letters_total", consumer=WORKER, error="InvalidRequest") as buried:
        await running.jetstream.publish("vigil.guard.input", poison)
        await running.jetstream.publish("vigil.dlq.of-a-stranger", b"")
        await eventually(running.idle)
        assert buried.value == 1
    await lag.observe(running.jetstream)
    assert value_of("vigil_dead_letter_queue_messages", consumer=WORKER) == 1
    assert value_of("vigil_dead_letter_queue_messages", consumer="of-a-stranger") == 0
    assert value_of("vigil_stream_messages", stream="VIGIL_DLQ") == 2
    assert (
        0 < value_of("vigil_stream_bytes", stream="VIGIL_DLQ") < value_of("vigil_stream_max_bytes", stream="VIGIL_DLQ")
    )


async def test_a_connected_worker_waits_at_the_server(running: Running) -> None:
    async def waits() -> bool:
        await lag.observe(running.jetstream)
        return value_of("vigil_consumer_waiting_pulls", consumer=WORKER) >= 1

    await eventually(waits)


def test_the_disk_of_the_state_folder_is_told(tmp_path: Path) -> None:
    lag.observe_disk(tmp_path)
    assert 0 < value_of("vigil_state_disk_free_bytes") <= value_of("vigil_state_disk_size_bytes")
    lag.observe_disk(tmp_path / "missing")
