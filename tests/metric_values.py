"""How a test reads a metric: the sample's value now, or how much it grew while something was done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from app.telemetry import counting
from app.telemetry.metrics import REGISTRY


def value_of(sample: str, **labels: str) -> float:
    """Return a sample's value; 0 for one that has not been counted in."""
    counting.hand_over()
    return REGISTRY.get_sample_value(sample, labels) or 0.0


@dataclass
class Growth:
    before: float
    sample: str
    labels: dict[str, str]

    @property
    def value(self) -> float:
        return value_of(self.sample, **self.labels) - self.before


@contextmanager
def growth_of(sample: str, **labels: str) -> Iterator[Growth]:
    yield Growth(value_of(sample, **labels), sample, labels)


def labels_by_sample() -> dict[str, set[str]]:
    """Return the label names of every sample that /metrics can show, also of what nothing was counted in yet."""
    found: dict[str, set[str]] = {}
    for collector in list(REGISTRY._collector_to_names):
        labels = set(getattr(collector, "_labelnames", ()))
        described = collector.describe() if hasattr(collector, "describe") else collector.collect()
        for family in described:
            match family.type:
                case "counter":
                    found[f"{family.name}_total"] = labels
                case "histogram":
                    found |= {f"{family.name}_count": labels, f"{family.name}_sum": labels}
                    found[f"{family.name}_bucket"] = {*labels, "le"}
                case _:
                    found[family.name] = labels or {name for sample in family.samples for name in sample.labels}
    return found
