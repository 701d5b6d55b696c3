"""Streams of the client against a server that refuses, breaks off or stays away: what the caller's rule makes of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from app.client import AsyncClient, Blocked, Client, InvalidRequest, NoAnswer, OnFailure, Patience, Unavailable
from app.client.streaming import LONGEST_CHUNK, chunks_of
from tests.support import free_port

QUICK = Patience(first_pause_s=0.001, tries=2, budget_s=5)
SECRET = "kappa-omega-secret"
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
OPEN = {"event": "open", "request_id": "0190b3a0-0000-7000-8000-000000000000"}
VERDICT = {"event": "verdict", "decision": "ALLOWED", "stopped": False, "answer": None}
Shown = Callable[[str, OnFailure], Any]


def refusal(status: int, code: str, field: str) -> bytes:
    problem = {"type": f"urn:vigil-guard:problem:{code}", "title": "t", "status": status, "detail": "d"}
    body = json.dumps(problem | {"errors": [{"field": field, "reason": "r"}]}).encode()
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


def told(*events: Any) -> bytes:
    lines = [json.dumps(event).encode() + b"\n" for event in events]
    return HEAD + b"".join(b"%x\r\n%s\r\n" % (len(line), line) for line in lines)


@asynccontextmanager
async def answering(*answers: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Answer each connection with the next of these bytes, the last one for ever, and hang up."""
    heard: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        await reader.readline()
        heard[-1] += await reader.readline()
        writer.write(answers[min(len(heard), len(answers)) - 1])
        await writer.drain()
        writer.write_eof()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", heard
    finally:
        server.close()


async def asynchronous(url: str, on_failure: OnFailure) -> str:
    async with AsyncClient(url, on_failure=on_failure, patience=QUICK, api_key="vgk_1_x") as client:
        return "".join([piece async for piece in client.stream([SECRET, " and more"], mode="fast")])


async def blocking(url: str, on_failure: OnFailure) -> str:
    def shown() -> str:
        with Client(url, on_failure=on_failure, patience=QUICK, api_key="vgk_1_x") as client:
            return "".join(client.stream([SECRET, " and more"], mode="fast"))

    return await asyncio.to_thread(shown)


@pytest.fixture(params=[blocking, asynchronous], ids=["blocking", "asynchronous"])
def shown(request: pytest.FixtureRequest) -> Shown:
    made: Shown = request.param
    return made


async def test_pieces_come_out_and_the_opening_carries_key_and_options(shown: Shown) -> None:
    async with answering(told(OPEN, {"event": "text", "text": "<X_1>"}, VERDICT)) as (url, heard):
        assert await shown(url, "raise") == "<X_1>"
    head, _, line = heard[0].partition(b"\r\n\r\n")
    assert b"Authorization: Bearer vgk_1_x" in head
    assert json.loads(line)["mode"] == "fast"
    assert json.loads(line)["request_id"]


async def test_a_busy_guard_is_asked_again(shown: Shown) -> None:
    async with answering(refusal(503, "overloaded", "x"), told(OPEN, VERDICT)) as (url, heard):
        assert await shown(url, "raise") == ""
    assert len(heard) == 2


@pytest.mark.parametrize("rule", ["raise", "block", "allow"])
async def test_a_refusal_is_raised_under_every_rule(shown: Shown, rule: OnFailure) -> None:
    async with answering(refusal(422, "invalid-request", "policy")) as (url, heard):
        with pytest.raises(InvalidRequest) as raised:
            await shown(url, rule)
    assert raised.value.faults[0].field == "policy"
    assert len(heard) == 1


async def test_where_no_stream_can_be_opened_the_rule_decides(shown: Shown) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert await shown(url, "allow") == f"{SECRET} and more"
    with pytest.raises(Blocked) as blocked:
        await shown(url, "block")
    assert blocked.value.decision.failure == "Unavailable"
    with pytest.raises(Unavailable) as raised:
        await shown(url, "raise")
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    "answer",
    [told(OPEN), told(OPEN) + b"zz", told(OPEN, "no event"), told(OPEN, {"event": "verdict", "decision": "?"})],
    ids=["broken off", "garbled", "no event", "no verdict"],
)
async def test_a_stream_that_breaks_off_lets_nothing_pass_under_any_rule(shown: Shown, answer: bytes) -> None:
    async with answering(answer) as (url, _):
        for rule in ("raise", "allow"):
            with pytest.raises(NoAnswer):
                await shown(url, rule)
        with pytest.raises(Blocked):
            await shown(url, "block")


async def test_a_problem_of_a_stream_under_way_is_raised(shown: Shown) -> None:
    problem = {"type": "urn:vigil-guard:problem:stream-idle", "status": 408, "detail": "d"}
    async with answering(told(OPEN, {"event": "problem", "problem": problem})) as (url, _):
        with pytest.raises(Exception, match="d") as raised:
            await shown(url, "raise")
    assert raised.value.code == "stream-idle"  # type: ignore[attr-defined]


def test_an_option_that_does_not_exist_is_named() -> None:
    with Client("http://127.0.0.1:9", on_failure="allow") as guard, pytest.raises(TypeError, match="source"):
        guard.stream(["a"], source="output")  # type: ignore[call-arg]


def test_a_long_piece_is_sent_as_several_chunks_and_an_empty_one_as_none() -> None:
    text = "zażółć " * 10_000
    sent = [json.loads(chunk)["text"] for chunk in chunks_of(text)]
    assert "".join(sent) == text
    assert max(map(len, sent)) == LONGEST_CHUNK
    assert chunks_of("") == []
