"""Finds what would lie in the work queue unseen, and moves it to the dead-letter queue.

A message that used up its deliveries without an answer stays in the stream, invisible: neither pending nor waiting for
an acknowledgement. The server tells of it once, in an advisory; a stream keeps those for the `advisory-worker`. What
no advisory told of (a server without that stream, or one whose store was wiped) and what no consumer matches is found
by looking.
"""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import timedelta
from typing import Final

from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import RawStreamMsg
from nats.js.errors import APIError, NotFoundError

from app.errors import DeliveriesExhausted, InvalidRequest, Unrouted
from app.identity import now
from app.messaging import envelope as envelopes
from app.messaging.dead_letters import DeadLetters, Letter
from app.messaging.policy import DeadLetter
from app.topology import DETECTION_STREAM, PIPELINE_CONSUMERS, UNROUTED, ConsumerSpec, matches

logger: Final = logging.getLogger("vigil.sweep")

SECOND_LOOK_S: Final = 2.0
"""Pause before a message is looked at again: one that is being acknowledged just now is gone by then."""
BUSY_AGE: Final = timedelta(hours=1)
"""Age from which a message may be one of those that a busy consumer has given up: all deliveries take minutes."""
AT_ONCE: Final = 1000
"""Most messages of one filter that a sweep takes; the next one takes the rest."""


