"""`vigil consumers` on a real server: lag, work under way, connected workers, differences."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from app.contracts import GuardRequest
from app.topology import CONSUMERS
from tests.integration.cli.conftest import Declared, Vigil, parsed
from tests.integration.messaging.conftest import Running
from tests.support import eventually

pytestmark = pytest.mark.integration

SUMMARY = {
    *("stream", "name", "filter_subjects", "pending", "ack_pending", "redelivered", "waiting", "lag_s"),
    *("oldest_pending_s", "max_ack_pending", "delivered_sequence", "ack_floor_sequence"),
    *("last_delivered_at", "last_acked_at", "declared", "differences", "newer"),
}


async def test_ls_shows_every_consumer_and_that_its_worker_waits(vigil: Vigil, running: Running) -> None:
    async def all_wait() -> bool:
        listed = parsed(await vigil("consumers", "ls", "-j"))
        assert [each["name"] for each in listed] == [spec.durable for spec in CONSUMERS]
        assert all(set(each) == SUMMARY for each in listed)
        return all(each["waiting"] > 0 for each in listed)

    await eventually(all_wait)


async def test_pending_messages_and_the_age_of_the_oldest_are_the_lag(vigil: Vigil, declared: Declared) -> None:
    for _ in range(3):
        await declared.jetstream.publish("vigil.pii.scan", b"{}")
    told = {each["name"]: each for each in parsed(await vigil("consumers", "ls", "-j"))}
    behind = told["pii-worker"]
    assert (behind["pending"], behind["ack_pending"], behind["waiting"]) == (3, 0, 0)
    assert 0 < behind["lag_s"] < 60
    assert told["arbiter-worker"]["lag_s"] == 0
    report = parsed(await vigil("consumers", "report", "-j"))
    assert report[0]["name"] == "pii-worker"


async def test_a_message_in_work_is_lag_too(vigil: Vigil, running: Running) -> None:
    release, begun = asyncio.Event(), asyncio.Event()

    async def hold(_: GuardRequest) -> None:
        begun.set()
        await release.wait()

    running.plain.before_detect = hold
    await running.gateway.submit(GuardRequest(text="hello"))
    await begun.wait()
    told = parsed(await vigil("consumers", "info", "detection-worker", "-j"))
    assert (told["pending"], told["ack_pending"], told["oldest_pending_s"]) == (0, 1, 0)
    assert told["lag_s"] > 0
    release.set()


async def test_info_names_each_difference_to_the_topology(vigil: Vigil, declared: Declared) -> None:
    config = (await declared.jetstream.consumer_info("VIGIL_DETECTION", "arbiter-worker")).config
    await declared.jetstream.add_consumer("VIGIL_DETECTION", replace(config, max_ack_pending=5))
    told = parsed(await vigil("consumers", "info", "arbiter-worker", "-j"))
    assert told["differences"] == [{"field": "max_ack_pending", "declared": 10_000, "present": 5}]
    assert "max_ack_pending: 5 -> 10000" in (await vigil("consumers", "info", "arbiter-worker")).stdout


async def test_a_missing_consumer_is_named(vigil: Vigil, declared: Declared) -> None:
    await declared.jetstream.delete_consumer("VIGIL_DETECTION", "pii-worker")
    assert "Missing: pii-worker" in (await vigil("consumers", "ls")).stderr
    result = await vigil("consumers", "info", "pii-worker")
    assert (result.exit_code, result.stderr) == (1, "vigil: consumer not found\n")


async def test_consumers_of_a_stream_that_does_not_exist_are_exit_code_1(vigil: Vigil, running: Running) -> None:
    assert (await vigil("consumers", "ls", "NOT_THERE")).exit_code == 1
