"""Whose turn it is in the one thread of the event log: writing goes before questions, and questions are bounded."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from enum import IntEnum
from itertools import count
from queue import PriorityQueue, SimpleQueue
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


class PassingThread:
    """A thread that ends with the process: unlike an executor's, it is not waited for when Python ends."""

    def __init__(self, name: str) -> None:
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def submit(self, task: Callable[[], None]) -> None:
        """Have a task carried out behind those before it.

        Raises:
            RuntimeError: the thread was told to end.
        """
        if self._ended:
            raise RuntimeError("the thread was told to end")
        if self._thread.ident is None:
            self._thread.start()
        self._tasks.put(task)

    def shutdown(self) -> None:
        """Take no more tasks, and end behind those that wait."""
        self._ended = True
        self._tasks.put(None)

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()


class Turns:
    """Calls that block, made by one thread one after another.

    The thread chooses the next call when it has ended the last one, so that a write waits for one question at most.
    """

    def __init__(self, *, passing: bool = False) -> None:
        """Begin with nothing to do.

        Args:
            passing: whether the process may end in the middle of a call, as in that of a server that will see its
                caller hang up. Without it the end of Python waits for the call.
        """
        name = "event-log"
        self._thread = PassingThread(name) if passing else ThreadPoolExecutor(1, thread_name_prefix=name)
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
            self._end()

    def abandon(self, call: Callable[[], object]) -> None:
        """Close without waiting for it."""
        self._line_up(Rank.CLOSE, call)
        self._end()

    def _end(self) -> None:
        if isinstance(self._thread, PassingThread):
            self._thread.shutdown()
        else:
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
