"""How a stop begins: the first signal is passed on, and the web server has a part of the time for its connections."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
from collections.abc import Iterator
from types import FrameType, SimpleNamespace

import pytest

from app import lifecycle
from app.lifecycle import CONNECTIONS_SHARE, SIGNALS, StopSignals

LIMIT_S = 3600.0
"""Longer than these tests last: what comes after it is the end of the process."""


class Server:
    """What is looked at of uvicorn's Server."""

    def __init__(self) -> None:
        self.config = SimpleNamespace(timeout_graceful_shutdown=None)
        self.should_exit = False

    def handle_exit(self, number: int, frame: FrameType | None) -> None:
        raise AssertionError("its own handler raises the signal again once it has stopped")


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    before = {number: signal.signal(number, server.handle_exit) for number in SIGNALS}
    yield server
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
async def test_the_first_signal_stops_the_web_server_and_is_told(number: signal.Signals, server: Server) -> None:
    told = asyncio.Event()
    StopSignals(LIMIT_S, told.set).install()
    assert not server.should_exit
    signal.raise_signal(number)
    assert server.should_exit
    await asyncio.wait_for(told.wait(), 10)


@pytest.mark.parametrize(
    ("given_s", "expected_s"), [(None, CONNECTIONS_SHARE * LIMIT_S), (7, 7), (2 * LIMIT_S, CONNECTIONS_SHARE * LIMIT_S)]
)
async def test_connections_have_a_part_of_the_time_or_less(
    given_s: float | None, expected_s: float, server: Server
) -> None:
    server.config.timeout_graceful_shutdown = given_s
    StopSignals(LIMIT_S, lambda: None).install()
    assert server.config.timeout_graceful_shutdown == expected_s


@pytest.mark.parametrize("is_worker", [False, True])
async def test_a_second_signal_ends_the_process_unless_it_is_the_first_one_passed_on(
    is_worker: bool, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []
    monkeypatch.setattr(StopSignals, "_end", ended.append)
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: object() if is_worker else None)
    StopSignals(LIMIT_S, lambda: None).install()
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)
    assert ended == ([] if is_worker else ["a second signal"])


async def test_a_worker_is_ended_by_a_signal_that_comes_later(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[str] = []
    monkeypatch.setattr(StopSignals, "_end", ended.append)
    monkeypatch.setattr(lifecycle, "PASSED_ON_S", 0.0)
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: object())
    StopSignals(LIMIT_S, lambda: None).install()
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
    assert ended == ["a second signal"]
