"""A process that counts like a worker of `uvicorn --workers`: nothing of the metrics is imported before it starts."""

from __future__ import annotations

from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from app.telemetry import processes


def count_when_told(state_dir: Path, orders: Connection) -> None:
    """Join the siblings, then carry out each order: (metric, labels, method, value), or None to tell the metrics."""
    folder = processes.share(state_dir)
    assert folder is not None
    from app.telemetry import exposition, metrics

    orders.send(str(folder))
    while True:
        order: tuple[str, tuple[str, ...], str, float] | None = orders.recv()
        if order is None:
            orders.send(exposition.exposition().decode())
            continue
        name, labels, method, value = order
        metric: Any = getattr(metrics, name)
        getattr(metric.labels(*labels) if labels else metric, method)(value)
        orders.send("done")
