"""The delivery policy: a pure function from a failure to what happens to the message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.errors import VigilError
from app.topology import UNLIMITED, ConsumerSpec


@dataclass(frozen=True, slots=True)
class Ack:
    """The work is done."""


@dataclass(frozen=True, slots=True)
class Retry:
    """The work may succeed later."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """The work cannot succeed, or was tried often enough."""

    error_type: str
    error_message: str


Outcome = Ack | Retry | DeadLetter


def decide(
    failure: BaseException | None, *, deliveries: int, consumer: ConsumerSpec, retry_delays_s: Sequence[float]
) -> Outcome:
    """Decide what happens to one delivery.

    Args:
        failure: what the handler raised, None when it succeeded.
        deliveries: how often the message was delivered, this time included; from 1.
        consumer: whose delivery it is.
        retry_delays_s: seconds before each redelivery; the last one repeats.
    """
    if failure is None:
        return Ack()
    permanent = isinstance(failure, VigilError) and not failure.retryable
    if permanent or (consumer.max_deliver != UNLIMITED and deliveries >= consumer.max_deliver):
        return DeadLetter(type(failure).__name__, public_message(failure))
    return Retry(retry_delays_s[min(deliveries, len(retry_delays_s)) - 1])


def public_message(failure: BaseException) -> str:
    """Return what may be said of a failure: our own errors never quote a text, other libraries' might."""
    if isinstance(failure, VigilError):
        return failure.message
    frame = failure.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    where = f" at {frame.tb_frame.f_globals.get('__name__', '?')}:{frame.tb_lineno}" if frame is not None else ""
    return f"unexpected {type(failure).__name__}{where}"
