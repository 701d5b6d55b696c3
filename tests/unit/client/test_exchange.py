"""What the client sends and when: tries, pauses, reads after a 504, batches; no connection and no clock."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

import pytest

from app.client import (
    BatchFailed,
    Blocked,
    Decision,
    InvalidRequest,
    NoDecision,
    OnFailure,
    Patience,
    RateLimited,
    Refused,
    RequestIdConflict,
    Unavailable,
    UnexpectedAnswer,
    UnknownRequest,
    Verdict,
)
from app.client.calls import headers, judged, judged_each
from app.client.errors import GuardError
from app.client.exchange import Call, Lost, Pause, Reply, Steps, find, restore
from app.client.patience import Attempts, retry_after_s

Result = TypeVar("Result")
TEXT = "kappa-omega-secret"
ID = "11111111-1111-4111-8111-111111111111"


@dataclass
class Stage:
    """Plays the guard's part: gives the replies in order, and lets time pass in pauses and calls."""

    now: float = 0.0
    call_s: float = 0.0
    calls: list[Call] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)

    def patience(self, **options: Any) -> Patience:
        return Patience(clock=lambda: self.now, jitter=lambda _, high: high, **options)

    def play(self, steps: Steps[Result], replies: Iterable[Reply | Lost]) -> Result:
        script, outcome = iter(replies), None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as end:
                assert next(script, None) is None, "a reply was not asked for"
                result: Result = end.value
                return result
            if isinstance(step, Pause):
                self.pauses.append(step.seconds)
                self.now += step.seconds
                outcome = None
            else:
                self.calls.append(step)
                self.now += self.call_s
                outcome = next(script)

    def guard(
        self, replies: Iterable[Reply | Lost], *, on_failure: OnFailure = "raise", wait: dict[str, Any] | None = None
    ) -> Decision:
        steps = judged(TEXT, {"request_id": ID}, self.patience(**(wait or {})), on_failure)
        return self.play(steps, replies)


def decided(verdict: str = "ALLOWED", request_id: str = ID, **fields: object) -> Reply:
    return Reply(200, {}, json.dumps({"request_id": request_id, "decision": verdict, **fields}).encode())


def problem(status: int, code: str = "some-code", retry_after: str | None = None) -> Reply:
    fields = {"type": f"urn:vigil-guard:problem:{code}", "title": "t", "status": status, "detail": "why"}
    errors = [{"field": "mode", "reason": "must be one of two"}]
    return Reply(
        status, {"retry-after": retry_after} if retry_after else {}, json.dumps(fields | {"errors": errors}).encode()
    )


def test_every_try_carries_the_same_request_id() -> None:
    stage = Stage()
    outcomes = [Lost("ReadError"), problem(408), problem(503, retry_after="2"), decided()]
    assert stage.guard(outcomes).decision is Verdict.ALLOWED
    assert {json.loads(call.body or b"")["request_id"] for call in stage.calls} == {ID}
    assert len(stage.calls) == 4


def test_an_id_is_made_where_none_is_given() -> None:
    stage = Stage()
    stage.play(judged(TEXT, {}, stage.patience(), "raise"), [Lost("ReadError"), decided()])
    first, second = (json.loads(call.body or b"")["request_id"] for call in stage.calls)
    assert UUID(first) == UUID(second)


def test_pauses_grow_and_what_the_guard_asks_for_is_waited() -> None:
    stage = Stage()
    stage.guard([problem(503), problem(503, retry_after="3"), problem(503), decided()])
    assert stage.pauses == [0.2, 3.4, 0.8]


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (problem(408, "body-timeout"), Unavailable),
        (Reply(408, {}, b"<html>"), Unavailable),
        (problem(429), RateLimited),
        (problem(503), Unavailable),
        (Lost("ConnectError"), Unavailable),
    ],
    ids=["408", "a proxy's 408", "429", "503", "lost"],
)
def test_a_client_gives_up_after_its_tries(reply: Reply | Lost, error: type[GuardError]) -> None:
    stage = Stage()
    with pytest.raises(error) as raised:
        stage.guard([reply] * 4)
    assert str(raised.value.request_id) == ID
    assert TEXT not in str(raised.value)


def test_a_pause_that_would_pass_the_budget_is_not_begun() -> None:
    stage = Stage()
    with pytest.raises(Unavailable):
        stage.guard([problem(503, retry_after="60")])
    assert stage.now == 0


