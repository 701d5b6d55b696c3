"""The service outlives what happens to its server, and goes on by itself: killed, hung, wiped, parts deleted."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client
from nats.errors import MaxPayloadError
from nats.errors import TimeoutError as NatsTimeoutError

from app.contracts import GuardRequest
from app.errors import MessagingUnavailable, PayloadTooLarge, ProblemReply, VigilError
from app.messaging import lag, pulling
from app.messaging.backbone import Backbone
from app.messaging.embedded import EmbeddedNats
from app.settings import Settings
from tests.integration.messaging.conftest import EmptyArchive, Running
from tests.support import PlainWorkers, eventually, free_port

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lag, "INTERVAL_S", 0.1)
    monkeypatch.setattr(pulling, "MISSING_PAUSE_S", 0.05)


def connection_of(running: Running) -> Client:
    """The service's own connection."""
    jetstream = running.gateway.jetstream
    assert jetstream is not None
    return jetstream._connection


async def works(running: Running) -> bool:
    try:
        await running.gateway.guard(GuardRequest(text="hello", mode="fast", deadline_ms=1000))
    except VigilError:
        return False
    return True


@pytest.mark.parametrize("durable", ["detection-worker", "arbiter-worker", "logging-worker"])
async def test_a_deleted_consumer_comes_back(running: Running, durable: str) -> None:
    await running.jetstream.delete_consumer("VIGIL_DETECTION", durable)
    await eventually(lambda: works(running))
    await eventually(running.idle)
    assert (await running.jetstream.consumer_info("VIGIL_DETECTION", durable)).config.durable_name == durable


@pytest.mark.parametrize(
    "stream", ["VIGIL_DETECTION", "VIGIL_DLQ", "KV_VIGIL_DECISIONS", "KV_VIGIL_POLICIES", "VIGIL_ADVISORIES"]
)
async def test_a_deleted_stream_comes_back(running: Running, stream: str) -> None:
    await running.jetstream.delete_stream(stream)

    async def back() -> bool:
        names = [info.config.name for info in await running.jetstream.streams_info()]
        return stream in names and await works(running)

    await eventually(back, within_s=20)


async def test_a_killed_server_loses_nothing_that_was_accepted(running: Running, server_process: EmbeddedNats) -> None:
    release = asyncio.Event()

    async def hold(_: GuardRequest) -> None:
        await release.wait()

    running.plain.before_detect = hold
    request_ids = [await running.gateway.submit(GuardRequest(text=f"text {n}", mode="fast")) for n in range(20)]
    assert server_process.record is not None
    os.kill(server_process.record.pid, signal.SIGKILL)
    release.set()

    async def all_recorded() -> bool:
        return {record.answer.request_id for record in running.plain.records} == set(request_ids)

    await eventually(all_recorded, within_s=60)
    await eventually(running.idle, within_s=60)
    assert await running.dead_letters() == 0


async def test_what_was_refused_while_the_server_was_away_is_not_accepted_when_it_is_back(
    running: Running, server_process: EmbeddedNats
) -> None:
    connection = connection_of(running)
    assert await works(running)
    await eventually(running.idle)
    before = (await running.jetstream.stream_info("VIGIL_DETECTION")).state.last_seq
    await server_process.stop()

    async def is_away() -> bool:
        return not connection.is_connected

    await eventually(is_away)
    running.plain.requests.clear()
    async with asyncio.timeout(1):  # An acknowledgement is waited for 5 s.
        for n in range(10):
            with pytest.raises(MessagingUnavailable):
                await running.gateway.guard(GuardRequest(text=f"waited for {n}", mode="fast"))
            with pytest.raises(MessagingUnavailable):
                await running.gateway.submit(GuardRequest(text=f"not waited for {n}", mode="fast"))
    await server_process.start()

    async def is_back() -> bool:
        return connection.is_connected

    await eventually(is_back, within_s=20)
    # On the same connection, so that it is stored behind whatever the client would have kept for it.
    await running.gateway.submit(GuardRequest(text="after it", mode="fast"))
    await eventually(running.idle)
    assert [request.text for request in running.plain.requests] == ["after it"]
    stored = (await running.jetstream.stream_info("VIGIL_DETECTION")).state.last_seq - before
    assert stored == 3  # The request, the job of its second stage and its log event.


async def test_a_hung_server_is_refused_and_used_again(running: Running, server_process: EmbeddedNats) -> None:
    assert server_process.record is not None
    os.kill(server_process.record.pid, signal.SIGSTOP)
    try:
        with pytest.raises(VigilError) as caught:
            await running.gateway.guard(GuardRequest(text="hello", mode="fast", deadline_ms=500))
        assert caught.value.status in {503, 504}
    finally:
        os.kill(server_process.record.pid, signal.SIGCONT)
    await eventually(lambda: works(running), within_s=20)


