"""One dead letter for each message: burying it twice adds none, and another with the same sequence is another one."""

from __future__ import annotations

import pytest
from nats.aio.msg import Msg
from nats.js.errors import NotFoundError

from app.messaging.dead_letters import Letter
from tests.integration.messaging.conftest import Running
from tests.support import eventually

pytestmark = pytest.mark.integration


async def test_a_stream_that_was_made_anew_loses_no_dead_letter(running: Running) -> None:
    """Its sequences begin at 1 again, while the dead-letter queue remembers message ids for a week."""

    async def dead(number: int) -> bool:
        return await running.dead_letters() == number and await running.idle()

    await running.jetstream.publish("vigil.guard.input", b"not JSON")
    await eventually(lambda: dead(1))
    created = (await running.jetstream.stream_info("VIGIL_DETECTION")).created
    await running.jetstream.delete_stream("VIGIL_DETECTION")

    async def made_anew() -> bool:
        try:
            await running.jetstream.consumer_info("VIGIL_DETECTION", "detection-worker")
        except NotFoundError:
            return False
        return (await running.jetstream.stream_info("VIGIL_DETECTION")).created != created

    await eventually(made_anew)
    acknowledged = await running.jetstream.publish("vigil.guard.input", b"not JSON either")
    assert acknowledged.seq == 1
    await eventually(lambda: dead(2))


async def test_a_delivered_and_a_stored_message_have_the_same_time(running: Running) -> None:
    """The handler and the sweep make the same message id for a message."""
    await running.jetstream.add_stream(name="TIMES", subjects=["times"])
    subscription = await running.jetstream.pull_subscribe("times", durable="reader")
    for _ in range(200):
        await running.jetstream.publish("times", b"")
    delivered: list[Msg] = []
    while len(delivered) < 200:
        delivered += await subscription.fetch(200 - len(delivered), timeout=5)
    for message in delivered:
        letter = Letter.of_delivery(message, "TIMES")
        stored = await running.jetstream.get_msg("TIMES", seq=letter.sequence)
        assert Letter.of_stored(stored, "TIMES").stored_us == letter.stored_us > 0