def test_no_try_is_given_more_time_than_the_budget_has() -> None:
    stage = Stage(call_s=2.0)
    with pytest.raises(Unavailable):
        stage.guard([Lost("ReadTimeout")] * 3, wait={"budget_s": 6.0})
    assert [call.timeout_s for call in stage.calls] == pytest.approx([6.0, 3.8, 1.4])
    told = [json.loads(call.body or b"")["deadline_ms"] for call in stage.calls]
    assert told == [5000, pytest.approx(3800, abs=1), pytest.approx(1400, abs=1)]


def test_after_a_timeout_the_decision_is_read_and_nothing_is_sent_again() -> None:
    stage = Stage()
    decision = stage.guard([problem(504), problem(404), decided("BLOCKED")])
    assert decision.blocked
    assert [(call.method, call.path) for call in stage.calls] == [
        ("POST", "/guard"),
        ("GET", f"/guard/{ID}"),
        ("GET", f"/guard/{ID}"),
    ]


def test_a_request_that_a_gateway_swallowed_is_sent_again_under_its_id() -> None:
    stage = Stage()
    stage.guard([Reply(504, {}, b"<html>"), *[problem(404)] * 3, decided()])
    assert [call.method for call in stage.calls] == ["POST", "GET", "GET", "GET", "POST"]


def test_an_expired_request_is_sent_again() -> None:
    stage = Stage()
    stage.guard([problem(504), problem(410), decided()])
    assert [call.method for call in stage.calls] == ["POST", "GET", "POST"]


def test_a_thousand_reads_and_tries_make_no_pause_that_is_no_number() -> None:
    stage = Stage()
    wait = {"budget_s": 3000.0, "tries": 1, "first_pause_s": 1.0, "longest_pause_s": 1.0}
    late = [problem(504), *[problem(404)] * 2999]
    assert stage.guard(late, on_failure="block", wait=wait).failure == "NoDecision"
    assert set(stage.pauses) == {1.0}
    stage = Stage()
    wait |= {"tries": 2000}
    assert stage.guard([Lost("ConnectError")] * 2000, on_failure="block", wait=wait).failure == "Unavailable"


def test_when_no_try_is_left_the_decision_is_awaited_until_the_budget_is_over() -> None:
    stage = Stage(call_s=1.0)
    with pytest.raises(NoDecision):
        stage.guard([problem(504), *[problem(404)] * 5], wait={"tries": 1, "budget_s": 12.0})
    assert [call.method for call in stage.calls] == ["POST"] + ["GET"] * 5


@pytest.mark.parametrize("rule", ["block", "allow"])
@pytest.mark.parametrize(
    "replies",
    [
        [Lost("ConnectError")] * 4,
        [problem(429)] * 4,
        [problem(500)],
        [Reply(200, {}, b"<html>")],
        [Reply(302, {}, b"")],
    ],
    ids=["lost", "429", "500", "not the guard", "redirect"],
)
def test_without_an_answer_the_callers_rule_decides(replies: list[Reply | Lost], rule: OnFailure) -> None:
    decision = Stage().guard(replies, on_failure=rule)
    assert decision.decision is (Verdict.BLOCKED if rule == "block" else Verdict.ALLOWED)
    assert decision.failure is not None
    assert str(decision.request_id) == ID


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (problem(400), InvalidRequest),
        (problem(401), Refused),
        (problem(403), Refused),
        (problem(404), UnknownRequest),
        (Reply(404, {}, b"<html>"), Refused),
        (problem(409), RequestIdConflict),
        (problem(413), InvalidRequest),
        (problem(422), InvalidRequest),
        (problem(418), Refused),
    ],
)
def test_what_is_refused_is_raised_at_once_whatever_the_rule(reply: Reply, error: type[GuardError]) -> None:
    stage = Stage()
    with pytest.raises(error) as raised:
        stage.guard([reply], on_failure="allow")
    assert raised.value.status == reply.status
    assert len(stage.calls) == 1


def test_an_error_carries_the_fields_of_the_problem() -> None:
    with pytest.raises(InvalidRequest) as raised:
        Stage().guard([problem(422, "invalid-request")])
    assert raised.value.code == "invalid-request"
    assert [(fault.field, fault.reason) for fault in raised.value.faults] == [("mode", "must be one of two")]


def test_an_answer_of_another_shape_is_not_quoted() -> None:
    with pytest.raises(UnexpectedAnswer) as raised:
        Stage().guard([decided(score=TEXT)])
    assert "score" in str(raised.value)
    assert TEXT not in str(raised.value)


