"""A bounded queue before the threads that the whole process shares: who would wait too long is refused at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

from app.errors import Overloaded

Result = TypeVar("Result")


class BoundedQueue:
    """Work of one kind in the threads, or waiting for them; `most` pieces of it at once, each for `deadline_s`."""

    def __init__(self, threads: Executor, most: int, deadline_s: float) -> None:
        self._threads = threads
        self._most = most
        self._deadline_s = deadline_s
        self._waiting = 0

    def refusal(self) -> Overloaded | None:
        """Return what work that comes now is refused with, or None to let it in."""
        return Overloaded() if self._waiting >= self._most else None

    async def run(self, work: Callable[[], Result]) -> Result:
        """Return what the work returns; raises what it raises.

        Raises:
            Overloaded: more is waiting than can be answered in time.
            TimeoutError: not done within the deadline.
        """
        refusal = self.refusal()
        if refusal is not None:
            raise refusal
        self._waiting += 1
        loop = asyncio.get_running_loop()
        running = self._threads.submit(work)
        # A thread that has begun cannot be stopped: its work counts as waiting until it ends.
        running.add_done_callback(lambda _: _on(loop, self._leave))
        return await asyncio.wait_for(asyncio.wrap_future(running), self._deadline_s)

    def _leave(self) -> None:
        self._waiting -= 1


def _on(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(call)
