"""What happens to a delivery is a pure function of its failure, its count and its consumer."""

from __future__ import annotations

import pytest

from app.errors import EventLogUnavailable, InvalidRequest, VigilError
from app.messaging.policy import Ack, DeadLetter, Retry, decide
from app.topology import ADVISORY_WORKER, ARBITER_WORKER, LOGGING_WORKER, ConsumerSpec, matches

DELAYS_S = [5.0, 30.0, 60.0]


@pytest.mark.parametrize(
    ("failure", "deliveries", "consumer", "outcome"),
    [
        (None, 1, ARBITER_WORKER, Ack()),
        (None, 3, ARBITER_WORKER, Ack()),
        (RuntimeError(), 1, ARBITER_WORKER, Retry(5.0)),
        (RuntimeError(), 2, ARBITER_WORKER, Retry(30.0)),
        (RuntimeError(), 4, LOGGING_WORKER, Retry(60.0)),
        (EventLogUnavailable(), 1, LOGGING_WORKER, Retry(5.0)),
    ],
)
def test_a_failure_is_retried_later_and_later(
    failure: Exception | None, deliveries: int, consumer: ConsumerSpec, outcome: Ack | Retry
) -> None:
    assert decide(failure, deliveries=deliveries, consumer=consumer, retry_delays_s=DELAYS_S) == outcome


@pytest.mark.parametrize(
    ("failure", "deliveries", "consumer"),
    [
        (RuntimeError(), 3, ARBITER_WORKER),
        (RuntimeError(), 4, ARBITER_WORKER),
        (VigilError(), 5, LOGGING_WORKER),
        (InvalidRequest(), 1, ARBITER_WORKER),
    ],
)
def test_the_last_delivery_and_a_permanent_error_go_to_the_dead_letter_queue(
    failure: Exception, deliveries: int, consumer: ConsumerSpec
) -> None:
    outcome = decide(failure, deliveries=deliveries, consumer=consumer, retry_delays_s=DELAYS_S)
    assert isinstance(outcome, DeadLetter)
    assert outcome.error_type == type(failure).__name__


def test_the_last_delay_repeats_when_there_are_fewer_delays_than_deliveries() -> None:
    assert decide(RuntimeError(), deliveries=4, consumer=LOGGING_WORKER, retry_delays_s=[0.1]) == Retry(0.1)


def test_a_foreign_error_is_named_by_class_and_place_but_never_quoted() -> None:
    def fail() -> None:
        raise ValueError("the prompt itself")

    try:
        fail()
    except ValueError as error:
        outcome = decide(error, deliveries=3, consumer=ARBITER_WORKER, retry_delays_s=DELAYS_S)
    assert isinstance(outcome, DeadLetter)
    assert "prompt" not in outcome.error_message
    assert outcome.error_message.startswith(f"unexpected ValueError at {__name__}:")


def test_a_consumer_without_a_limit_retries_for_ever() -> None:
    assert decide(RuntimeError(), deliveries=99, consumer=ADVISORY_WORKER, retry_delays_s=DELAYS_S) == Retry(60.0)


@pytest.mark.parametrize(
    ("subject", "pattern", "expected"),
    [
        ("vigil.guard.input", "vigil.guard.*", True),
        ("vigil.guard.a.b", "vigil.guard.*", False),
        ("vigil.guard", "vigil.guard.*", False),
        ("vigil.guard.a.b", "vigil.guard.>", True),
        ("vigil.guard", "vigil.guard.>", False),
        ("vigil.pii.scan", "vigil.pii.scan", True),
        ("vigil.pii.scans", "vigil.pii.scan", False),
    ],
)
def test_subjects_match_filters_by_the_rules_of_nats(subject: str, pattern: str, expected: bool) -> None:
    assert matches(subject, pattern) is expected