def test_a_text_that_is_no_utf_8_is_refused_without_quoting_it() -> None:
    with pytest.raises(InvalidRequest) as raised:
        Stage().play(judged(f"{TEXT}\ud800", {}, Stage().patience(), "block"), [])
    assert TEXT not in repr(raised.value)
    assert raised.value.__cause__ is None


def test_fields_of_a_newer_guard_are_left_out() -> None:
    assert Stage().guard([decided(tomorrow={"a": 1})]).decision is Verdict.ALLOWED


def test_an_option_that_does_not_exist_is_named() -> None:
    with pytest.raises(TypeError, match="sauce"):
        Stage().play(judged(TEXT, {"sauce": "input"}, Stage().patience(), "raise"), [])


def test_a_decision_says_which_text_to_use() -> None:
    stage = Stage()
    assert stage.guard([decided()]).apply("a") == "a"
    assert stage.guard([decided("SANITIZED", sanitized_text="<PERSON_1>")]).apply("a") == "<PERSON_1>"
    for unusable in (decided("BLOCKED"), decided("SANITIZED")):
        with pytest.raises(Blocked) as raised:
            stage.guard([unusable]).apply(TEXT)
        assert TEXT not in repr(raised.value)


def batch_reply(*items: Reply) -> Reply:
    results = [
        {"status": item.status, ("answer" if item.status == 200 else "problem"): json.loads(item.content)}
        for item in items
    ]
    return Reply(200, {}, json.dumps({"results": results}).encode())


def ids_of(call: Call) -> list[str]:
    return [each["request_id"] for each in json.loads(call.body or b"")["requests"]]


def test_of_a_batch_only_what_was_not_taken_is_sent_again() -> None:
    stage = Stage()
    steps = judged_each(["a", {"text": "b", "mode": "fast"}, "c"], {"mode": "full"}, stage.patience(), "raise")
    decisions = stage.play(
        steps,
        [
            batch_reply(decided(), problem(503), problem(504)),
            decided("BLOCKED"),  # The third, read by its id.
            batch_reply(decided("SANITIZED")),
        ],
    )
    assert [each.decision for each in decisions] == ["ALLOWED", "SANITIZED", "BLOCKED"]
    posts = [call for call in stage.calls if call.method == "POST"]
    assert ids_of(posts[1]) == ids_of(posts[0])[1:2]
    assert [each["mode"] for each in json.loads(posts[0].body or b"")["requests"]] == ["full", "fast", "full"]


def test_a_batch_whose_texts_are_refused_says_which() -> None:
    stage = Stage()
    with pytest.raises(BatchFailed) as raised:
        stage.play(judged_each([TEXT, TEXT], {}, stage.patience(), "block"), [batch_reply(decided(), problem(409))])
    assert isinstance(raised.value.results[0], Decision)
    assert isinstance(raised.value.results[1], RequestIdConflict)
    assert TEXT not in str(raised.value)


@pytest.mark.parametrize("rule", ["block", "allow"])
def test_the_rule_holds_for_each_text_of_a_batch(rule: OnFailure) -> None:
    stage = Stage()
    decisions = stage.play(judged_each(["a"] * 150, {}, stage.patience(tries=1), rule), [Lost("ConnectError")] * 2)
    assert [len(ids_of(call)) for call in stage.calls] == [100, 50]
    assert {each.blocked for each in decisions} == {rule == "block"}


@pytest.mark.parametrize(
    "later",
    [Lost("ConnectError"), problem(503), problem(500), Reply(200, {}, b"<html>")],
    ids=["lost", "503", "500", "not the guard"],
)
def test_what_a_batch_decided_holds_when_sending_the_rest_again_fails(later: Reply | Lost) -> None:
    for rule in ("raise", "allow"):
        stage = Stage()
        steps = judged_each(["a", "b"], {}, stage.patience(tries=2), rule)  # type: ignore[arg-type]
        replies = [batch_reply(decided("BLOCKED"), problem(503)), later]
        if rule == "allow":
            first, second = stage.play(steps, replies)
            assert (first.decision, first.failure) == (Verdict.BLOCKED, None)
            assert second.failure is not None
            continue
        with pytest.raises(BatchFailed) as raised:
            stage.play(steps, replies)
        held, failed = raised.value.results
        assert isinstance(held, Decision)
        assert isinstance(failed, GuardError)


