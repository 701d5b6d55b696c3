"""Lakera Guard's contract, with bodies as LiteLLM and APISIX write them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.contracts import MAX_LISTED_SPANS, Action, Finding, PiiReport, Source, Verdict
from app.errors import InvalidRequest
from app.gateways import lakera
from app.gateways.lakera import ScreeningRequest
from app.problems import to_problem
from app.validation import parse
from tests.unit.gateways.answers import REQUEST_ID, answer, sanitized

LITELLM: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "Answer briefly."},
        {"role": "user", "content": "Call Anna Nowak in Leeds"},
        {"role": "assistant", "content": None},
        {"role": "assistant", "content": [{"type": "text", "text": "I will."}]},
    ],
    "project_id": "project-1",
    "payload": True,
    "breakdown": True,
    "metadata": {"session_id": "s1"},
    "dev_info": True,
}
APISIX = {"messages": [{"role": "user", "content": "Hello"}], "breakdown": True}


def parsed(body: object) -> ScreeningRequest:
    return parse(ScreeningRequest, json.dumps(body).encode(), text_limit=1000)


def screened(body: dict[str, Any], *answers: Any) -> dict[str, Any]:
    asked = parsed(body)
    judged = lakera.pieces(asked, judges_operator=False)
    told = lakera.to_answer(asked, judged, answers, request_id=REQUEST_ID, version="0.1.0")
    read: dict[str, Any] = json.loads(told.to_json())
    return read


def detected(read: dict[str, Any]) -> list[tuple[int, str]]:
    return [(item["message_id"], item["detector_type"]) for item in read["breakdown"] if item["detected"]]


def test_messages_are_judged_by_role_and_the_operators_are_not() -> None:
    asked = parsed(LITELLM)
    made = lakera.to_requests(asked, lakera.pieces(asked, judges_operator=False), deadline_ms=4000, text_limit=1000)
    assert [(each.text, each.source) for each in made] == [
        ("Call Anna Nowak in Leeds", Source.INPUT),
        ("I will.", Source.OUTPUT),
    ]
    assert made[0].metadata == {"session_id": "s1"}


def test_nothing_found_is_not_flagged() -> None:
    read = screened(APISIX, answer())
    assert read["flagged"] is False
    assert detected(read) == []
    assert "prompt_attack" in {item["detector_type"] for item in read["breakdown"]}
    assert read["metadata"] == {"request_uuid": str(REQUEST_ID)}
    assert read["payload"] == []
    assert "dev_info" not in read


def test_personal_data_is_told_with_its_place_and_without_its_value() -> None:
    found = sanitized("Call <PERSON_1> in Leeds", ("PERSON", 5, 15), kept=("LOCATION", 19, 24))
    read = screened(LITELLM, found, answer())
    assert read["flagged"] is True
    assert detected(read) == [(1, "pii/name")]
    assert read["payload"] == [
        {"start": 5, "end": 15, "text": None, "detector_type": "pii/name", "labels": ["PERSON"], "message_id": 1}
    ]
    assert {item["project_id"] for item in read["breakdown"]} == {"project-1"}
    assert read["dev_info"] == {"git_revision": "", "git_timestamp": "", "model_version": "m1", "version": "0.1.0"}


def test_kinds_that_the_contract_does_not_have_keep_their_names() -> None:
    assert detected(screened(LITELLM, sanitized("x", ("PL_PESEL", 5, 15)), answer())) == [(1, "pii/pl_pesel")]


@pytest.mark.parametrize(
    ("categories", "detector"),
    [
        (["prompt_injection"], "prompt_attack"),
        (["harmful_content"], "moderated_content/crime"),
        (["harmful_content", "jailbreak"], "prompt_attack"),
        (["personal_data"], "prompt_attack"),
        ([], "prompt_attack"),
    ],
)
def test_a_block_is_never_told_as_personal_data_alone(categories: list[str], detector: str) -> None:
    assert detected(screened(LITELLM, answer(Verdict.BLOCKED, categories=categories), answer())) == [(1, detector)]


def test_more_places_than_are_listed_cannot_be_masked() -> None:
    finding = Finding(detector="pii", rule="PERSON", start=5, end=15, score=90, action=Action.REDACT)
    many = sanitized("x").model_copy(
        update={
            "findings": [finding] * MAX_LISTED_SPANS,
            "pii": PiiReport(scanned=True, count=MAX_LISTED_SPANS + 1),
        }
    )
    assert (1, "pii") in detected(screened(LITELLM, many, answer()))
    assert detected(screened(LITELLM, sanitized("x"), answer())) == [(1, "pii")]


def test_parts_are_given_only_when_they_are_asked_for() -> None:
    body = {"messages": LITELLM["messages"][1:2]}
    read = screened(body, sanitized("x", ("PERSON", 5, 15)))
    assert read == {"flagged": True, "payload": [], "metadata": {"request_uuid": str(REQUEST_ID)}}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": ["x"]}, "messages.0"),
        ({"messages": [{"role": "user", "content": "x"}] * 1001}, "messages"),
        ({"messages": [{"role": 5, "content": "x"}]}, "messages.0.role"),
    ],
)
def test_bad_input_names_the_field(body: object, field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parsed(body)
    assert field in [name for name, _ in caught.value.faults]


def test_an_error_has_a_code_and_a_message() -> None:
    body = json.loads(lakera.error_body(to_problem(InvalidRequest("is required", field="messages")), None))
    assert body == {"code": 422, "error": "Invalid request", "message": "is required"}
