"""Nothing lies unseen in the work queue: exhausted deliveries and unmatched subjects end in the dead-letter queue."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import nats
import pytest
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig

from app.messaging import sweep
from app.messaging.backbone import Backbone, Pipeline
from app.messaging.decisions import MemoryDecisions
from app.messaging.declarations import Declarations
from app.messaging.sweep import Sweeper
from app.settings import Settings
from app.topology import Header
from tests.integration.messaging.conftest import Running
from tests.support import PlainWorkers, eventually

pytestmark = pytest.mark.integration

BODY = b'{"text": "hello", "mode": "fast"}'


@pytest.fixture
async def jetstream(server: str) -> AsyncIterator[JetStreamContext]:
    client = await nats.connect(server)
    jetstream = client.jetstream()
    await Declarations(replicas=1, decision_ttl_s=900).reconcile(jetstream)
    yield jetstream
    await client.close()


async def use_up_deliveries(jetstream: JetStreamContext) -> None:
    """Take the message as often as it is delivered and die with it each time."""
    config = (await jetstream.consumer_info("VIGIL_DETECTION", "detection-worker")).config
    await jetstream.add_consumer("VIGIL_DETECTION", ConsumerConfig(**{**vars(config), "ack_wait": 0.2}))
    worker = await jetstream.pull_subscribe_bind("detection-worker", stream="VIGIL_DETECTION")
    deliveries = 0
    with contextlib.suppress(NatsTimeoutError):
        while True:
            message = (await worker.fetch(1, timeout=1))[0]
            deliveries = message.metadata.num_delivered
    assert deliveries == 3
    info = await jetstream.consumer_info("VIGIL_DETECTION", "detection-worker")
    assert (info.num_pending, info.num_ack_pending) == (0, 0)
    assert (await jetstream.stream_info("VIGIL_DETECTION")).state.messages == 1
    assert (await jetstream.stream_info("VIGIL_ADVISORIES")).state.messages == 1


async def give_up_unseen(jetstream: JetStreamContext) -> None:
    """Use up a message's deliveries and lose the advisory that tells of it."""
    await jetstream.publish("vigil.guard.input", BODY)
    await use_up_deliveries(jetstream)
    await jetstream.purge_stream("VIGIL_ADVISORIES")


async def dead(jetstream: JetStreamContext) -> dict[str, str]:
    """Return the headers of the one dead letter, once the work queue is empty."""

    async def moved() -> bool:
        left = (await jetstream.stream_info("VIGIL_DETECTION")).state.messages
        return left == 0 and (await jetstream.stream_info("VIGIL_DLQ")).state.messages == 1

    await eventually(moved)
    letter = await jetstream.get_msg("VIGIL_DLQ", 1)
    assert letter.data == BODY
    return dict(letter.headers or {})


async def test_a_message_whose_worker_died_each_time_is_moved_when_a_service_comes(
    jetstream: JetStreamContext, quick_settings: Settings
) -> None:
    await jetstream.publish("vigil.guard.input", BODY)
    await use_up_deliveries(jetstream)
    backbone = Backbone(PlainWorkers().workers(), quick_settings, version="0.0.0")
    await backbone.start()
    headers = await dead(jetstream)
    assert headers[Header.DEAD_ERROR_TYPE] == "DeliveriesExhausted"
    assert headers[Header.DEAD_SUBJECT] == "vigil.guard.input"
    assert headers[Header.DEAD_DELIVERIES] == "3"
    await backbone.stop()


async def test_it_is_found_by_looking_when_the_advisory_is_lost(
    jetstream: JetStreamContext, quick_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "SECOND_LOOK_S", 0.1)
    await give_up_unseen(jetstream)
    backbone = Backbone(PlainWorkers().workers(), quick_settings, version="0.0.0")
    await backbone.start()
    assert (await dead(jetstream))[Header.DEAD_ERROR_TYPE] == "DeliveriesExhausted"
    await backbone.stop()


