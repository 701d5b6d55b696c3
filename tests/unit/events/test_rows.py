"""Rows: every field has its column, and a record comes back from its row as it was."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from app.chat import Role
from app.contracts import (
    ArgumentFinding,
    ArgumentsVerdict,
    BranchName,
    Category,
    DecisionRecord,
    Finding,
    MessageVerdict,
    Mode,
    PiiReport,
    ThreatLevel,
    Verdict,
)
from app.events.rows import COLUMNS, columns_of, record_of, row_of
from tests.unit.events.records import full_record, plain_record


@pytest.mark.parametrize("make", [plain_record, full_record])
def test_a_record_comes_back_from_its_row(make: object) -> None:
    record: DecisionRecord = make()  # type: ignore[operator]
    assert record_of(row_of(record, store_text=True)) == record


@pytest.mark.parametrize("shown", [True, False])
def test_an_answer_says_what_the_policy_on_trial_would_decide_where_it_did_before(shown: bool) -> None:
    record = full_record()
    told = record.shadow if shown else None
    record = record.model_copy(update={"answer": record.answer.model_copy(update={"shadow": told})})
    returned = record_of(row_of(record, store_text=True))
    assert (returned.answer.shadow, returned.shadow) == (told, record.shadow)


def chat_record() -> DecisionRecord:
    """A chat of two messages, with texts to use and a name that the caller gave an argument."""
    judged = {"judged": True, "decision": Verdict.SANITIZED, "score": 71, "threat_level": ThreatLevel.HIGH}
    finding = Finding(detector="heuristics", rule="rule-1", start=3, end=9, score=1 / 3)
    arguments = ArgumentsVerdict(
        path="tool_calls.0.function.arguments",
        decision=Verdict.SANITIZED,
        score=71,
        threat_level=ThreatLevel.HIGH,
        categories=[Category.PERSONAL_DATA],
        findings=[ArgumentFinding(pointer="/anna_nowak", **finding.model_dump())],
    )
    messages = [
        MessageVerdict(index=0, role=Role.USER, categories=[Category.JAILBREAK], findings=[finding],
                       sanitized_content="Hello <PERSON_1>", not_judged=["image_url"], **judged),
        MessageVerdict(index=1, role=Role.ASSISTANT, categories=[], findings=[], arguments=[arguments], **judged),
    ]  # fmt: skip
    record = plain_record(decision=Verdict.SANITIZED)
    return record.model_copy(update={"answer": record.answer.model_copy(update={"messages": messages})})


def test_what_was_decided_of_each_message_comes_back_without_texts_and_names() -> None:
    record = chat_record()
    row = row_of(record, store_text=True)
    assert record_of(row) == record.as_logged()
    assert "PERSON_1" not in str(row)
    assert "anna_nowak" not in str(row)
    first, second = record_of(row).answer.messages or []
    assert (first.findings, first.categories, first.not_judged) == (
        record.answer.messages[0].findings, [Category.JAILBREAK], ["image_url"],  # type: ignore[index]
    )  # fmt: skip
    assert [each.score for each in second.arguments or []] == [71]


def test_a_row_of_before_and_one_of_a_text_have_no_messages() -> None:
    assert record_of(row_of(plain_record(), store_text=True)).answer.messages is None
    assert dict(zip(COLUMNS, row_of(plain_record(), store_text=True), strict=True))["messages"] == ""


def test_metadata_keeps_its_types_not_only_its_values() -> None:
    record = full_record()
    returned = record_of(row_of(record, store_text=True)).metadata
    assert {key: type(value) for key, value in returned.items()} == {
        key: type(value) for key, value in record.metadata.items()
    }


def test_metadata_values_are_plain_strings_for_queries() -> None:
    row = dict(zip(COLUMNS, row_of(full_record(), store_text=True), strict=True))
    assert row["metadata"]["digits"] == "7"
    assert row["metadata"]["answer"] == "7"
    assert row["metadata"]["no"] == "false"


def test_metadata_kinds_do_not_depend_on_the_order_in_which_a_map_comes_back() -> None:
    record = full_record()
    row = dict(zip(COLUMNS, row_of(record, store_text=True), strict=True))
    row["metadata"] = dict(reversed(row["metadata"].items()))
    assert record_of(tuple(row.values())) == record


def test_a_branch_that_did_not_run_is_absent_not_zero() -> None:
    record = full_record()
    assert BranchName.SEMANTIC not in record.answer.branches
    assert BranchName.SEMANTIC not in record_of(row_of(record, store_text=True)).answer.branches


def test_the_text_to_use_is_stored_once_when_it_is_the_redacted_text() -> None:
    row = dict(zip(COLUMNS, row_of(full_record(), store_text=True), strict=True))
    assert row["redacted_text"] is not None
    assert row["sanitized_text"] is None


@pytest.mark.parametrize(
    ("redacted", "sanitized"), [("a", "b"), ("a", ""), ("", ""), (None, "b"), ("a", None), (None, None)]
)
def test_redacted_text_and_text_to_use_come_back_whatever_they_are(redacted: str | None, sanitized: str | None) -> None:
    record = plain_record(decision=Verdict.SANITIZED, redacted_text=redacted)
    changes = {"sanitized_text": sanitized, "mode": Mode.FULL}
    record = record.model_copy(update={"answer": record.answer.model_copy(update=changes)})
    assert record_of(row_of(record, store_text=True)) == record


def test_of_fast_mode_no_text_is_stored_for_nobody_looked_for_names_in_it() -> None:
    record = plain_record(decision=Verdict.SANITIZED, redacted_text="Anna <PL_PESEL_1>")
    pii = PiiReport(scanned=True, scope="patterns", count=1)
    changes = {"sanitized_text": "Anna <PL_PESEL_1>", "pii": pii}
    record = record.model_copy(update={"answer": record.answer.model_copy(update=changes)})
    assert record.answer.mode is Mode.FAST
    back = record_of(row_of(record, store_text=True))
    assert (back.redacted_text, back.answer.sanitized_text) == (None, None)
    assert back.answer.pii == pii


@pytest.mark.parametrize("sanitized", ["same", "other"])
def test_no_text_is_in_the_row_when_none_may_be_stored(sanitized: str) -> None:
    record = plain_record(decision=Verdict.SANITIZED, redacted_text="same")
    record = record.model_copy(update={"answer": record.answer.model_copy(update={"sanitized_text": sanitized})})
    row = dict(zip(COLUMNS, row_of(record, store_text=False), strict=True))
    assert row["redacted_text"] is None
    assert row["sanitized_text"] is None
    assert row["sanitized"] is True


def test_times_of_any_zone_are_stored_as_the_same_moment() -> None:
    warsaw = timezone(timedelta(hours=1))
    record = plain_record(received_at=datetime(2026, 3, 2, 0, 30, tzinfo=warsaw))
    assert record_of(row_of(record, store_text=True)).received_at == datetime(2026, 3, 1, 23, 30, tzinfo=UTC)


def test_columns_are_the_rows_turned_on_their_side() -> None:
    records = [plain_record(), full_record(), plain_record()]
    columns = columns_of(records, store_text=True)
    assert len(columns) == len(COLUMNS)
    assert list(zip(*columns, strict=True)) == [row_of(record, store_text=True) for record in records]
