"""Bad input is refused with the field and the reason, and never repeated."""

from __future__ import annotations

import json

import pytest

from app.access.keys import KeyChange, KeyRequest, RotationRequest
from app.admin_contracts import PolicyRollback
from app.contracts import GuardRequest, Message
from app.errors import InvalidRequest, MalformedJson
from app.stream_contracts import StreamOpening
from app.validation import parse

SECRET = "kappa-omega-secret"


def refused(body: bytes | dict[str, object], *, text_limit: int = 1000) -> InvalidRequest:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(InvalidRequest) as caught:
        parse(GuardRequest, raw, text_limit=text_limit)
    return caught.value


def test_a_body_with_more_faults_than_can_be_listed_is_refused_as_a_whole() -> None:
    error = refused({"text": "x", **{f"name{number}": 1 for number in range(8_000)}})
    assert error.faults == (("body", "has 8000 faults, too many to name"),)
    error = refused({"text": "x", **{f"name{number}": 1 for number in range(1_000)}})
    assert [field for field, _ in error.faults] == [f"name{number}" for number in range(20)]


@pytest.mark.parametrize(
    ("body", "field", "reason"),
    [
        ({"text": "x", "metadata": {str(number): [] for number in range(33)}}, "metadata", "32 items, not 33"),
        ({"messages": [7] * 1_001}, "messages", "1000 items, not 1001"),
        ({"messages": [{"role": "user", "content": [7] * 1_001}] * 2}, "messages", "2000 parts, not 2002"),
        ({"messages": [{"role": "assistant", "tool_calls": [7] * 501}] * 2}, "messages", "1000 tool calls, not 1002"),
    ],
    ids=["labels", "messages", "parts", "tool calls"],
)
def test_what_is_too_many_is_refused_by_its_count_before_any_of_it_is_read(
    body: dict[str, object], field: str, reason: str
) -> None:
    assert refused(body).faults == ((field, f"must have at most {reason}"),)


def test_the_opening_of_a_stream_has_as_many_labels() -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(StreamOpening, json.dumps({"metadata": {str(number): [] for number in range(33)}}).encode(), text_limit=1)
    assert caught.value.faults == (("metadata", "must have at most 32 items, not 33"),)


@pytest.mark.parametrize(
    ("body", "field", "reason"),
    [
        ({}, "text", "is required"),
        ({"text": ""}, "text", "not white space"),
        ({"text": " \t\n\u00a0\u2003"}, "text", "not white space"),
        ({"text": 5}, "text", "valid string"),
        ({"text": None}, "text", "valid string"),
        ({"text": "x" * 1001}, "text", "at most 1000 characters, not 1001"),
        ({"text": "x", "mode": SECRET}, "mode", "'fast' or 'full'"),
        ({"text": "x", "source": SECRET}, "source", "'input', 'output' or 'tool'"),
        ({"text": "x", "request_id": SECRET}, "request_id", "must be a UUID"),
        ({"text": "x", "language": "english"}, "language", "pattern"),
        ({"text": "x", "policy": "../etc/passwd"}, "policy", "pattern"),
        ({"text": "x", "deadline_ms": 0}, "deadline_ms", "greater than or equal to 1"),
        ({"text": "x", "deadline_ms": "soon"}, "deadline_ms", "must be a JSON number without a fraction"),
        ({"text": "x", "deadline_ms": "500"}, "deadline_ms", "must be a JSON number without a fraction"),
        ({"text": "x", "deadline_ms": True}, "deadline_ms", "must be a JSON number without a fraction"),
        ({"text": "x", "deadline_ms": 500.0}, "deadline_ms", "must be a JSON number without a fraction"),
        ({"text": "x", "unknown_field": 1}, "unknown_field", "is not a known field"),
        ({"text": "x", f"{SECRET} with spaces": 1}, "(unnamed field)", "is not a known field"),
        ({"text": "x", "metadata": {"a": {"b": 1}}}, "metadata", "must map names"),
        ({"text": "x", "metadata": {f"{SECRET} !": 1}}, "metadata", "must map names"),
        ({"text": "x", "metadata": {"a": SECRET * 100}}, "metadata", "must map names"),
        ({"text": "x", "metadata": [1]}, "metadata", "be an object"),
        ({"text": "x", "metadata": {"a": float("nan")}}, "metadata", "a finite number"),
        ({"text": "x", "metadata": {"a": float("inf")}}, "metadata", "a finite number"),
        ({"text": "x", "metadata": {"a": float("-inf")}}, "metadata", "a finite number"),
        ({"text": "x", "metadata": {"a": 2**64}}, "metadata", "64 bits"),
        ({"text": "x", "metadata": {"a": -(2**63) - 1}}, "metadata", "64 bits"),
        ({"text": "x", "metadata": {"a": 10**4299}}, "metadata", "64 bits"),
        ({"text": "x", "allow_list": [""]}, "allow_list.0", "at least 1 character"),
        ({"text": "x", "canaries": ["kappa"]}, "canaries.0", "at least 8 characters"),
        ({"text": "x", "canaries": [SECRET * 20]}, "canaries.0", "at most 256 characters"),
        ({"text": "x", "canaries": [SECRET] * 17}, "canaries", "at most 16 items"),
        ({"text": "x", "canaries": SECRET}, "canaries", "valid array"),
        ({"text": "x", "system_prompt": SECRET * 2_000}, "system_prompt", "at most 32000 characters"),
        ({"text": "x", "system_prompt": [SECRET]}, "system_prompt", "valid string"),
    ],
)
def test_a_field_that_does_not_fit_is_named_with_the_reason(body: dict[str, object], field: str, reason: str) -> None:
    error = refused(body)
    assert error.status == 422
    assert [name for name, _ in error.faults] == [field]
    assert reason in error.faults[0][1]
    assert SECRET not in error.message
    assert SECRET not in str(error.faults)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"not json",
        b'{"text": "kappa-omega-secret',
        b'{"text": "\\ud800"}',
        b'{"text": "\\udc00 x"}',
        b"\xff\xfe",
    ],
)
def test_what_is_not_json_is_a_bad_request_that_says_where(body: bytes) -> None:
    error = refused(body)
    assert isinstance(error, MalformedJson)
    assert error.status == 400
    assert error.faults[0][0] == "body"
    assert "line 1 column" in error.message
    assert SECRET not in error.message


