"""A work queue without room: no new request is let in, and what comes of those in it waits in place of dying."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from nats.js.errors import APIError

from app.contracts import GuardAnswer, GuardRequest
from app.errors import MessagingUnavailable, Overloaded
from tests.integration.messaging.conftest import Running
from tests.support import eventually

pytestmark = pytest.mark.integration

UNROUTED = "vigil.guard.input.nobody"
"""Kept by the stream, and taken by no consumer."""
MOST_BYTES = 100_000


async def fill(running: Running, *, message_bytes: int) -> None:
    """Give the work queue a small limit, and publish until it takes no more."""
    config = (await running.jetstream.stream_info("VIGIL_DETECTION")).config
    await running.jetstream.update_stream(replace(config, max_bytes=MOST_BYTES))

    async def publish_for_ever() -> None:
        while True:
            await running.jetstream.publish(UNROUTED, b"x" * message_bytes)

    with pytest.raises(APIError, match="maximum bytes exceeded"):
        await publish_for_ever()


async def test_what_comes_of_a_request_waits_for_room(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def hold(_: GuardRequest) -> None:
        begun.set()
        await go_on.wait()

    running.plain.before_detect = hold
    waiting = asyncio.create_task(running.gateway.guard(GuardRequest(text="hello")))
    await begun.wait()
    await fill(running, message_bytes=100)
    go_on.set()

    async def no_room() -> bool:
        return "goes to vigil.pii.scan waits for room" in caplog.text

    await eventually(no_room)
    await running.jetstream.purge_stream("VIGIL_DETECTION", subject=UNROUTED)
    assert GuardAnswer.model_validate_json(await waiting).decision == "ALLOWED"
    await eventually(running.idle)
    assert await running.dead_letters() == 0
    assert running.plain.stages == ["detect", "scan", "arbitrate", "record"], "no stage did its work twice"


async def test_no_request_is_let_in_while_the_queue_is_nearly_full(running: Running) -> None:
    await fill(running, message_bytes=4000)

    async def refuses() -> bool:
        return running.gateway.refusal() is not None

    await eventually(refuses)
    with pytest.raises(Overloaded) as caught:
        await running.gateway.guard(GuardRequest(text="hello"))
    assert caught.value.retry_after_s == 30
    assert running.plain.stages == []
    await running.jetstream.purge_stream("VIGIL_DETECTION", subject=UNROUTED)

    async def lets_in() -> bool:
        return running.gateway.refusal() is None

    await eventually(lets_in)
    await running.gateway.guard(GuardRequest(text="hello"))


async def test_readiness_tells_what_the_queue_said_until_it_takes_a_request(running: Running) -> None:
    await fill(running, message_bytes=100)
    with pytest.raises(MessagingUnavailable):
        await running.gateway.submit(GuardRequest(text="hello " * 50))
    with pytest.raises(MessagingUnavailable) as caught:
        await running.backbone.check()
    assert caught.value.message == "the work queue refused the last request: maximum bytes exceeded"
    await running.jetstream.purge_stream("VIGIL_DETECTION", subject=UNROUTED)
    await running.gateway.submit(GuardRequest(text="hello"))
    await running.backbone.check()
