"""The load generator of the benchmark counts what it should: refusals, and delay from when a request was due."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from tests.benchmarks import open_loop
from tests.benchmarks.__main__ import _summary
from tests.benchmarks.open_loop import Offered

Answer = Callable[[int], Awaitable[str]]


@asynccontextmanager
async def server(answer: Answer) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Answer the n-th request with the status line that `answer` gives; yields the address and the bodies seen."""
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            seen.append(await reader.readexactly(length))
            status = await answer(len(seen))
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{{}}".encode())

    async def until_closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except asyncio.IncompleteReadError:
            writer.close()

    listening = await asyncio.start_server(until_closed, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/guard", seen
    finally:
        listening.close()


async def test_all_are_sent_and_refusals_are_counted() -> None:
    async def every_third_refused(number: int) -> str:
        return "503 Busy" if number % 3 == 0 else "200 OK"

    async with server(every_third_refused) as (url, seen):
        offered = Offered(url, [b"a", b"b"])
        await offered.offer(300, 0.1, counted=True)
    assert len(seen) == 30
    assert set(seen) == {b"a", b"b"}
    assert offered.statuses == {200: 20, 503: 10}
    assert len(offered.latencies_ms) == 20


async def test_what_is_not_counted_leaves_no_trace() -> None:
    async def answered(number: int) -> str:
        return "200 OK"

    async with server(answered) as (url, seen):
        offered = Offered(url, [b"a"])
        await offered.offer(100, 0.05, counted=False)
    assert len(seen) == 5
    assert (offered.statuses.total(), offered.latencies_ms) == (0, [])


async def test_delay_counts_from_when_a_request_was_due() -> None:
    busy = asyncio.Event()

    async def held_until_all_are_there(number: int) -> str:
        if number == 20:
            busy.set()
        await busy.wait()
        return "200 OK"

    async with server(held_until_all_are_there) as (url, _):
        offered = Offered(url, [b"a"])
        await offered.offer(200, 0.1, counted=True)
    # The first waited for the last one, which was due 95 ms later.
    assert max(offered.latencies_ms) >= 90
    assert min(offered.latencies_ms) < max(offered.latencies_ms) - 60


async def test_a_service_that_is_not_there_refuses_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_loop, "WARM_UP_S", 0.0)
    result = await open_loop._run("http://127.0.0.1:9/guard", [b"a"], 100, 0.1)
    assert (result.sent, result.refused, result.p50_ms) == (10, 10, float("inf"))


def test_tables_name_every_target_and_the_share_of_the_floor() -> None:
    def closed(rate: float) -> dict[str, float]:
        return {
            "requests_per_s": rate, "p50_ms": 1.0, "p99_ms": 2.0, "cpu_ms": 0.5, "server_cpu_ms": 0.1, "errors": 0,
        }  # fmt: skip

    report = {
        "closed": {"32": {"floor": [closed(200.0)], "fast": [closed(90.0), closed(100.0), closed(110.0)]}},
        "lengths": {"fast": {"10": 1.0}, "full": {"10": 9.0}},
        "start_s": 4.0,
        "resident_mb": 500.0,
    }
    lines = _summary(report)
    assert any(line.startswith("| 32 | fast | 100 |") and line.endswith("| 0.50 |") for line in lines)
    assert "| 10 | 1.0 | 9.0 |" in lines
