"""Whose turn it is in the one thread of the event log: writing goes before questions, and questions are bounded."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from enum import IntEnum
from itertools import count
from queue import PriorityQueue
from typing import Any, Final, TypeVar

from app.errors import EventLogUnavailable, Overloaded, QueryTimeout

Result = TypeVar("Result")

MOST_READS: Final = 64
"""Questions in work or waiting for their turn. The log takes 22 ms to find that it has no decision under an id (20,000
rows, embedded engine, one core), so that the last of them is answered after 1.5 s."""


class Rank(IntEnum):
    """What goes first; calls of one rank go in the order in which they came."""

    WRITE = 0
    READ = 1
    CLOSE = 2


class Turns:
    """Calls that block, made by one thread one after another.

    The thread chooses the next call when it has ended the last one, so that a write waits for one question at most.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="event-log")
        self._calls: PriorityQueue[tuple[Rank, int, Future[Any], Callable[[], Any]]] = PriorityQueue()
        self._numbers = count()
        self._places = threading.Semaphore(MOST_READS)

    async def write(self, call: Callable[[], Result], within_s: float | None = None) -> Result:
        """Make a call before all questions that wait; raises as `read` does where there is a limit, but is let in."""
        return await _outcome(self._line_up(Rank.WRITE, call), within_s)

    async def read(self, call: Callable[[], Result], within_s: float) -> Result:
        """Make a call once nothing is left to write and the questions before it are answered.

        Raises:
            Overloaded: more questions wait than can be answered in time, or its turn did not come within `within_s`.
            QueryTimeout: its turn came, and it was not answered within `within_s`.
            EventLogUnavailable: the thread has ended.
        """
        if not self._places.acquire(blocking=False):
            raise Overloaded
        return await _outcome(self._line_up(Rank.READ, call), within_s)

    async def close(self, call: Callable[[], Result]) -> Result:
        """Make a call behind all others, and end the thread."""
        try:
            return await _outcome(self._line_up(Rank.CLOSE, call), None)
        finally:
            self._thread.shutdown(wait=False)

    def abandon(self, call: Callable[[], object]) -> None:
        """Close without waiting for it."""
        self._line_up(Rank.CLOSE, call)
        self._thread.shutdown(wait=False)

    def _line_up(self, rank: Rank, call: Callable[[], Result]) -> Future[Result]:
        try:
            self._thread.submit(self._take_one)
        except RuntimeError:
            raise EventLogUnavailable("The event log is closed.") from None
        outcome: Future[Result] = Future()
        self._calls.put((rank, next(self._numbers), outcome, call))
        return outcome

    def _take_one(self) -> None:
        """Make the call whose turn it is, unless nobody waits for it any more: each call that waits has one turn."""
        rank, _, outcome, call = self._calls.get()
        if outcome.set_running_or_notify_cancel():
            try:
                outcome.set_result(call())
            except BaseException as error:  # noqa: BLE001 - handed to who waits, whatever it is
                outcome.set_exception(error)
        del outcome  # Whose exception's traceback leads here: a cycle would keep the call's rows.
        if rank is Rank.READ:
            # Also of one that was given up: it held its place in the queue until now.
            self._places.release()


async def _outcome(outcome: Future[Result], within_s: float | None) -> Result:
    try:
        async with asyncio.timeout(within_s):
            return await asyncio.wrap_future(outcome)
    except TimeoutError:
        # What has begun cannot be cancelled.
        raise Overloaded if outcome.cancel() else QueryTimeout from None
