"""Personal data on request: bounded, with a deadline, and a failure is never told as "nothing found"."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from app.contracts import AnonymizeJob, PiiQuery
from app.errors import DecisionTimeout, Overloaded, ScanFailed
from app.pii import desk
from app.pii.desk import PiiDesk
from app.pii.engine import PiiEngine
from app.pii.redaction import Span

QUERY = PiiQuery(texts=["Call Anna"], language="en")


class SlowEngine:
    """Finds one name as soon as it may."""

    def __init__(self) -> None:
        self.may = threading.Event()
        self.asked = 0

    def find(self, text: str, language: str | None, allow_list: list[str]) -> tuple[list[Span], str]:
        self.asked += 1
        self.may.wait(10)
        return [Span("PERSON", 5, 9, 0.912)], "en"


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def desk_of(engine: Any, threads: ThreadPoolExecutor, deadline_s: float = 5) -> PiiDesk:
    return PiiDesk(engine, threads, deadline_s)


async def test_each_text_has_its_own_findings(threads: ThreadPoolExecutor, engine: PiiEngine) -> None:
    found = await desk_of(engine, threads).find(
        PiiQuery(texts=["Call Anna Nowak", "Nothing here", "Mail anna@example.com"], allow_list=["anna@example.com"])
    )
    assert [[each.type for each in entities] for entities in found] == [["PERSON"], [], []]


async def test_all_values_are_told_however_many(threads: ThreadPoolExecutor, engine: PiiEngine) -> None:
    text = " ".join(f"user{number}@example.com" for number in range(700))
    assert len((await desk_of(engine, threads).find(PiiQuery(texts=[text], language="en")))[0]) == 700


async def test_a_failure_is_told_without_the_text(
    threads: ThreadPoolExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def find(self, text: str, *_: Any) -> Any:
            raise ValueError(text)

    with pytest.raises(ScanFailed):
        await desk_of(Broken(), threads).find(QUERY)
    assert "ValueError" in caplog.text
    assert "Anna" not in caplog.text


async def test_who_comes_when_too_many_wait_is_refused_at_once(
    threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "MOST_WAITING", 2)
    engine = SlowEngine()
    busy = desk_of(engine, threads)
    waiting = [asyncio.create_task(busy.find(QUERY)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await busy.anonymize(AnonymizeJob(text="x", entities=[]))
    engine.may.set()
    await asyncio.gather(*waiting)
    assert (await busy.anonymize(AnonymizeJob(text="x", entities=[]))).text == "x"


async def test_what_takes_too_long_is_given_up_and_counts_until_it_ends(
    threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "MOST_WAITING", 1)
    engine = SlowEngine()
    busy = desk_of(engine, threads, 0.2)
    with pytest.raises(DecisionTimeout):
        await busy.find(QUERY)
    with pytest.raises(Overloaded):
        await busy.find(QUERY)
    engine.may.set()
    await asyncio.get_running_loop().run_in_executor(threads, lambda: None)
    await asyncio.sleep(0)
    patient = await busy.find(QUERY)
    assert patient[0][0].score == 0.91
