"""How a test reads a metric: the sample's value now, or how much it grew while something was done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from app.telemetry.metrics import REGISTRY


def value_of(sample: str, **labels: str) -> float:
    """Return a sample's value; 0 for one that has not been counted in."""
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
