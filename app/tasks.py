"""How background tasks are ended: cancelled until they are done, within a limit."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any, Final

logger: Final = logging.getLogger("vigil.service")

AGAIN_S: Final = 0.2
TRIES: Final = 15


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