@pytest.mark.parametrize("subject", ["vigil.guard.a.b", "vigil.guard.input.more"])
async def test_a_subject_that_no_consumer_matches_is_moved(
    jetstream: JetStreamContext, quick_settings: Settings, monkeypatch: pytest.MonkeyPatch, subject: str
) -> None:
    monkeypatch.setattr(sweep, "SECOND_LOOK_S", 0.1)
    await jetstream.publish(subject, BODY)
    backbone = Backbone(PlainWorkers().workers(), quick_settings, version="0.0.0")
    await backbone.start()
    headers = await dead(jetstream)
    assert headers[Header.DEAD_ERROR_TYPE] == "Unrouted"
    assert headers[Header.DEAD_SUBJECT] == subject
    assert (await jetstream.get_msg("VIGIL_DLQ", 1)).subject == "vigil.dlq.unrouted"
    await backbone.stop()


async def test_a_subject_that_the_server_finds_under_no_filter_is_moved(
    jetstream: JetStreamContext, quick_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "SECOND_LOOK_S", 0.1)
    await jetstream.publish("vigil.guard.b$z\x7fz", BODY)
    backbone = Backbone(PlainWorkers().workers(), quick_settings, version="0.0.0")
    await backbone.start()
    assert (await dead(jetstream))[Header.DEAD_SUBJECT] == "vigil.guard.b$z\x7fz"
    await backbone.stop()


async def test_the_caller_of_an_unrouted_message_is_told(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "SECOND_LOOK_S", 0.1)
    inbox = running.client.new_inbox()
    replies = await running.client.subscribe(inbox)
    await running.jetstream.publish("vigil.guard.a.b", BODY, headers={Header.REPLY_TO: inbox})
    assert running.backbone.pipeline is not None
    assert await running.backbone.pipeline.sweeper.sweep(running.jetstream) == 1
    assert b"unrouted" in (await replies.next_msg(5)).data


@asynccontextmanager
async def a_sweeper(settings: Settings) -> AsyncIterator[Sweeper]:
    assert settings.nats_url is not None
    pipeline = Pipeline(settings.nats_url, PlainWorkers().workers(), settings, decisions=MemoryDecisions())
    await pipeline.broker.connect()
    yield pipeline.sweeper
    await pipeline.broker.stop()


@pytest.mark.parametrize("age", [timedelta(hours=1), timedelta()])
async def test_what_waits_or_is_in_work_is_left_alone(
    jetstream: JetStreamContext, quick_settings: Settings, monkeypatch: pytest.MonkeyPatch, age: timedelta
) -> None:
    """One message is in work, one waits for its next delivery, one has not been delivered yet; however old they are."""
    monkeypatch.setattr(sweep, "SECOND_LOOK_S", 0.1)
    monkeypatch.setattr(sweep, "BUSY_AGE", age)
    for _ in range(3):
        await jetstream.publish("vigil.pii.scan", BODY)
    worker = await jetstream.pull_subscribe_bind("pii-worker", stream="VIGIL_DETECTION")
    _, again = await worker.fetch(2, timeout=2)
    await again.nak(delay=30)
    async with a_sweeper(quick_settings) as sweeper:
        assert await sweeper.sweep(jetstream) == 0


async def test_what_a_busy_consumer_has_given_up_is_found_once_it_is_old(
    jetstream: JetStreamContext, quick_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "SECOND_LOOK_S", 0.1)
    await give_up_unseen(jetstream)
    config = (await jetstream.consumer_info("VIGIL_DETECTION", "detection-worker")).config
    await jetstream.add_consumer("VIGIL_DETECTION", ConsumerConfig(**{**vars(config), "ack_wait": 30}))
    await jetstream.publish("vigil.guard.input", BODY)
    worker = await jetstream.pull_subscribe_bind("detection-worker", stream="VIGIL_DETECTION")
    in_work = (await worker.fetch(1, timeout=2))[0]
    async with a_sweeper(quick_settings) as sweeper:
        assert await sweeper.sweep(jetstream) == 0
        monkeypatch.setattr(sweep, "BUSY_AGE", timedelta())
        assert await sweeper.sweep(jetstream) == 1
    left = await jetstream.get_msg("VIGIL_DETECTION", seq=in_work.metadata.sequence.stream)
    assert left.data == BODY
