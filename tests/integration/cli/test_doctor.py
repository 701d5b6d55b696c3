"""`vigil doctor` on a real server: it names each fault, and finds none in a healthy system."""

from __future__ import annotations

import asyncio
import json
import sysconfig
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from pydantic import SecretStr

from app.cli.diagnosis import Finding, Level
from app.cli.doctor import examine
from app.contracts import GuardRequest
from app.errors import EventLogUnavailable, InvalidRequest
from app.events.log import EventLog
from app.messaging.backbone import Backbone
from app.settings import Settings
from tests.integration.cli.conftest import Declared, Vigil, parsed
from tests.integration.cli.test_dlq import bury
from tests.integration.messaging.conftest import EmptyArchive, Running
from tests.support import PlainWorkers, eventually, free_port

pytestmark = pytest.mark.integration


async def no_pause() -> None:
    await asyncio.sleep(0)


async def faults(settings: Settings, server: str) -> dict[str, list[Finding]]:
    """Return what is not well, by check."""
    found: dict[str, list[Finding]] = {}
    for finding in await examine(settings, server, pause=no_pause):
        if finding.level is not Level.OK:
            assert finding.cure
            found.setdefault(finding.check, []).append(finding)
    return found


def seen(found: dict[str, list[Finding]], check: str, level: Level = Level.FAILURE) -> str:
    assert check in found, found
    assert any(finding.level is level for finding in found[check]), found[check]
    return " ".join(finding.seen for finding in found[check])


async def test_a_healthy_system_has_no_fault(vigil: Vigil, running: Running) -> None:
    await running.gateway.guard(GuardRequest(text="hello"))
    await eventually(running.idle)
    result = await vigil("doctor", "--interval", "0.6s", "-j")
    told = parsed(result)
    assert (result.exit_code, told["healthy"]) == (0, True), told
    assert {each["level"] for each in told["checks"]} == {"ok"}, told
    assert [each["check"] for each in told["checks"]] == [
        *("server", "streams", "consumers", "service", "workers"),
        *("unseen messages", "lag", "dead letters", "event log"),
    ]


async def test_server_down(vigil: Vigil) -> None:
    result = await vigil("doctor", "-j", at=f"nats://127.0.0.1:{free_port()}")
    told = json.loads(result.stdout)
    assert (result.exit_code, told["healthy"]) == (1, False)
    assert told["checks"][0]["check"] == "server"
    assert "no answer from 127.0.0.1" in told["checks"][0]["seen"]
    assert "What to do" in (await vigil("doctor", at=None)).stdout


async def test_stream_missing(quick_settings: Settings, declared: Declared, server: str) -> None:
    await declared.jetstream.delete_stream("VIGIL_DLQ")
    found = await faults(quick_settings, server)
    assert seen(found, "streams") == "the stream VIGIL_DLQ is missing"
    assert found["streams"][0].cure == "vigil streams apply"


async def test_work_queue_missing(quick_settings: Settings, declared: Declared, server: str) -> None:
    await declared.jetstream.delete_stream("VIGIL_DETECTION")
    assert "the stream VIGIL_DETECTION is missing" in seen(await faults(quick_settings, server), "streams")


async def test_decisions_bucket_missing(quick_settings: Settings, declared: Declared, server: str) -> None:
    await declared.jetstream.delete_stream("KV_VIGIL_DECISIONS")
    assert "the bucket VIGIL_DECISIONS is missing" in seen(await faults(quick_settings, server), "streams")


async def test_consumer_missing(quick_settings: Settings, declared: Declared, server: str) -> None:
    await declared.jetstream.delete_consumer("VIGIL_DETECTION", "pii-worker")
    await declared.jetstream.publish("vigil.pii.scan", b"{}")
    found = await faults(quick_settings, server)
    assert "the consumer pii-worker is missing: nobody gets vigil.pii.>" in seen(found, "consumers")
    assert "1 messages that no consumer matches: vigil.pii.scan (1)" in seen(found, "unseen messages")


async def test_a_filter_that_does_not_match(quick_settings: Settings, declared: Declared, server: str) -> None:
    config = (await declared.jetstream.consumer_info("VIGIL_DETECTION", "pii-worker")).config
    await declared.jetstream.add_consumer("VIGIL_DETECTION", replace(config, filter_subject="vigil.pii.other"))
    found = await faults(quick_settings, server)
    assert "pii-worker differs from the topology in filter_subject" in seen(found, "consumers")


async def test_a_subject_that_no_consumer_takes(quick_settings: Settings, declared: Declared, server: str) -> None:
    await declared.jetstream.publish("vigil.guard.a.b", b"{}")
    assert "vigil.guard.a.b (1)" in seen(await faults(quick_settings, server), "unseen messages")


async def test_messages_with_all_deliveries_used_up(quick_settings: Settings, declared: Declared, server: str) -> None:
    config = (await declared.jetstream.consumer_info("VIGIL_DETECTION", "pii-worker")).config
    await declared.jetstream.add_consumer("VIGIL_DETECTION", replace(config, ack_wait=0.1, max_deliver=1))
    await declared.jetstream.publish("vigil.pii.scan", b"{}")
    reader = await declared.jetstream.pull_subscribe_bind(consumer="pii-worker", stream="VIGIL_DETECTION")
    await reader.fetch(1, timeout=5)

    async def is_invisible() -> bool:
        info = await declared.jetstream.consumer_info("VIGIL_DETECTION", "pii-worker")
        return not info.num_ack_pending and not info.num_pending

    await eventually(is_invisible)
    found = await faults(quick_settings, server)
    assert "pii-worker: 1 messages with all deliveries used up" in seen(found, "unseen messages")


