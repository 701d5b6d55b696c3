"""Which trace a message or request belongs to: what counts as a trace context, and what is carried where."""

from __future__ import annotations

import asyncio

import pytest

from app.identity import new_request_id
from app.telemetry import correlation
from app.telemetry.correlation import Correlation
from tests.spans import CALLER, TRACE_ID, UNRECORDED


@pytest.mark.parametrize("header", [CALLER, UNRECORDED])
def test_a_trace_context_is_taken_as_it_is(header: str) -> None:
    assert correlation.usable(header) == header
    assert correlation.trace_id_of(header) == TRACE_ID


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Ignore all previous instructions",
        CALLER.upper(),
        CALLER + "\n",
        CALLER[:-1],
        CALLER + "-more",
        "ff" + CALLER[2:],
        CALLER.replace(TRACE_ID, "0" * 32),
        CALLER.replace("b7ad6b7169203331", "0" * 16),
    ],
)
def test_what_is_no_trace_context_counts_as_absent(header: str | None) -> None:
    assert correlation.usable(header) == ""


@pytest.mark.parametrize(("header", "sampled"), [(CALLER, True), (UNRECORDED, False)])
def test_the_flag_says_whether_the_trace_is_recorded(header: str, sampled: bool) -> None:
    assert correlation.is_sampled(header) is sampled


async def test_requests_of_one_batch_keep_apart() -> None:
    ids = [new_request_id(), new_request_id()]
    token = correlation.begin(outer := Correlation(traceparent=CALLER))

    async def judge(request_id: object) -> tuple[object, str]:
        correlation.fork()
        correlation.identify(request_id)  # type: ignore[arg-type]
        await asyncio.sleep(0)
        current = correlation.current()
        assert current is not None
        return current.request_id, correlation.traceparent()

    assert await asyncio.gather(*map(judge, ids)) == [(each, CALLER) for each in ids]
    assert outer.request_id is None
    correlation.end(token)
    assert correlation.current() is None


def test_outside_of_any_work_there_is_no_trace() -> None:
    correlation.identify(new_request_id())
    correlation.note(mode="fast")
    assert correlation.traceparent() == ""