class Sweeper:
    def __init__(self, dead_letters: DeadLetters, interval_s: float) -> None:
        self._dead_letters = dead_letters
        self._interval_s = interval_s

    async def watch(self, jetstream: JetStreamContext) -> None:
        """Sweep at once and then at each interval, until cancelled."""
        while True:
            try:
                moved = await self.sweep(jetstream)
                if moved:
                    logger.warning("%d messages that no worker would have seen were dead-lettered", moved)
            except Exception as error:  # noqa: BLE001 - whatever it is, the next sweep is due
                logger.warning("sweep not finished: %s", type(error).__name__)
            await asyncio.sleep(self._interval_s)

    async def sweep(self, jetstream: JetStreamContext) -> int:
        """Move what is invisible at two looks in a row; return how many messages that were."""
        first = await self._invisible(jetstream)
        if not first:
            return 0
        await asyncio.sleep(SECOND_LOOK_S)
        second = await self._invisible(jetstream)
        moved = 0
        for sequence, durable in second.items():
            if first.get(sequence) == durable:
                error = Unrouted() if durable == UNROUTED else DeliveriesExhausted()
                try:
                    moved += await self._move(jetstream, sequence, durable, error, deliveries=0)
                except (NatsError, TimeoutError):
                    raise
                except Exception as failure:  # noqa: BLE001 - one message must not keep all others from being found
                    logger.error("message %d was not moved: %s", sequence, type(failure).__name__)
        return moved

    async def on_advisory(self, jetstream: JetStreamContext, advisory: bytes) -> None:
        """Move the message that a MAX_DELIVERIES advisory tells of.

        Raises:
            InvalidRequest: this is no such advisory.
        """
        try:
            told = json.loads(advisory)
            durable, sequence, deliveries = str(told["consumer"]), int(told["stream_seq"]), int(told["deliveries"])
        except (ValueError, KeyError, TypeError):
            raise InvalidRequest("not an advisory of the message server", field="body") from None
        await self._move(jetstream, sequence, durable, DeliveriesExhausted(), deliveries=deliveries)

    async def _move(
        self,
        jetstream: JetStreamContext,
        sequence: int,
        durable: str,
        error: DeliveriesExhausted | Unrouted,
        *,
        deliveries: int,
    ) -> bool:
        try:
            message = await jetstream.get_msg(DETECTION_STREAM.name, seq=sequence)
        except NotFoundError:
            return False
        envelope = envelopes.from_headers(
            message.headers or {}, stream=DETECTION_STREAM.name, sequence=sequence, stored_at=message.time or now()
        )
        await self._dead_letters.bury(
            Letter.of_stored(message, DETECTION_STREAM.name),
            envelope,
            durable,
            DeadLetter(type(error).__name__, error.message),
            deliveries=deliveries,
        )
        try:
            await jetstream.delete_msg(DETECTION_STREAM.name, sequence)
        except NotFoundError:
            return False
        await self._dead_letters.tell_caller(envelope, error)
        return True

    async def _invisible(self, jetstream: JetStreamContext) -> dict[int, str]:
        """Return the sequences that no consumer will deliver, each with the consumer it belongs to."""
        info = await jetstream.stream_info(DETECTION_STREAM.name, subjects_filter=">")
        invisible: dict[int, str] = {}
        for subject in info.state.subjects or {}:
            if not any(matches(subject, pattern) for spec in PIPELINE_CONSUMERS for pattern in spec.filter_subjects):
                try:
                    unrouted = await self._messages(jetstream, subject, last=info.state.last_seq)
                except APIError as error:
                    logger.error("messages of a subject were not found: %s", error.description)
                else:
                    invisible |= {message.seq or 0: UNROUTED for message in unrouted}
        for spec in PIPELINE_CONSUMERS:
            invisible |= dict.fromkeys(await self._exhausted(jetstream, spec), spec.durable)
        if not invisible and info.state.messages and await self._all_idle(jetstream):
            # nats-server 2.15 stores a subject with the byte 0x7f, finds it under no filter, and delivers it to nobody.
            for message in await self._messages(jetstream, ">", last=info.state.last_seq):
                invisible[message.seq or 0] = UNROUTED
        return invisible

    @staticmethod
    async def _all_idle(jetstream: JetStreamContext) -> bool:
        """Whether no consumer has anything to deliver or in work: what is stored all the same is seen by none."""
        for spec in PIPELINE_CONSUMERS:
            info = await jetstream.consumer_info(spec.stream, spec.durable)
            if info.num_pending or info.num_ack_pending:
                return False
        return True

    async def _exhausted(self, jetstream: JetStreamContext, spec: ConsumerSpec) -> list[int]:
        """Return the delivered messages that their consumer has given up, as far as its numbers tell.

        What it has delivered and still waits for, in work or between two deliveries, it counts; what is stored beyond
        that number it has given up. Which ones it does not say: in a consumer with nothing in work all are, and in a
        busy one the oldest are taken, once they are old.
        """
        info = await jetstream.consumer_info(spec.stream, spec.durable)
        delivered = info.delivered.stream_seq if info.delivered else 0

        async def found(most: int) -> list[RawStreamMsg]:
            parts = [await self._messages(jetstream, each, last=delivered, most=most) for each in spec.filter_subjects]
            return [message for part in parts for message in part]

        if info.num_ack_pending and not any(_is_old(message) for message in await found(1)):
            return []  # As nearly always: a busy consumer's messages need not be read one by one.
        stored = await found(AT_ONCE)
        # Acknowledged in between are fewer stored, never more.
        given_up = max(0, len(stored) - (info.num_ack_pending or 0))
        if info.num_ack_pending:
            stored = [message for message in stored if _is_old(message)]
        return sorted(message.seq or 0 for message in stored)[:given_up]

    @staticmethod
    async def _messages(
        jetstream: JetStreamContext, pattern: str, *, last: int, most: int = AT_ONCE
    ) -> list[RawStreamMsg]:
        """Return the stored messages of a subject or filter up to a sequence, oldest first, `most` of them at most."""
        found: list[RawStreamMsg] = []
        sequence = 1
        while sequence <= last:
            try:
                message = await jetstream.get_msg(DETECTION_STREAM.name, seq=sequence, subject=pattern, next=True)
            except NotFoundError:
                break
            if (message.seq or 0) > last:
                break
            found.append(message)
            if len(found) >= most:
                break
            sequence = (message.seq or 0) + 1
        return found


def _is_old(message: RawStreamMsg) -> bool:
    return message.time is not None and now() - message.time > BUSY_AGE
