"""Where FastStream's pull subscribers and the NATS client disagree about time-outs, set right in one place."""

from __future__ import annotations

from typing import Any

from nats.aio.msg import Msg
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import JetStreamContext


class UniformTimeouts:
    """A pull subscription whose fetch reports every time-out as nats.errors.TimeoutError.

    nats-py 2.16 raises plain asyncio.TimeoutError when the server's own time-out arrives before the client's timer, and
    FastStream 0.7.8 catches only the subclass. The batch subscriber then loses what it had collected: seen as log
    events that come again only after ack_wait, in about one of ten batches on a busy machine.
    """

    def __init__(self, subscription: JetStreamContext.PullSubscription) -> None:
        self._subscription = subscription

    async def fetch(self, batch: int = 1, timeout: float | None = 5) -> list[Msg]:  # noqa: ASYNC109 - the wrapped signature
        try:
            return await self._subscription.fetch(batch=batch, timeout=timeout)
        except NatsTimeoutError:
            raise
        except TimeoutError as error:
            raise NatsTimeoutError from error

    async def unsubscribe(self) -> None:
        await self._subscription.unsubscribe()


async def start(subscriber: Any) -> None:
    """Start a FastStream pull subscriber with uniform time-outs; its task first runs after this returns."""
    await subscriber.start()
    subscriber.subscription = UniformTimeouts(subscriber.subscription)
