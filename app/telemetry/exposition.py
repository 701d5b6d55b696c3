"""What `/metrics` answers: this process's metrics, or those of all workers that one parent started."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Metric, ProcessCollector, generate_latest
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from app.lifecycle import process_runs
from app.telemetry.metrics import LAG_READ_NAME, REGISTRY, TOLD_BY_SERVER
from app.telemetry.processes import ARCHIVE_PID, VARIABLE, counted, locked, reserve

OLDEST: Final = frozenset({"process_start_time_seconds", "process_max_fds"})
"""Of these the smallest of all workers is told; of everything else the sum."""
CPU: Final = "process_cpu_seconds"
CPU_FILE: Final = "cpu_seconds.json"
"""Seconds of CPU by process as the last answer told them; those of ARCHIVE_PID are of all that have ended."""
LAG_HOLDS_S: Final = 30.0
"""Fifteen readings long, longer than the server takes to choose a leader: older figures of streams and consumers are
left out. A replica that has lost the server would otherwise tell its last ones for ever, and hide what is true."""


def exposition() -> bytes:
    """Return all metrics in Prometheus' text format; takes milliseconds for each worker."""
    folder = os.environ.get(VARIABLE)
    return generate_latest(_Present(REGISTRY)) if folder is None else shared_exposition(Path(folder))


def shared_exposition(folder: Path) -> bytes:
    """Return the metrics of all processes that count in a folder, those that have ended included."""
    with locked(folder):
        processes = counted(folder)
        alive = {pid for pid in processes if process_runs(pid)}
        if processes != alive:
            with contextlib.suppress(OSError):  # As on a full disk: their counts are read where they are.
                fold(folder, processes - alive)
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=str(folder))
        registry.register(_Processes(sorted(alive), folder))
        return generate_latest(_Present(registry))


def fold(folder: Path, ended: set[int]) -> None:
    """Keep the counts of processes that have ended in one file for each kind, and remove theirs.

    A counter must not fall when a worker is replaced, and a service that replaces many must not gather files. The
    gauges of a process end with it. Call it with the folder locked.

    Raises:
        OSError: a file cannot be written; the counts are where they were.
    """
    for pid in ended:
        for path in folder.glob(f"gauge_*_{pid}.db"):
            path.unlink()
    for kind in ("counter", "histogram"):
        own = [path for pid in ended if (path := folder / f"{kind}_{pid}.db").is_file()]
        if not own:
            continue
        archive = folder / f"{kind}_{ARCHIVE_PID}.db"
        sums: dict[str, float] = {}
        for path in [*own, *([archive] if archive.is_file() else [])]:
            for key, value, _, _ in MmapedDict.read_all_values_from_file(path):
                sums[key] = sums.get(key, 0.0) + value
        fresh = folder / f"{kind}.new"
        fresh.unlink(missing_ok=True)
        reserve(fresh)
        values = MmapedDict(str(fresh))
        for key, value in sums.items():
            values.write_value(key, value, 0.0)
        values.close()
        for path in own:
            path.unlink()
        fresh.replace(archive)


class _Present(Collector):
    """What holds now: without what the message server told too long ago, as a target that is gone has no series."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        families = list(self._registry.collect())
        read = [sample.value for family in families if family.name == LAG_READ_NAME for sample in family.samples]
        holds = time.time() - max(read, default=0) <= LAG_HOLDS_S
        return (family for family in families if holds or family.name not in TOLD_BY_SERVER)


class _Processes(Collector):
    """CPU, memory and open files of all workers together."""

    def __init__(self, pids: Iterable[int], folder: Path) -> None:
        self._pids = pids
        self._folder = folder

    def collect(self) -> Iterator[Metric]:
        told: dict[str, Metric] = {}
        cpu_s: dict[int, float] = {}
        for pid in self._pids:
            for metric in ProcessCollector(pid=partial(int, pid), registry=None).collect():
                value = metric.samples[0].value
                if metric.name == CPU:
                    cpu_s[pid] = value
                if (first := told.setdefault(metric.name, metric)) is not metric:
                    sample = first.samples[0]
                    both = min(sample.value, value) if metric.name in OLDEST else sample.value + value
                    first.samples[0] = sample._replace(value=both)
        if (cpu := told.get(CPU)) is not None:
            sample = cpu.samples[0]
            cpu.samples[0] = sample._replace(value=sample.value + cpu_s_of_ended(self._folder, cpu_s))
        yield from told.values()


def cpu_s_of_ended(folder: Path, running: dict[int, float]) -> float:
    """Return how many seconds of CPU the processes took that have ended, as far as an answer told them.

    A counter must not fall when a worker is replaced: what is left of it would be taken for new. Call it with the
    folder locked.

    Args:
        running: seconds of CPU by process.
    """
    path = folder / CPU_FILE
    told: dict[int, float] = {}
    if path.is_file():
        told = {int(pid): seconds for pid, seconds in json.loads(path.read_bytes()).items()}
    # Fewer seconds than before are another process's, which has the id of one that ended.
    ended_s = sum(seconds for pid, seconds in told.items() if running.get(pid, 0.0) < seconds)
    fresh = path.with_suffix(".new")
    with contextlib.suppress(OSError):  # As on a full disk: the next answer reckons from the same.
        fresh.write_text(json.dumps({ARCHIVE_PID: ended_s, **running}))
        fresh.replace(path)
    return ended_s
