"""The logging stage repeats a batch until it is written, and gives up single rows that alone are refused."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from app.contracts import DecisionRecord
from app.errors import EventLogUnavailable, RowsRefused
from app.events import worker as module
from app.events.worker import TRIES_TOGETHER, EventWorker
from app.identity import new_request_id
from tests.metric_values import growth_of, value_of
from tests.unit.events.records import plain_record


class UnsteadyLog:
    """Fails the first `away` calls altogether, and every insert that holds a row of `poison`."""

    def __init__(self, *, away: int = 0, poison: Sequence[DecisionRecord] = (), slow: bool = False) -> None:
        self.away = away
        self.poison = list(poison)
        self.slow = slow
        self.written: list[DecisionRecord] = []

    async def append(self, records: Sequence[DecisionRecord]) -> None:
        if self.away > 0 or self.slow or any(record in self.poison for record in records):
            raise EventLogUnavailable
        self.written += records

    async def ping(self) -> None:
        if self.away > 0:
            self.away -= 1
            raise EventLogUnavailable


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_RETRY_S", 0.001)
    monkeypatch.setattr(module, "LAST_RETRY_S", 0.001)


RECORDS = [plain_record(request_id=new_request_id()) for _ in range(5)]


async def test_a_batch_waits_until_the_log_is_back() -> None:
    log = UnsteadyLog(away=50)
    with growth_of("vigil_event_batch_failures_total") as failed, growth_of("vigil_event_batch_rows_sum") as written:
        await EventWorker(log)(RECORDS)
    assert log.written == RECORDS
    assert (failed.value, written.value) == (50, len(RECORDS))


async def test_what_is_to_be_forgotten_while_a_batch_waits_is_not_written() -> None:
    log = UnsteadyLog(away=5)

    def forgotten(record: object) -> bool:
        return record is RECORDS[2] and log.away < 3

    with growth_of("vigil_event_rows_total") as written:
        await EventWorker(log, forgotten)(RECORDS)
    assert log.written == [*RECORDS[:2], *RECORDS[3:]]
    assert written.value == len(RECORDS) - 1


async def test_a_row_that_is_to_be_forgotten_is_not_refused() -> None:
    log = UnsteadyLog(poison=[RECORDS[1]])
    refusals = iter([False] * TRIES_TOGETHER)

    def forgotten(record: object) -> bool:
        return record is RECORDS[1] and next(refusals, True)

    await EventWorker(log, forgotten)(RECORDS)
    assert log.written == [RECORDS[0], *RECORDS[2:]]


async def test_a_row_that_alone_is_refused_does_not_hold_up_the_others() -> None:
    log = UnsteadyLog(poison=[RECORDS[1], RECORDS[3]])
    with pytest.raises(RowsRefused) as caught, growth_of("vigil_event_rows_refused_total") as refused:
        await EventWorker(log)(RECORDS)
    assert refused.value == 2
    assert caught.value.positions == (1, 3)
    assert log.written == [RECORDS[0], RECORDS[2], RECORDS[4]]


async def test_a_log_that_took_the_other_rows_can_be_written() -> None:
    with pytest.raises(RowsRefused):
        await EventWorker(UnsteadyLog(poison=[RECORDS[1]]))(RECORDS)
    assert value_of("vigil_event_log_up") == 1


async def test_a_log_that_answers_and_refuses_rows_is_up_once_they_are_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No later batch may come for hours: the alert of a log that is down would last as long."""
    monkeypatch.setattr(module, "TRIES_AT_ALL", 5)
    seen: list[float] = []

    class Refusing(UnsteadyLog):
        async def ping(self) -> None:
            seen.append(value_of("vigil_event_log_up"))

    with pytest.raises(RowsRefused):
        await EventWorker(Refusing(slow=True))(RECORDS[:1])
    assert set(seen) == {0}
    assert value_of("vigil_event_log_up") == 1


@pytest.mark.parametrize(("away", "up"), [(1, 1), (50, 0)], ids=["back", "still away"])
async def test_a_batch_that_is_forgotten_while_it_waits_says_whether_the_log_is_back(away: int, up: int) -> None:
    log = UnsteadyLog(away=away)
    tries = iter([False])
    await EventWorker(log, lambda _: next(tries, True))(RECORDS[:1])
    assert log.written == []
    assert value_of("vigil_event_log_up") == up


async def test_a_log_that_refuses_every_row_is_not_given_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow server answers a ping and times out on each insert: that is an outage, not five bad rows."""
    monkeypatch.setattr(module, "TRIES_AT_ALL", 10)
    log = UnsteadyLog(slow=True)
    tries = 0
    original = log.append

    async def append(records: Sequence[DecisionRecord]) -> None:
        nonlocal tries
        tries += len(records) == len(RECORDS)
        await original(records)

    log.append = append  # type: ignore[method-assign]
    with pytest.raises(RowsRefused):
        await EventWorker(log)(RECORDS)
    assert tries == 10


async def test_a_log_that_goes_away_while_rows_are_tried_alone_costs_no_row() -> None:
    log = UnsteadyLog(poison=[RECORDS[1]])
    original = log.append

    async def append(records: Sequence[DecisionRecord]) -> None:
        if records == [RECORDS[2]]:
            log.append = original  # type: ignore[method-assign]
            log.away = 2
        await original(records)

    log.append = append  # type: ignore[method-assign]
    with pytest.raises(RowsRefused) as caught:
        await EventWorker(log)(RECORDS)
    assert caught.value.positions == (1,)
    assert {row.answer.request_id for row in log.written} == {
        row.answer.request_id for row in RECORDS if row is not RECORDS[1]
    }


async def test_a_log_that_goes_away_while_refused_rows_are_tried_again_costs_no_row() -> None:
    log = UnsteadyLog(poison=[RECORDS[1]])
    original = log.append
    tries = 0

    async def append(records: Sequence[DecisionRecord]) -> None:
        nonlocal tries
        tries += records == [RECORDS[1]]
        if tries == 2:
            log.append = original  # type: ignore[method-assign]
            log.poison, log.away = [], 2
        await original(records)

    log.append = append  # type: ignore[method-assign]
    await EventWorker(log)(RECORDS)
    assert {row.answer.request_id for row in log.written} == {row.answer.request_id for row in RECORDS}


async def test_a_row_that_is_refused_once_alone_is_tried_again() -> None:
    log = UnsteadyLog(poison=[RECORDS[1], RECORDS[3]])
    original = log.append
    refused: list[DecisionRecord] = []

    async def append(records: Sequence[DecisionRecord]) -> None:
        try:
            await original(records)
        except EventLogUnavailable:
            if records == [RECORDS[3]]:
                log.poison.remove(RECORDS[3])
                refused.extend(records)
            raise

    log.append = append  # type: ignore[method-assign]
    with pytest.raises(RowsRefused) as caught:
        await EventWorker(log)(RECORDS)
    assert refused == [RECORDS[3]]
    assert caught.value.positions == (1,)