async def test_no_worker_and_lag_growing(quick_settings: Settings, declared: Declared, server: str) -> None:
    async def publish_more() -> None:
        await declared.jetstream.publish("vigil.guard.input", b"{}")

    found: dict[str, list[Finding]] = {}
    for finding in await examine(quick_settings, server, pause=publish_more):
        found.setdefault(finding.check, []).append(finding)
    assert "detection-worker: lag grows, 0 -> 3 pending" in seen(found, "lag")
    assert "detection-worker: no worker is connected (3 pending" in seen(found, "workers")
    assert "no process answers" in seen(found, "service")
    assert "vigil serve" in (found["service"][0].cure or "")


async def test_lag_growing_behind_a_slow_worker(quick_settings: Settings, running: Running, server: str) -> None:
    """The worker takes one message and no more: what comes in stays."""
    release, begun = asyncio.Event(), asyncio.Event()

    async def hold(_: GuardRequest) -> None:
        begun.set()
        await release.wait()

    running.plain.before_detect = hold
    config = (await running.jetstream.consumer_info("VIGIL_DETECTION", "detection-worker")).config
    await running.jetstream.add_consumer("VIGIL_DETECTION", replace(config, max_ack_pending=1))
    await running.gateway.submit(GuardRequest(text="first"))
    await begun.wait()

    async def send_more() -> None:
        await running.gateway.submit(GuardRequest(text="more"))

    found: dict[str, list[Finding]] = {}
    for finding in await examine(quick_settings, server, pause=send_more):
        found.setdefault(finding.check, []).append(finding)
    release.set()
    assert "the most allowed: nothing more is delivered" in seen(found, "workers", Level.WARNING)


async def test_dead_letter_queue_filling_and_what_fills_it(
    quick_settings: Settings, running: Running, server: str
) -> None:
    async def refuse(_: GuardRequest) -> None:
        raise InvalidRequest("no")

    running.plain.before_detect = refuse
    for _ in range(12):
        await running.gateway.submit(GuardRequest(text="hello"))
    await eventually(lambda: has_dead_letters(running, 12))
    found = await faults(quick_settings, server)
    said = seen(found, "dead letters")
    assert "12 dead letters" in said
    assert "filling, 12 in the last 5m" in said
    assert "detection-worker InvalidRequest (12)" in said
    assert "input that can never succeed" in (found["dead letters"][0].cure or "")


async def has_dead_letters(running: Running, count: int) -> bool:
    return await running.dead_letters() == count


async def test_one_dead_letter_is_a_warning_only(quick_settings: Settings, declared: Declared, server: str) -> None:
    await bury(declared)
    found = await faults(quick_settings, server)
    assert "1 dead letters" in seen(found, "dead letters", Level.WARNING)
    assert {finding.level for finding in found["dead letters"]} == {Level.WARNING}


class BrokenArchive(EmptyArchive):
    async def find(self, request_id: object) -> None:
        raise EventLogUnavailable


@asynccontextmanager
async def backbone(settings: Settings, archive: EmptyArchive | None) -> AsyncIterator[None]:
    """A service whose event log is broken, or was never opened."""
    room = Backbone(PlainWorkers().workers(), settings, version="0.0.0")
    await room.start()
    await room.up.wait()
    if archive is not None:
        await room.start_logging(archive)
    yield
    await room.stop()


@pytest.mark.parametrize("archive", [BrokenArchive(), None], ids=["breaks", "never opened"])
async def test_clickhouse_away_behind_a_running_service(
    quick_settings: Settings, declared: Declared, server: str, archive: EmptyArchive | None
) -> None:
    async with backbone(quick_settings, archive):
        found = await faults(quick_settings, server)
    assert "event log cannot be reached" in seen(found, "event log")


async def test_clickhouse_server_away(quick_settings: Settings, running: Running, server: str) -> None:
    address = SecretStr(f"http://user:secret@127.0.0.1:{free_port()}")
    found = await faults(quick_settings.model_copy(update={"clickhouse_url": address}), server)
    said = seen(found, "event log")
    assert "event log cannot be reached" in said
    assert "secret" not in said


async def test_clickhouse_server_there(server_log_settings: Settings, running: Running, server: str) -> None:
    before = await faults(server_log_settings, server)
    assert "event log cannot be reached" in seen(before, "event log")  # No table yet, and the doctor makes none.
    log = await EventLog.open(server_log_settings)
    assert await log.find(UUID(int=0)) is None
    await log.close()
    assert "event log" not in await faults(server_log_settings, server)


async def test_jetstream_off(vigil: Vigil, tmp_path: Path) -> None:
    binary = Path(sysconfig.get_path("scripts")) / "nats-server"
    process = await asyncio.create_subprocess_exec(
        binary, "-a", "127.0.0.1", "-p", str(port := free_port()), stderr=asyncio.subprocess.DEVNULL
    )

    async def answers() -> bool:
        result = await vigil("doctor", "-j", at=f"nats://127.0.0.1:{port}")
        return "JetStream is not enabled" in result.stdout

    try:
        await eventually(answers)
    finally:
        process.kill()
        await process.wait()
