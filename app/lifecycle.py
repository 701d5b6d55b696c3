"""How the process begins and ends its work.

What it loaded is set aside from garbage collection; the first signal finishes the work within a limit, a second one
ends it at once.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Final

logger: Final = logging.getLogger("vigil.service")

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
FORCED_STATUS: Final = 1
CONNECTIONS_SHARE: Final = 0.5
"""How much of a stop's time open connections have at most; the rest is for what comes after them: the work in flight,
the last rows, the embedded message server. A whole stop under load took 2.3 to 3.4 s (docs/drills.md)."""
PASSED_ON_S: Final = 1.0
"""A signal to the whole process group (Ctrl-C, systemd) reaches a worker twice: uvicorn's parent, which looks twice a
second, passes it on. Within this time the second one is the same."""
GC_THRESHOLDS: Final = (20_000, 20, 20)
"""Allocations before a collection of the youngest generation, and such collections before one of the next. A request
makes many objects and few cycles: with Python's 700 each would pay for a collection or two."""


def settle_heap() -> None:
    """Set what was loaded at start aside from garbage collection.

    Models, schemas and modules are 150,000 objects; a full collection of them stops everything for 0.1 s on the machine
    of the README's figures, and none of them is ever garbage.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def web_server() -> Any | None:
    """Return the uvicorn server that runs this process, or None under another one.

    It is known by its signal handler; call before StopSignals takes that over.
    """
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return server if hasattr(server, "should_exit") and hasattr(server, "config") else None


class StopSignals:
    """Stands in for the web server's own signal handlers.

    uvicorn 0.54 lets a second SIGTERM pass unheard, waits for open connections without limit unless it is given one,
    and once it has stopped raises the signal again, so that a clean stop looks like a death by signal (status 143).
    """

    def __init__(self, limit_s: float, on_stop: Callable[[], object]) -> None:
        """Prepare.

        Args:
            limit_s: how long a stop may take before the process ends at once.
            on_stop: called from the event loop at the first signal, while the web server still waits for connections.
        """
        self._limit_s = limit_s
        self._on_stop = on_stop
        self._stopping_since: float | None = None
        self._passed_on_s = 0.0 if multiprocessing.parent_process() is None else PASSED_ON_S
        self._previous: dict[int, Any] = {}

    def install(self) -> None:
        """Take over the handlers, and limit how long the web server waits for connections; call from the event loop's
        thread once the web server has installed its own."""
        if threading.current_thread() is not threading.main_thread():
            return
        server = web_server()
        if server is not None:
            given_s, most_s = server.config.timeout_graceful_shutdown, CONNECTIONS_SHARE * self._limit_s
            server.config.timeout_graceful_shutdown = most_s if given_s is None else min(given_s, most_s)
        self._loop = asyncio.get_running_loop()
        for number in SIGNALS:
            self._previous[number] = signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._stopping_since is not None:
            if time.monotonic() - self._stopping_since < self._passed_on_s:
                return
            self._end("a second signal")
        self._stopping_since = time.monotonic()
        self._loop.call_soon_threadsafe(self._on_stop)
        self._loop.call_soon_threadsafe(self._loop.call_later, self._limit_s, self._end, f"{self._limit_s:g} s")
        previous = self._previous.get(number)
        server: Any = getattr(previous, "__self__", None)
        if server is not None and hasattr(server, "should_exit"):
            server.should_exit = True
        elif callable(previous):
            previous(number, frame)

    @staticmethod
    def _end(reason: str) -> None:
        logger.error("ended at once after %s; what was in work comes again after its ack_wait", reason)
        logging.shutdown()
        os._exit(FORCED_STATUS)


def process_runs(pid: int) -> bool:
    """Whether a process of this id runs; one that ended and was not waited for does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return _state_of(pid) != "Z"


def _state_of(pid: int) -> str | None:
    """Return the kernel's state letter of a process where /proc exists, else None."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return None
