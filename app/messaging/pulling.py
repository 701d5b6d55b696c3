"""What FastStream's pull subscribers need from the NATS client's pull subscription and do not get, in one place."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import JetStreamContext
from nats.js.errors import APIError

from app.topology import DETECTION_STREAM

logger: Final = logging.getLogger("vigil.pulling")

MISSING_PAUSE_S: Final = 0.5
"""Pause after a pull that the server refused, as it does while the consumer or stream is missing."""

PULL_BYTES: Final = 16 * 10**6
LARGEST_MESSAGE_BYTES: Final = DETECTION_STREAM.max_message_bytes
"""What is assumed until sizes have been seen."""
FORGET: Final = 0.8
"""How much of the largest size seen is still assumed after each pull that brings smaller ones."""


class SteadyPull:
    """A pull subscription that a FastStream subscriber can go on with whatever happens to the server.

    - Every time-out is nats.errors.TimeoutError. nats-py 2.16 raises plain asyncio.TimeoutError when the server's own
      time-out arrives before the client's timer, and FastStream 0.7.8 catches only the subclass. The batch subscriber
      then loses what it had collected: seen as log events that come again only after ack_wait, in about one of ten
      batches on a busy machine.
    - A refused pull (consumer deleted, stream gone) counts as an empty one after a pause. FastStream repeats some
      refusals at once and for ever, and ends its task on others.
    - A pull asks for no more messages than fit PULL_BYTES by the sizes seen lately: nats-server 2.15 cuts off a client
      to which more than 64 MB wait, and each cut costs all of them a delivery.
    - What was fetched and not worked on when the subscriber stops is handed back at once, not after ack_wait.
    """

    def __init__(self, subscription: JetStreamContext.PullSubscription) -> None:
        self._subscription = subscription
        self._largest_bytes = float(LARGEST_MESSAGE_BYTES)
        self._pull: asyncio.Future[list[Msg]] | None = None
        self._outstanding: list[Msg] = []

    async def fetch(self, batch: int = 1, timeout: float | None = 5) -> list[Msg]:  # noqa: ASYNC109 - wrapped signature
        batch = max(1, min(batch, int(PULL_BYTES / self._largest_bytes)))
        self._pull = asyncio.ensure_future(self._subscription.fetch(batch=batch, timeout=timeout))
        try:
            # A subscriber that stops cancels its pull; what the pull brings all the same must not be forgotten.
            messages = await asyncio.shield(self._pull)
        except NatsTimeoutError:
            raise
        except TimeoutError as error:
            raise NatsTimeoutError from error
        except APIError as error:
            logger.warning("pull refused: %s", error.description or type(error).__name__)
            await asyncio.sleep(MISSING_PAUSE_S)
            raise NatsTimeoutError from error
        self._outstanding = [message for message in self._outstanding if not message._ackd]
        self._outstanding += messages
        seen = max((len(message.data) for message in messages), default=0)
        self._largest_bytes = max(seen, self._largest_bytes * FORGET, 1.0)
        return messages

    async def unsubscribe(self) -> None:
        if self._pull is not None:
            brought = (await asyncio.gather(self._pull, return_exceptions=True))[0]
            if isinstance(brought, list):
                self._outstanding += brought
        await self._subscription.unsubscribe()
        queue = self._subscription._sub._pending_queue
        while not queue.empty():
            self._outstanding.append(queue.get_nowait())
            queue.task_done()  # Or the client would wait for it when the connection is drained.
        for message in {id(message): message for message in self._outstanding}.values():
            if message.reply.startswith("$JS.ACK.") and not message._ackd:
                try:
                    await message.nak()
                except NatsError as error:
                    logger.warning("a message was not handed back: %s", type(error).__name__)


async def start(subscriber: Any) -> None:
    """Start a FastStream pull subscriber on a steady pull; its task first runs after this returns."""
    await subscriber.start()
    subscriber.subscription = SteadyPull(subscriber.subscription)
