"""The account itself: whatever a drill is to rule out is counted when it happens."""

from __future__ import annotations

import pytest

from tests.drills.ledger import Account, Entry, Grave, Ledger, Outcome, Row

ONCE = Row(1, "ALLOWED")


def ended(*outcomes: Outcome) -> list[Entry]:
    """Make requests `0`, `1`, ... that ended so."""
    ledger = Ledger()
    for number, outcome in enumerate(outcomes):
        ledger.open({"request_id": str(number)}).close(outcome)
    return ledger.entries


def account_of(
    entries: list[Entry], rows: dict[str, Row], *graves: Grave, deleted: frozenset[str] = frozenset()
) -> Account:
    account = Account("test")
    account.count(entries)
    account.compare(entries, rows, graves, deleted)
    return account


def test_accepted_is_decided_or_dead_lettered() -> None:
    entries = ended(Outcome.DECIDED, Outcome.LATE, Outcome.PROBLEM, Outcome.REFUSED)
    account = account_of(entries, {"0": ONCE, "1": ONCE}, Grave("2", "S:7", "E", b""))
    assert (account.accepted, account.decided, account.dead_lettered, account.refused) == (3, 2, 1, 1)
    assert account.faults() == []


@pytest.mark.parametrize("outcome", [Outcome.DECIDED, Outcome.LATE, Outcome.PROBLEM, Outcome.ACKNOWLEDGED])
def test_an_accepted_request_that_is_nowhere_is_lost(outcome: Outcome) -> None:
    account = account_of(ended(outcome), {})
    assert account.lost == 1
    assert account.faults()


@pytest.mark.parametrize("outcome", [Outcome.CUT, Outcome.UNSURE])
def test_an_unknown_request_counts_as_accepted_only_where_it_is_found(outcome: Outcome) -> None:
    assert account_of(ended(outcome), {}).accepted == 0
    found = account_of(ended(outcome), {"0": ONCE})
    assert (found.accepted, found.decided) == (1, 1)
    assert found.faults() == []


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.NOT_REACHED])
def test_a_refused_request_that_was_kept_is_a_fault(outcome: Outcome) -> None:
    assert account_of(ended(outcome), {"0": ONCE}).refused_but_kept == 1


def test_rows_and_dead_letters_that_nobody_sent_are_faults() -> None:
    account = account_of(ended(), {"9": ONCE}, Grave("8", "S:1", "E", b""))
    assert account.strangers == 2
    assert account.faults()


def test_two_dead_letters_of_one_original_are_a_fault() -> None:
    account = account_of(ended(Outcome.PROBLEM), {}, Grave("0", "S:1", "E", b""), Grave("0", "S:1", "E", b""))
    assert account.duplicate_graves == 1


def test_hanging_callers_restarts_and_what_is_left_are_faults() -> None:
    assert account_of(ended(Outcome.HANGING), {"0": ONCE}).faults() == ["hanging: 1"]
    assert Account("test", restarts_needed=1, left_in_queue=2, left_behind=["server.json"]).faults() == [
        "restarts_needed: 1",
        "left_in_queue: 2",
        "left behind: server.json",
    ]


def test_what_was_in_a_deleted_stream_is_told_apart_from_what_was_lost() -> None:
    account = account_of(ended(Outcome.LATE, Outcome.LATE), {}, deleted=frozenset({"0"}))
    assert (account.lost_by_definition, account.lost) == (1, 1)