async def test_a_wiped_store_is_set_up_again(running: Running, server_process: EmbeddedNats, tmp_path: Path) -> None:
    assert server_process.record is not None
    os.kill(server_process.record.pid, signal.SIGSTOP)
    shutil.rmtree(tmp_path / "server" / "nats" / "store")
    os.kill(server_process.record.pid, signal.SIGKILL)
    await eventually(lambda: works(running), within_s=30)
    names = {info.config.name for info in await running.jetstream.streams_info()}
    assert {"VIGIL_DETECTION", "VIGIL_DLQ", "VIGIL_ADVISORIES", "KV_VIGIL_DECISIONS"} <= names


async def fails(running: Running) -> bool:
    try:
        await running.backbone.check()
    except VigilError:
        return True
    return False


async def test_readiness_says_what_is_missing(running: Running, server_process: EmbeddedNats) -> None:
    await running.backbone.check()
    assert server_process.record is not None
    os.kill(server_process.record.pid, signal.SIGSTOP)
    try:
        await eventually(lambda: fails(running), within_s=20)
        with pytest.raises(MessagingUnavailable):
            async with asyncio.timeout(2):  # Without a limit of its own a request waits for 5 s.
                await running.backbone.check(0.1)
    finally:
        os.kill(server_process.record.pid, signal.SIGCONT)


async def test_what_a_stopping_service_has_fetched_and_not_worked_on_is_handed_back_at_once(
    server: str, quick_settings: Settings
) -> None:
    """Two slots of work, ten messages: the eight that wait in the process come to the next service without ack_wait."""
    narrow = quick_settings.model_copy(
        update={
            "workers": quick_settings.workers.model_copy(
                update={
                    "detection": quick_settings.workers.detection.model_copy(update={"concurrency": 2}),
                    "stop_timeout_s": 5.0,
                }
            )
        }
    )
    started, release = asyncio.Event(), asyncio.Event()

    async def hold(_: GuardRequest) -> None:
        started.set()
        await release.wait()

    first = PlainWorkers(before_detect=hold)
    stopping = Backbone(first.workers(), narrow, version="0.0.0")
    await stopping.start()
    await stopping.up.wait()
    assert stopping.gateway is not None
    request_ids = {await stopping.gateway.submit(GuardRequest(text=f"text {n}", mode="fast")) for n in range(10)}
    await started.wait()
    stop = asyncio.create_task(stopping.stop())
    release.set()
    await stop

    second = PlainWorkers()
    successor = Backbone(second.workers(), narrow, version="0.0.0")
    await successor.start()
    await successor.start_logging(EmptyArchive())

    async def all_recorded() -> bool:
        return {record.answer.request_id for record in second.records} == request_ids

    await eventually(all_recorded, within_s=8)  # ack_wait of the detection worker is 30 s.
    await successor.stop()


