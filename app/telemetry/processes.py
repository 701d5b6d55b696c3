"""Metrics of one service that runs as several processes: `/metrics` of any worker tells the sum of all.

prometheus_client keeps each process's values in files of a folder when PROMETHEUS_MULTIPROC_DIR is set before it is
first imported. `uvicorn --workers` imports nothing in the parent, so each worker finds the folder by itself: named by
a secret that multiprocessing draws when the parent starts and hands down to every child, so that values of an earlier
run never count. A worker holds a lock on the folder; a folder that nobody holds is an earlier run's, and is removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import multiprocessing
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
LOCK: Final = "in-use.lock"
FILE: Final = re.compile(r"(?P<kind>.+)_(?P<pid>\d+)\.db")
ARCHIVE_PID: Final = 0
"""Stands for all processes that have ended: their counts stay, their files do not."""

KINDS: Final = ("counter", "histogram", "gauge_livemax", "gauge_livemin", "gauge_livemostrecent", "gauge_livesum")
"""What a process has a file of its own for: counters, histograms, gauges by their mode."""
ROOM_BYTES: Final = 256 * 1024
"""Room of such a file: several times what the metrics of all stages take (50 KB)."""

_held: list[int] = []
"""Descriptors whose locks last as long as the process."""


def share(state_dir: Path) -> Path | None:
    """Have this process count together with its siblings when a parent started several; call it before any import of
    metrics.

    Returns:
        The common folder, None for a process that stands alone.

    Raises:
        OSError: the folder cannot be made or written to, or the disk has no room.
    """
    if VARIABLE in os.environ:
        folder = Path(os.environ[VARIABLE])
        folder.mkdir(parents=True, exist_ok=True)
        _reserve_own(folder)
        return folder
    if multiprocessing.parent_process() is None:
        return None
    drawn = hashlib.sha256(b"metrics" + bytes(multiprocessing.current_process().authkey)).hexdigest()[:16]
    runs = state_dir / "metrics"
    folder = runs / drawn
    runs.mkdir(parents=True, exist_ok=True)
    with locked(runs):
        for run in runs.iterdir():
            if run.is_dir() and run != folder and not _in_use(run):
                shutil.rmtree(run, ignore_errors=True)
        folder.mkdir(exist_ok=True)
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        _held.append(descriptor)
    _reserve_own(folder)
    os.environ[VARIABLE] = str(folder.resolve())
    return folder


def reserve(path: Path) -> None:
    """Take a file's room on the disk before prometheus_client maps it.

    The file that it makes has holes, and the kernel ends whoever writes into one while the disk is full (SIGBUS).

    Raises:
        OSError: there is no room.
    """
    if path.exists():
        return
    try:
        path.write_bytes(bytes(ROOM_BYTES))
    except OSError:
        path.unlink(missing_ok=True)
        raise


def _reserve_own(folder: Path) -> None:
    for kind in KINDS:
        reserve(folder / f"{kind}_{os.getpid()}.db")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder's housekeeping."""
    descriptor = os.open(folder / "housekeeping.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def counted(folder: Path) -> set[int]:
    """Return the processes that have files here."""
    written = {int(found["pid"]) for path in folder.glob("*.db") if (found := FILE.fullmatch(path.name))}
    return written - {ARCHIVE_PID}


def _in_use(run: Path) -> bool:
    try:
        descriptor = os.open(run / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
