"""Admission by Little's law: what could not be answered in time is refused, everything else is let in."""

from __future__ import annotations

import pytest

from app.messaging.admission import FREE_IN_FLIGHT, LONGEST_RETRY_AFTER_S, Admission


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def busy(clock: Clock, *, answers_per_s: int, in_flight: int, seconds: float = 10) -> Admission:
    """A process that has answered at a steady rate for a while."""
    admission = Admission(max_in_flight=1000, clock=clock)
    for _ in range(in_flight):
        admission.enter()
    for _ in range(int(seconds * 10)):
        clock.now_s += 0.1
        for _ in range(answers_per_s // 10):
            admission.enter()
            admission.leave()
        _ = admission.predicted_wait_s
    return admission


def test_an_idle_process_lets_everything_in(clock: Clock) -> None:
    admission = Admission(max_in_flight=1000, clock=clock)
    for _ in range(FREE_IN_FLIGHT):
        assert admission.refusal(0.001) is None
        admission.enter()


def test_the_wait_is_predicted_from_the_queue_and_the_rate(clock: Clock) -> None:
    assert busy(clock, answers_per_s=100, in_flight=200).predicted_wait_s == pytest.approx(2.0, rel=0.05)


@pytest.mark.parametrize(("deadline_s", "refused"), [(5.0, False), (3.5, False), (3.0, True), (1.0, True)])
def test_a_request_is_refused_when_its_deadline_would_pass_in_the_queue(
    clock: Clock, deadline_s: float, refused: bool
) -> None:
    admission = busy(clock, answers_per_s=100, in_flight=200)
    assert (admission.refusal(deadline_s) is not None) is refused
    assert admission.refusal(deadline_s) == ("deadline" if refused else None)


def test_the_limit_of_waiting_requests_holds_at_any_rate(clock: Clock) -> None:
    admission = busy(clock, answers_per_s=100_000, in_flight=999)
    assert admission.refusal(5.0) is None
    admission.enter()
    assert admission.refusal(5.0) == "full"


def test_a_quiet_past_does_not_make_a_burst_look_hopeless(clock: Clock) -> None:
    """One answer a second was all that was asked for; a hundred at once are not a hundred seconds of work."""
    admission = busy(clock, answers_per_s=10, in_flight=1)
    for _ in range(100):
        assert admission.refusal(1.0) is None
        admission.enter()


def test_a_refused_caller_is_told_when_the_queue_will_be_gone(clock: Clock) -> None:
    assert busy(clock, answers_per_s=100, in_flight=250).retry_after_s == 3
    assert busy(clock, answers_per_s=1000, in_flight=40).retry_after_s == 1


def test_a_pipeline_that_stalls_is_noticed_and_nobody_is_sent_away_for_ever(clock: Clock) -> None:
    admission = busy(clock, answers_per_s=100, in_flight=100)
    assert admission.refusal(5.0) is None
    for _ in range(100):
        clock.now_s += 0.1
        _ = admission.predicted_wait_s
    assert admission.refusal(5.0) is not None
    assert admission.retry_after_s == LONGEST_RETRY_AFTER_S


@pytest.mark.parametrize(("share", "refused"), [(0.0, False), (0.89, False), (0.9, True), (1.0, True)])
def test_nothing_is_let_in_once_the_queue_has_room_only_for_results(clock: Clock, share: float, refused: bool) -> None:
    admission = Admission(max_in_flight=1000, clock=clock)
    admission.stored_share = share
    assert admission.refusal(5.0) == ("storage" if refused else None)
    assert admission.retry_after_s == (LONGEST_RETRY_AFTER_S if refused else 1)