async def test_a_stop_gives_up_a_request_over_nats_whose_caller_would_wait_longer(
    server: str, quick_settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    hasty = quick_settings.model_copy(
        update={"workers": quick_settings.workers.model_copy(update={"stop_timeout_s": 0.4})}
    )
    started = asyncio.Event()

    async def hold(_: GuardRequest) -> None:
        started.set()
        await asyncio.Event().wait()

    stopping = Backbone(PlainWorkers(before_detect=hold).workers(), hasty, version="0.0.0")
    await stopping.start()
    await stopping.up.wait()
    client = await nats.connect(server)
    body = GuardRequest(text="hello", mode="fast", deadline_ms=60_000).model_dump_json(exclude_unset=True).encode()
    await client.publish("vigil.api.guard", body, reply=client.new_inbox())
    await started.wait()
    async with asyncio.timeout(20):
        await stopping.stop()
    assert "stopped with 1 requests over NATS unfinished after 0.1 s" in caplog.messages
    await client.close()


async def test_a_stop_does_not_wait_for_an_event_log_that_is_away_and_hands_its_rows_back(
    server: str, quick_settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    hasty = quick_settings.model_copy(
        update={
            "workers": quick_settings.workers.model_copy(update={"stop_timeout_s": 6.0}),
            "event_log": quick_settings.event_log.model_copy(update={"batch_wait_s": 0.05}),
        }
    )
    given = asyncio.Event()

    async def wait_in_vain(_: object) -> None:
        given.set()
        await asyncio.Event().wait()

    stopping = Backbone(replace(PlainWorkers().workers(), record=wait_in_vain), hasty, version="0.0.0")
    await stopping.start()
    await stopping.start_logging(EmptyArchive())
    assert stopping.gateway is not None
    request_id = await stopping.gateway.submit(GuardRequest(text="hello", mode="fast"))
    await given.wait()
    async with asyncio.timeout(3):  # The other half may have gone to open HTTP connections.
        await stopping.stop()
    assert "stopped with work unfinished" not in caplog.text

    plain = PlainWorkers()
    successor = Backbone(plain.workers(), hasty, version="0.0.0")
    await successor.start()
    await successor.start_logging(EmptyArchive())

    async def recorded() -> bool:
        return [record.answer.request_id for record in plain.records] == [request_id]

    await eventually(recorded, within_s=8)  # ack_wait of the logging worker is 30 s.
    await successor.stop()


async def test_a_stop_closes_the_connection_also_where_nothing_is_known_of_the_last_rows(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_answer(*_: object) -> None:
        raise NatsTimeoutError

    connection = connection_of(running)
    monkeypatch.setattr(running.gateway.jetstream, "consumer_info", no_answer)
    await running.backbone.stop()
    assert connection.is_closed


async def test_a_service_started_before_its_server_comes_up_with_it(tmp_path: Path, quick_settings: Settings) -> None:
    port = free_port()
    token_file = tmp_path / "late" / "nats" / "token"
    token_file.parent.mkdir(parents=True)
    token_file.write_text("known-before")
    server = EmbeddedNats(tmp_path / "late", "127.0.0.1", port)
    url = f"nats://known-before@127.0.0.1:{port}"
    settings = quick_settings.model_copy(update={"nats_url": url})
    backbone = Backbone(PlainWorkers().workers(), settings, version="0.0.0")
    await backbone.start()
    with pytest.raises(VigilError):
        await backbone.check()
    await server.start()
    await asyncio.wait_for(backbone.up.wait(), 20)
    client = await nats.connect(url)
    assert (await client.jetstream().stream_info("VIGIL_DETECTION")).config.name == "VIGIL_DETECTION"
    await client.close()
    await backbone.stop()
    await server.stop()


async def test_rows_are_written_also_where_the_server_was_away_when_the_event_log_came(
    server_process: EmbeddedNats, quick_settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    plain = PlainWorkers()
    backbone = Backbone(plain.workers(), quick_settings, version="0.0.0")
    await backbone.start()
    await backbone.up.wait()
    assert backbone.pipeline is not None
    # In place of the five seconds after which FastStream gives up a request.
    backbone.pipeline.broker.config.connection_state.stream._timeout = 0.1
    assert server_process.record is not None
    os.kill(server_process.record.pid, signal.SIGSTOP)
    starting = asyncio.create_task(backbone.start_logging(EmptyArchive()))

    async def is_refused() -> bool:
        return starting.done() or "rows are not written yet" in caplog.text

    await eventually(is_refused)
    os.kill(server_process.record.pid, signal.SIGCONT)
    await asyncio.wait_for(starting, 20)
    assert backbone.gateway is not None
    request_id = await backbone.gateway.submit(GuardRequest(text="hello", mode="fast"))

    async def recorded() -> bool:
        return [record.answer.request_id for record in plain.records] == [request_id]

    await eventually(recorded)
    await backbone.stop()


async def test_a_stream_that_takes_nothing_more_shows_in_readiness(running: Running) -> None:
    """As when the server's disk is full: it answers, and refuses what is published."""
    config = (await running.jetstream.stream_info("VIGIL_DETECTION")).config
    await running.jetstream.update_stream(replace(config, max_bytes=1))
    with pytest.raises(VigilError):
        await running.gateway.guard(GuardRequest(text="hello", mode="fast"))
    with pytest.raises(VigilError, match="refused"):
        await running.backbone.check()
    await running.jetstream.update_stream(config)
    assert await works(running)
    await running.backbone.check()


async def test_what_the_server_would_hang_up_at_is_not_sent(running: Running) -> None:
    """The server counts the headers of a message too."""
    connection = connection_of(running)
    payload = b"x" * (connection.max_payload - 200)
    with pytest.raises(MaxPayloadError):
        await connection.publish("somewhere", payload, headers={"Vigil-Test": "y" * 200})
    await connection.publish("somewhere", payload)
    await connection.flush()
    assert connection.stats["reconnects"] == 0


async def test_a_server_that_hangs_up_with_an_error_is_used_again(running: Running) -> None:
    connection = connection_of(running)
    payload = b"x" * connection.max_payload
    await Client._send_publish(connection, "somewhere", "", payload, len(payload), {"Vigil-Test": "y"})

    async def again() -> bool:
        return bool(connection.stats["reconnects"] == 1 and connection.is_connected)

    await eventually(again, within_s=20)
    await eventually(lambda: works(running), within_s=20)


async def test_a_result_that_does_not_fit_a_message_is_told_and_not_tried_again(running: Running) -> None:
    async def grow(request: GuardRequest) -> None:
        request.__dict__["text"] = "x" * 1_100_000

    running.plain.before_detect = grow
    with pytest.raises(ProblemReply) as caught:
        await running.gateway.guard(GuardRequest(text="hello"))
    assert caught.value.problem.status == PayloadTooLarge.status
    assert await running.dead_letters() == 1
    assert running.plain.stages == ["detect"]
