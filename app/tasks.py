"""How background work runs and ends: threads that know what they work for, tasks cancelled until they are done."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, Final, TypeVar

logger: Final = logging.getLogger("vigil.service")

Result = TypeVar("Result")

AGAIN_S: Final = 0.2
TRIES: Final = 15


class ContextThreads(ThreadPoolExecutor):
    """Threads whose log lines carry the request id of the work that was handed to them."""

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        return super().submit(copy_context().run, fn, *args, **kwargs)


def report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log a failure that nobody awaited by its class: asyncio's own line quotes the exception, and that a text."""
    error = context.get("exception")
    task = context.get("future") or context.get("task")
    name = task.get_name() if isinstance(task, asyncio.Task) else "a callback"
    logger.error("%s failed unnoticed: %s", name, type(error).__name__ if error is not None else "no exception")


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait for them.

    Python 3.11's `asyncio.wait_for`, which the NATS client awaits in every request, can swallow a cancellation that
    comes together with the answer; the task then goes on. So a task that is not done is cancelled again.
    """
    pending = {task for task in tasks if not task.done()}
    for _ in range(TRIES):
        if not pending:
            return
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=AGAIN_S)
    logger.error("background tasks did not end: %s", ", ".join(sorted(task.get_name() for task in pending)))
