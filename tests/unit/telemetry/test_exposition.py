"""What the message server told is shown for as long as it holds, and leaves with it: stale figures hide true ones."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from app.telemetry import exposition, metrics


@pytest.fixture(autouse=True)
def told_once() -> Iterator[None]:
    """Something that each gauge of the server's state tells; nothing of it stays."""
    gauges = [metrics.REGISTRY._names_to_collectors[name] for name in metrics.TOLD_BY_SERVER]
    for gauge in gauges:
        gauge.labels("of-a-test").set(7)  # type: ignore[attr-defined]
    yield
    for gauge in gauges:
        gauge.remove("of-a-test")  # type: ignore[attr-defined]
    metrics.LAG_READ.set(0)


def names() -> set[str]:
    page = exposition.exposition().decode()
    return {line.partition("{")[0].partition(" ")[0] for line in page.splitlines() if not line.startswith("#")}


@pytest.mark.parametrize(("age_s", "shown"), [(0.0, True), (25.0, True), (31.0, False), (3600.0, False)])
def test_what_the_server_told_leaves_when_it_is_no_longer_read(age_s: float, shown: bool) -> None:
    metrics.LAG_READ.set(time.time() - age_s)
    assert metrics.TOLD_BY_SERVER & names() == (metrics.TOLD_BY_SERVER if shown else set())


def test_it_comes_back_when_it_is_read_again() -> None:
    metrics.LAG_READ.set(time.time() - 3600)
    assert not metrics.TOLD_BY_SERVER & names()
    metrics.LAG_READ.set(time.time())
    assert names() >= metrics.TOLD_BY_SERVER


def test_what_the_process_knows_by_itself_stays() -> None:
    metrics.LAG_READ.set(time.time() - 3600)
    metrics.NATS_CONNECTED.set(0)
    assert {metrics.LAG_READ_NAME, "vigil_nats_connected", "vigil_requests_in_flight"} <= names()


def test_every_gauge_of_a_stream_or_consumer_is_the_servers() -> None:
    """A new one that is read with the others must leave with them."""
    own = {"vigil_messages_in_work"}
    labelled = {
        family.name
        for collector in metrics.REGISTRY._collector_to_names
        for family in collector.collect()
        if family.type == "gauge" and {"consumer", "stream"} & set(getattr(collector, "_labelnames", ()))
    }
    assert labelled - own == metrics.TOLD_BY_SERVER
