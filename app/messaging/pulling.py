"""How messages come from JetStream to FastStream's pull subscribers: by one standing pull each."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js.api import Header

from app.topology import DETECTION_STREAM

logger: Final = logging.getLogger("vigil.pulling")

EXPIRES_S: Final = 30.0
"""How long one pull stands at the server."""
HEARTBEAT_S: Final = 5.0
"""How often the server says that a pull without messages still stands."""
LOOK_S: Final = 0.5
"""How often a pull is looked after: the connection may be a new one, the server's heartbeats may be missing."""
MISSING_PAUSE_S: Final = 0.5
"""Pause after a pull that the server refused, as it does while the consumer or stream is missing."""
KEEP_SHARE: Final = 0.25
"""Of ack_wait: with it pass the time to collect a batch and the half of ack_wait until that has its first heartbeat."""
PULL_BYTES: Final = 16 * 10**6
LARGEST_MESSAGE_BYTES: Final = DETECTION_STREAM.max_message_bytes
"""What is assumed until sizes have been seen."""
FORGET: Final = 0.98
"""How much of the largest size seen is still assumed after each smaller message."""
PENDING_MESSAGES: Final = "Nats-Pending-Messages"
"""Header of a status: how many messages of the pull were not delivered."""
IDLE: Final = "100"
ENDED: Final = frozenset({"404", "408"})
"""Statuses of a pull that ended as pulls do: no message in time."""

Handler = Callable[[Msg], Coroutine[Any, Any, object]]


