"""Ownership of the embedded ClickHouse engine: one process of a machine may open its folder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from app.errors import EventLogBusy


class EmbeddedEngineLock:
    """A lock on a file that ends with its process, however the process ends.

    flock(2) belongs to the open file: the kernel drops it when the owner is killed, so no stale lock is left to
    break. The file stays after release, because removing it would let two processes lock two different files.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        return self._descriptor is not None

    def acquire(self) -> None:
        """Take the lock, or do nothing when this object holds it already.

        Raises:
            EventLogBusy: somebody else holds it, in this process or another.
            OSError: the file cannot be made or opened.
        """
        if self._descriptor is not None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise EventLogBusy from None
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the lock up, if it is held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
