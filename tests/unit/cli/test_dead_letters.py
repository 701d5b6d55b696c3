"""Dead letters without a server: filters, headers of a replay, counts over time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from app.cli.dlq import MOST_BUCKETS, statistics
from app.messaging.dead_letter_queue import DeadLetterEntry, DeadLetterFilter, is_routed, replay_headers
from app.messaging.envelope import from_headers
from app.topology import Header

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
ENTRY = DeadLetterEntry(
    sequence=7,
    stored_at=START,
    consumer="pii-worker",
    error_type="RuntimeError",
    error_message="unexpected RuntimeError",
    subject="vigil.pii.scan",
    deliveries=3,
    request_id="01a2146c-e010-7eb7-9348-782a803ad682",
    size_bytes=10,
)


@pytest.mark.parametrize(
    ("wanted", "admitted"),
    [
        (DeadLetterFilter(), True),
        (DeadLetterFilter(consumer="pii-worker"), True),
        (DeadLetterFilter(consumer="pii"), False),
        (DeadLetterFilter(error="runtimeerror"), True),
        (DeadLetterFilter(error="Runtime"), False),
        (DeadLetterFilter(subject="vigil.pii.*"), True),
        (DeadLetterFilter(subject="vigil.pii"), False),
        (DeadLetterFilter(since=START), True),
        (DeadLetterFilter(since=START + timedelta(microseconds=1)), False),
        (DeadLetterFilter(before=START), False),
        (DeadLetterFilter(before=START + timedelta(microseconds=1)), True),
        (DeadLetterFilter(sequences=frozenset({7})), True),
        (DeadLetterFilter(sequences=frozenset({8})), False),
        (DeadLetterFilter(consumer="pii-worker", error="Other"), False),
    ],
)
def test_a_filter_admits_what_meets_every_condition(wanted: DeadLetterFilter, admitted: bool) -> None:
    assert wanted.admits(ENTRY) is admitted


def test_headers_of_burial_caller_and_jetstream_are_not_replayed() -> None:
    headers = {str(name): "x" for name in Header} | {"Nats-TTL": "1", "nats-expected-stream": "x", "X-Own": "kept"}
    replayed = replay_headers(replace(ENTRY, headers=headers))
    assert replayed.pop(Header.MESSAGE_ID) == replayed.pop(Header.ATTEMPT) == "replay-7-1772366400000000"
    kept = {Header.CORRELATION_ID, Header.CONTENT_TYPE, Header.RECEIVED_AT, Header.TENANT, Header.KEY_ID}
    assert set(replayed) == {*kept, Header.TRACEPARENT, Header.GIVEN_ID, "X-Own"}


def test_the_attempt_is_one_that_the_envelope_takes() -> None:
    headers = replay_headers(replace(ENTRY, sequence=2**63))
    envelope = from_headers(headers, stream="VIGIL_DETECTION", sequence=1, stored_at=START)
    assert envelope.attempt == headers[Header.ATTEMPT] != ""


def test_the_message_id_names_one_entry_of_one_queue() -> None:
    ids = {
        replay_headers(entry)[Header.MESSAGE_ID]
        for entry in (ENTRY, replace(ENTRY, sequence=8), replace(ENTRY, stored_at=START + timedelta(microseconds=1)))
    }
    assert len(ids) == 3
    assert replay_headers(ENTRY) == replay_headers(replace(ENTRY, error_type="Other"))


@pytest.mark.parametrize(
    ("subject", "routed"),
    [
        ("vigil.guard.input", True),
        ("vigil.guard.a.b", False),
        ("vigil.detection.a.b", True),
        ("vigil.logs.event", True),
        ("vigil.dlq.pii-worker", False),
        ("vigil.guard", False),
        ("", False),
    ],
)
def test_only_what_a_consumer_takes_is_replayed(subject: str, routed: bool) -> None:
    assert is_routed(subject) is routed


def test_statistics_of_nothing() -> None:
    counted = statistics([])
    assert (counted.total, counted.errors, counted.periods, counted.first_at) == (0, [], [], None)


def test_statistics_count_by_consumer_and_error_most_frequent_first() -> None:
    entries = [
        replace(ENTRY, stored_at=START),
        replace(ENTRY, stored_at=START + timedelta(seconds=5), error_type="Other"),
        replace(ENTRY, stored_at=START + timedelta(seconds=9), error_type="Other"),
    ]
    counted = statistics(entries)
    assert (counted.total, counted.bytes) == (3, 30)
    assert [(each.error_type, each.count) for each in counted.errors] == [("Other", 2), ("RuntimeError", 1)]
    assert (counted.errors[0].first_at, counted.errors[0].last_at) == (entries[1].stored_at, entries[2].stored_at)


@pytest.mark.parametrize("over", [timedelta(seconds=1), timedelta(hours=1), timedelta(days=1), timedelta(days=30)])
def test_periods_have_no_gaps_and_are_few(over: timedelta) -> None:
    counted = statistics([ENTRY, replace(ENTRY, stored_at=START + over)])
    starts = [each.start for each in counted.periods]
    assert {(later - earlier).total_seconds() for earlier, later in pairwise(starts)} <= {counted.period_s}
    assert len(starts) <= MOST_BUCKETS
    assert sum(each.count for each in counted.periods) == 2
    assert starts[0] <= START < starts[0] + timedelta(seconds=counted.period_s)
