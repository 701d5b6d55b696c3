"""Plots of a benchmark's report: throughput against connections, latency against the offered rate."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any


def draw(report: dict[str, Any], beside: Path) -> list[Path]:
    """Draw what the report holds into PNG files beside it; nothing where matplotlib is not installed."""
    try:
        import matplotlib as mpl
    except ImportError:
        return []
    mpl.use("Agg")
    drawn = []
    for part, fields, x_label, y_label in (
        ("closed", ("requests_per_s",), "connections", "requests a second"),
        ("open", ("p50_ms", "p99_ms"), "requests offered a second", "latency, ms"),
    ):
        if part in report:
            path = beside.with_name(f"{beside.stem}-{part}.png")
            _lines(report[part], fields, x_label, y_label, path)
            drawn.append(path)
    return drawn


def _lines(results: dict[str, Any], fields: tuple[str, ...], x_label: str, y_label: str, path: Path) -> None:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    xs = [float(x) for x in results]
    for name in next(iter(results.values())):
        for field, style in zip(fields, ("-", "--"), strict=False):
            ys = [statistics.median(each[field] for each in rounds[name]) for rounds in results.values()]
            axes.plot(xs, ys, style, marker="o", label=name if len(fields) == 1 else f"{name}, {field[:3].upper()}")
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    if len(fields) > 1:
        axes.set_yscale("log")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
