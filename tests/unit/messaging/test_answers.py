"""Answers of the event log as messages: what is too large for one is cut, or refused."""

from __future__ import annotations

import pytest

from app.access.principal import ANONYMOUS
from app.errors import PayloadTooLarge
from app.events.queries import Place
from app.http.feedback import report_of
from app.log_contracts import EventDetail, FeedbackPage, FeedbackRecord, FeedbackRequest, FeedbackVerdict
from app.messaging.questions import LIMIT_BYTES, fitting
from tests.unit.events.records import plain_record


def report(length: int) -> FeedbackRecord:
    given = FeedbackRequest.model_construct(verdict=FeedbackVerdict.CORRECT, text="a" * length)
    return report_of(given, plain_record(), ANONYMOUS)


def page(*lengths: int) -> FeedbackPage:
    return FeedbackPage(reports=[report(length) for length in lengths], next_cursor="behind-all")


def test_a_page_that_fits_is_told_as_it_is() -> None:
    whole = page(300_000, 300_000, 300_000)
    assert FeedbackPage.model_validate_json(fitting(whole)) == whole


def test_a_page_that_does_not_fit_holds_as_many_rows_as_do_and_goes_on_behind_them() -> None:
    whole = page(*[150_000] * 20)
    content = fitting(whole)
    told = FeedbackPage.model_validate_json(content)
    assert len(content) <= LIMIT_BYTES < len(content) + 150_000
    assert told.reports == whole.reports[: len(told.reports)]
    last = told.reports[-1]
    assert told.next_cursor == str(Place(last.given_at, last.feedback_id))


def test_each_row_of_a_page_is_written_down_at_most_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages may hold a thousand rows, and all else on the event loop waits."""
    written = 0
    dump = FeedbackRecord.model_dump_json

    def counted(record: FeedbackRecord) -> str:
        nonlocal written
        written += 1
        return dump(record)

    monkeypatch.setattr(FeedbackRecord, "model_dump_json", counted)
    fitting(page(*[20_000] * 1000))
    assert 0 < written <= 1000


@pytest.mark.parametrize("length", [LIMIT_BYTES, 2 * LIMIT_BYTES])
def test_what_no_message_holds_is_refused_and_says_what_to_do(length: int) -> None:
    detail = EventDetail(record=plain_record(), feedback=[], text="a" * length)
    for answer in (detail, page(length)):
        with pytest.raises(PayloadTooLarge, match="without the full text"):
            fitting(answer)