class StandingPull:
    """A pull subscription that asks ahead and takes messages as they come, whatever happens to the server.

    nats-py's own `fetch` asks anew for each batch, first without and then with waiting, and wakes through a timer for
    each message: a third of what a delivery cost (py-spy, fast mode). Here one pull stands for as many messages as may
    be in work, and is topped up as they are done.

    - With a handler, each message is handed to it at once, in a task of its own. Never more than `window` messages are
      in this process, so a slow one takes no work away from other replicas.
    - Without one, `fetch` gives what has come: FastStream's batch subscriber collects from it. What waits longer than
      `keep_s`, as behind a batch that waits itself, is kept from being delivered again.
    - Asks for no more than fits PULL_BYTES by the sizes seen lately: nats-server 2.15 cuts off a client to which more
      than 64 MB wait, and each cut costs all of them a delivery.
    - A refused pull (consumer deleted, stream gone) is repeated after a pause; a lost one (new connection, no
      heartbeat) is noticed and repeated.
    - What was taken and not worked on when the subscriber stops is handed back at once, not after ack_wait.
    """

    def __init__(
        self,
        connection: Client,
        subject: str,
        window: int,
        *,
        handler: Handler | None = None,
        running: Callable[[], bool] = lambda: True,
        keep_s: float = math.inf,
    ) -> None:
        """Keep what to pull from.

        Args:
            connection: the connection, which may be made anew under this object.
            subject: `$JS.API.CONSUMER.MSG.NEXT.<stream>.<durable>`.
            window: most messages that are asked for, waiting and in work together.
            handler: works on one message; it acknowledges by itself.
            running: whether messages are still wanted.
            keep_s: how often the server is told that what came and was not fetched is not lost.
        """
        self._connection = connection
        self._subject = subject
        self._window = window
        self._handler = handler
        self._running = running
        self._keep_s = keep_s
        self._kept_at = time.monotonic()
        self._subscription: Subscription | None = None
        self._ready: deque[Msg] = deque()
        self._working: dict[asyncio.Task[object], Msg] = {}
        self._given: deque[Msg] = deque(maxlen=window)
        """What `fetch` gave last: a batch is collected, and then in work, outside of this object."""
        self._requested = 0
        self._largest_bytes = float(LARGEST_MESSAGE_BYTES)
        self._reconnects = 0
        self._heard_at = 0.0
        self._refused_at: float | None = None
        self._wanted = asyncio.Event()
        """Set when there may be room for more."""
        self._came = asyncio.Event()
        self._enough = 1
        """How many messages wake a waiting `fetch`."""

    async def open(self) -> None:
        self._inbox = self._connection.new_inbox()
        self._subscription = await self._connection.subscribe(self._inbox, cb=self._on_message)

    async def keep_asking(self) -> None:
        """Ask for messages whenever there is room, for ever."""
        while self._running():
            self._wanted.clear()
            self._notice_lost_pulls()
            await self._keep_waiting()
            if self._refused_at is not None:
                await asyncio.sleep(max(0.0, self._refused_at + MISSING_PAUSE_S - time.monotonic()))
                self._refused_at = None
            await self._ask()
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._wanted.wait()
            except TimeoutError:
                continue

    async def fetch(self, batch: int = 1, timeout: float | None = 5) -> list[Msg]:  # noqa: ASYNC109 - wrapped signature
        """Wait for `batch` messages, `timeout` seconds at most, and return those that came.

        Raises:
            nats.errors.TimeoutError: none came.
        """
        if len(self._ready) < batch:
            self._enough = batch
            self._came.clear()
            try:
                async with asyncio.timeout(timeout):
                    await self._came.wait()
            except TimeoutError:
                pass  # What has come by then counts.
        if not self._ready:
            raise NatsTimeoutError
        messages = [self._ready.popleft() for _ in range(min(batch, len(self._ready)))]
        self._given = deque((each for each in (*self._given, *messages) if not each._ackd), maxlen=self._window)
        self._wanted.set()
        return messages

    async def unsubscribe(self) -> None:
        """Take no more messages and hand back those that nobody has worked off."""
        if self._subscription is None:
            return
        try:
            await self._subscription.drain()  # type: ignore[no-untyped-call]  # What the server had sent comes before its end, and waits in `_ready`.
        except (NatsError, TimeoutError) as error:
            logger.warning("a pull did not end cleanly: %s", type(error).__name__)
        self._subscription = None
        for message in (*self._ready, *self._given, *self._working.values()):
            if message.reply.startswith("$JS.ACK.") and not message._ackd:
                try:
                    await message.nak()
                except NatsError as error:
                    logger.warning("a message was not handed back: %s", type(error).__name__)
        self._ready.clear()
        self._given.clear()

    def _room(self) -> int:
        """Return how many messages to ask for now: few large pulls, for one of each message doubles what it costs."""
        limit = max(1, min(self._window, int(PULL_BYTES / self._largest_bytes)))
        room = limit - self._requested - len(self._ready) - len(self._working)
        return room if room > 0 and (not self._requested or room >= limit // 4) else 0

    async def _ask(self) -> None:
        room = self._room()
        if not room or not self._connection.is_connected:
            return
        self._requested += room
        self._heard_at = time.monotonic()
        request = {"batch": room, "expires": int(EXPIRES_S * 1e9), "idle_heartbeat": int(HEARTBEAT_S * 1e9)}
        try:
            await self._connection.publish(self._subject, json.dumps(request).encode(), reply=self._inbox)
        except NatsError as error:
            self._requested = 0
            logger.warning("a pull was not sent: %s", type(error).__name__)

    async def _keep_waiting(self) -> None:
        """Tell the server of what came and was not fetched: each delivery that it repeats is one less."""
        if time.monotonic() - self._kept_at < self._keep_s:
            return
        self._kept_at = time.monotonic()
        for message in tuple(self._ready):
            try:
                await message.in_progress()
            except NatsError as error:
                logger.warning("heartbeat not sent: %s", type(error).__name__)
                return

    def _notice_lost_pulls(self) -> None:
        """Count no pull that the server cannot have any more."""
        reconnects = self._connection.stats["reconnects"]
        silent = self._requested and time.monotonic() - self._heard_at > 2 * HEARTBEAT_S + LOOK_S
        if reconnects != self._reconnects or silent:
            self._reconnects = reconnects
            self._requested = 0

    async def _on_message(self, message: Msg) -> None:
        self._heard_at = time.monotonic()
        if not message.data and message.headers and (status := message.headers.get(Header.STATUS)):
            self._on_status(status, message.headers)
            return
        self._requested = max(0, self._requested - 1)
        self._largest_bytes = max(len(message.data), self._largest_bytes * FORGET, 1.0)
        if self._handler is not None and self._running():
            task = asyncio.create_task(self._handler(message))
            self._working[task] = message
            task.add_done_callback(self._done)
            return
        self._ready.append(message)
        if len(self._ready) >= self._enough:
            self._came.set()

    def _done(self, task: asyncio.Task[object]) -> None:
        message = self._working.pop(task)
        if not self._running() and not message._ackd:
            self._ready.append(message)  # It came too late to be worked on.
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a delivery ended unhandled: %s", type(error).__name__)
        if self._room():
            self._wanted.set()

    def _on_status(self, status: str, headers: dict[str, str]) -> None:
        if status == IDLE:
            return
        left = headers.get(PENDING_MESSAGES, "")
        self._requested = max(0, self._requested - int(left)) if left.isdecimal() else 0
        if status not in ENDED:
            self._refused_at = time.monotonic()
            logger.warning("pull refused: %s", headers.get(Header.DESCRIPTION) or status)
        self._wanted.set()


async def start(subscriber: Any) -> None:
    """Start a FastStream pull subscriber on a standing pull: parsing, middlewares and the handler stay FastStream's."""
    await subscriber.start()
    fetching, pull_sub = subscriber.subscription, subscriber.pull_sub
    pull = StandingPull(
        subscriber.connection,
        fetching._nms,
        getattr(subscriber, "max_workers", pull_sub.batch_size),
        handler=None if pull_sub.batch else subscriber.consume,
        running=lambda: bool(subscriber.running),
        keep_s=KEEP_SHARE * subscriber.config.ack_wait,
    )
    # Nothing has been awaited since FastStream made its own tasks: none of them has run yet.
    subscriber.subscription = pull
    if not pull_sub.batch:
        for task in subscriber.tasks:
            task.cancel()
        subscriber.tasks.clear()
    await fetching.unsubscribe()
    await pull.open()
    subscriber.add_task(pull.keep_asking)