def test_no_batch_is_larger_than_what_the_guard_takes() -> None:
    stage = Stage()
    texts = ["ż" * 2_000_000, "b" * 7_000_000, "c" * 1_000_000, "d" * 13_000_000, "e"]

    def answers() -> Iterator[Reply]:
        for count in (2, 1, 1, 1):
            yield batch_reply(*[decided()] * count)

    decisions = stage.play(judged_each(texts, {"deadline_ms": 60_000}, stage.patience(), "raise"), answers())
    assert len(decisions) == 5
    sent = [[each["text"][:1] for each in json.loads(call.body or b"")["requests"]] for call in stage.calls]
    assert sent == [["ż", "b"], ["c"], ["d"], ["e"]]
    assert [len(call.body or b"") <= 12_000_000 for call in stage.calls] == [True, True, False, True]


def too_large() -> Reply:
    return problem(413, "payload-too-large")


def test_a_batch_that_the_guard_finds_too_large_is_sent_as_two_and_a_text_that_is_it_alone_is_named() -> None:
    stage = Stage()
    texts = [*"a" * 100, "b", TEXT, "c"]
    replies = [
        batch_reply(*[decided()] * 100),
        too_large(),
        batch_reply(decided()),
        too_large(),
        too_large(),
        batch_reply(decided("SANITIZED")),
    ]
    with pytest.raises(BatchFailed) as raised:
        stage.play(judged_each(texts, {}, stage.patience(tries=1), "allow"), replies)
    assert [len(ids_of(call)) for call in stage.calls] == [100, 3, 1, 2, 1, 1]
    *before, refused, last = raised.value.results
    assert all(isinstance(each, Decision) for each in (*before, last))
    assert isinstance(refused, InvalidRequest)
    assert [(each.field, each.reason) for each in refused.faults] == [("texts.101", "why")]
    assert TEXT not in repr(raised.value) + repr(refused)


def test_a_text_for_which_a_whole_batch_is_refused_is_named_by_its_place_among_the_callers() -> None:
    stage = Stage()
    fields = {"type": "urn:vigil-guard:problem:invalid-request", "title": "t", "status": 422, "detail": "why"}
    errors = [{"field": field, "reason": "r"} for field in ("requests.1.text", "requests.7", "requests", "requests.1x")]
    refusal = Reply(422, {}, json.dumps(fields | {"errors": errors}).encode())
    with pytest.raises(BatchFailed) as raised:
        stage.play(judged_each(["a"] * 102, {}, stage.patience(), "raise"), [batch_reply(*[decided()] * 100), refusal])
    refused = raised.value.results[101]
    assert isinstance(refused, InvalidRequest)
    assert [each.field for each in refused.faults] == ["texts.101.text", "requests.7", "requests", "requests.1x"]


def test_a_batch_answer_with_another_number_of_results_is_not_believed() -> None:
    stage = Stage()
    with pytest.raises(BatchFailed) as raised:
        stage.play(judged_each(["a", "b"], {}, stage.patience(), "raise"), [batch_reply(decided())])
    assert all(isinstance(result, UnexpectedAnswer) for result in raised.value.results)


def test_reading_and_restoring_try_again_too() -> None:
    stage = Stage()
    found = stage.play(find(UUID(ID), Attempts(stage.patience())), [Lost("ReadError"), decided("BLOCKED")])
    assert found.blocked
    whole = Reply(200, {}, json.dumps({"request_id": ID, "text": "Anna", "restored": 1, "missing": []}).encode())
    restored = stage.play(restore({"text": "<PERSON_1>"}, Attempts(stage.patience())), [problem(503), whole])
    assert restored.text == "Anna"
    assert "Anna" not in repr(restored)


def test_retry_after_is_read_in_seconds_and_as_a_date() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert retry_after_s("7") == 7
    assert retry_after_s("Thu, 01 Jan 2026 00:00:30 GMT", lambda: now) == 30
    assert retry_after_s("Wed, 31 Dec 2025 00:00:00 GMT", lambda: now) == 0
    for unusable in (None, "", "soon", "-1", "٣", f"Thu, 01 Jan {'9' * 20} 00:00:00 GMT"):
        assert retry_after_s(unusable) is None


@pytest.mark.parametrize("key", ["", "a b", "k\r\nX-Evil: 1", "ключ"])
def test_a_key_that_would_break_the_header_is_refused_without_being_quoted(key: str) -> None:
    with pytest.raises(ValueError, match="printable") as raised:
        headers(key)
    assert not key or key not in str(raised.value)
