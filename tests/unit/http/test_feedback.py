"""What is stored of a report on a decision."""

from __future__ import annotations

import pytest

from app.access.principal import Principal
from app.contracts import DecisionRecord, Verdict
from app.http.feedback import report_of
from app.log_contracts import FeedbackRequest, FeedbackVerdict
from tests.unit.events.records import full_record, plain_record

DRY_RUN = full_record()


@pytest.mark.parametrize(
    ("record", "decision"),
    [(plain_record(decision=Verdict.BLOCKED), Verdict.BLOCKED), (DRY_RUN, DRY_RUN.answer.would_decide)],
    ids=["a decision", "a dry run"],
)
def test_a_report_is_about_what_was_judged(record: DecisionRecord, decision: Verdict) -> None:
    given = FeedbackRequest(verdict=FeedbackVerdict.CORRECT)
    report = report_of(given, record, Principal(key_id="k1", tenant=record.tenant))
    assert report.decision is decision