@pytest.mark.parametrize("body", [b"[]", b"null", b'"text"', b"5"])
def test_a_body_that_is_not_an_object_is_refused(body: bytes) -> None:
    assert refused(body).faults[0][0] == "body"


def test_several_faults_are_all_named() -> None:
    assert {field for field, _ in refused({"mode": "x", "source": "y"}).faults} == {"text", "mode", "source"}


def test_deeply_nested_json_is_refused() -> None:
    assert refused(b'{"text":' + b"[" * 100_000 + b"]" * 100_000 + b"}").faults


@pytest.mark.parametrize("text", ["\x00", "a\x00b", "\u0301" * 1000, "\u200b", "🙂" * 1000, "zażółć"])
def test_unusual_characters_are_accepted(text: str) -> None:
    assert parse(GuardRequest, json.dumps({"text": text}).encode(), text_limit=1000).text == text


@pytest.mark.parametrize("restore_map", [1, True, ["v2.kappa-omega"], 400_001 * "A"])
def test_a_restore_map_is_a_bounded_text(restore_map: object) -> None:
    error = refused({"text": "a", "restore_map": restore_map})
    assert [field for field, _ in error.faults] == ["restore_map"]
    assert "kappa-omega" not in str(error.faults)
    assert "AAAA" not in str(error.faults)


@pytest.mark.parametrize("said", ["yes", "true", 1, 0.0])
@pytest.mark.parametrize("flag", ["dry_run", "shadow", "restorable"])
def test_only_true_and_false_are_taken_for_it(flag: str, said: object) -> None:
    """ "yes" would start a dry run, in which every text passes."""
    assert refused({"text": "a", flag: said}).faults[0][0] == flag


@pytest.mark.parametrize(
    ("model", "body", "field"),
    [
        (KeyRequest, {"name": "chat", "limits": {"burst": "5"}}, "limits.burst"),
        (KeyRequest, {"name": "chat", "limits": {"requests_per_day": True}}, "limits.requests_per_day"),
        (KeyRequest, {"name": "chat", "limits": {"rate_per_s": "5"}}, "limits.rate_per_s"),
        (KeyChange, {"limits": {"batch_size": "5"}}, "limits.batch_size"),
        (RotationRequest, {"grace_s": "60"}, "grace_s"),
        (PolicyRollback, {"version": "2"}, "version"),
    ],
)
def test_numbers_of_administration_are_no_strings(model: type[Message], body: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(model, json.dumps(body).encode(), text_limit=0)
    assert [(name, reason.partition(" without")[0]) for name, reason in caught.value.faults] == [
        (field, "must be a JSON number")
    ]


def test_numbers_are_taken_as_json_writes_them() -> None:
    assert parse(RotationRequest, b'{"grace_s": 60}', text_limit=0).grace_s == 60
    limits = parse(KeyRequest, b'{"name": "chat", "limits": {"rate_per_s": 5, "burst": 7}}', text_limit=0).limits
    assert (limits.rate_per_s, limits.burst) == (5, 7)
