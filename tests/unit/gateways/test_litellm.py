"""LiteLLM's Generic Guardrail API, with bodies as its proxy writes them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.contracts import Source, Verdict
from app.errors import InvalidRequest
from app.gateways import litellm
from app.gateways.litellm import GuardrailCall
from app.problems import to_problem
from app.validation import parse
from tests.unit.gateways.answers import answer, sanitized

CHAT: dict[str, Any] = {
    "input_type": "request",
    "litellm_call_id": "c1",
    "litellm_trace_id": "t1",
    "structured_messages": [
        {"role": "system", "content": "Answer briefly."},
        {"role": "user", "content": [{"type": "text", "text": "Who is this?"}, {"type": "text", "text": "And why?"}]},
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "tool", "content": "Nobody.", "tool_call_id": "1"},
        {"role": "assistant", "content": "Nobody."},
    ],
    "images": None,
    "tools": None,
    "texts": ["Answer briefly.", "Who is this?", "And why?", "Nobody.", "Nobody."],
    "request_data": {
        "user_api_key_hash": "88dc28",
        "user_api_key_alias": "team-a-key",
        "user_api_key_user_email": "anna@example.com",
        "user_api_key_team_id": "team-a",
    },
    "request_headers": {"authorization": "[present]"},
    "litellm_version": "1.108.7",
    "additional_provider_specific_params": {"policy": "strict", "anything": 1},
    "tool_calls": None,
    "model": "small",
}


def parsed(body: object) -> GuardrailCall:
    return parse(GuardrailCall, json.dumps(body).encode(), text_limit=1000)


def sources(body: dict[str, Any], *, judges_operator: bool = False) -> list[Source | None]:
    return [piece.source for piece in litellm.pieces(parsed(body), judges_operator=judges_operator)]


def outcome(body: dict[str, Any], *answers: Any) -> dict[str, Any]:
    call = parsed(body)
    judged = [*litellm.pieces(call, judges_operator=False), *litellm.tool_arguments(call)]
    told: dict[str, Any] = json.loads(
        litellm.to_answer(call, judged, answers, block_message="Not let through.").to_json()
    )
    return told


def test_each_text_is_judged_by_the_role_of_its_message() -> None:
    assert sources(CHAT) == [None, Source.INPUT, Source.INPUT, Source.TOOL, Source.OUTPUT]
    assert sources(CHAT, judges_operator=True)[0] is Source.INPUT


@pytest.mark.parametrize("change", [{"structured_messages": None}, {"texts": [*CHAT["texts"], "one more"]}])
def test_without_sure_roles_every_text_is_a_users(change: dict[str, Any]) -> None:
    assert set(sources(CHAT | change)) == {Source.INPUT}


def test_what_comes_back_from_a_model_is_an_output() -> None:
    assert sources({"input_type": "response", "texts": ["a", "b"], "request_data": {}}) == [Source.OUTPUT] * 2


def test_requests_carry_labels_and_the_policy_but_nobodys_address() -> None:
    call = parsed(CHAT)
    made = litellm.to_requests(call, litellm.pieces(call, judges_operator=False), deadline_ms=4000, text_limit=1000)
    assert [each.text for each in made] == ["Who is this?", "And why?", "Nobody.", "Nobody."]
    assert {each.policy for each in made} == {"strict"}
    assert made[0].metadata == {
        "litellm_call_id": "c1",
        "litellm_trace_id": "t1",
        "model": "small",
        "user_api_key_alias": "team-a-key",
        "user_api_key_team_id": "team-a",
    }


def test_nothing_is_changed_when_nothing_was_found() -> None:
    assert outcome(CHAT, *[answer()] * 4) == {"action": "NONE"}


def test_redacted_texts_take_the_places_of_theirs() -> None:
    told = outcome(CHAT, sanitized("Who is <PERSON_1>?"), answer(), answer(), sanitized(""))
    assert told == {
        "action": "GUARDRAIL_INTERVENED",
        "texts": ["Answer briefly.", "Who is <PERSON_1>?", "And why?", "Nobody.", ""],
    }


def test_one_blocked_text_blocks_the_call() -> None:
    assert outcome(CHAT, answer(), None, answer(Verdict.BLOCKED), answer()) == {
        "action": "BLOCKED",
        "blocked_reason": "Not let through.",
    }


def test_blank_texts_keep_their_place() -> None:
    body = {"input_type": "request", "texts": ["", "Mail anna", " "], "request_data": {}}
    assert outcome(body, sanitized("Mail <PERSON_1>"))["texts"] == ["", "Mail <PERSON_1>", " "]


def test_arguments_of_tool_calls_are_judged_and_left_as_they_are() -> None:
    calls = [
        {"id": "1", "type": "function", "function": {"name": "mail", "arguments": '{"to": "anna@example.com"}'}},
        {"id": "2", "type": "function", "function": {"name": "none", "arguments": ""}},
        {"id": "3", "type": "custom"},
    ]
    body = {"input_type": "response", "texts": [], "tool_calls": calls, "request_data": {}}
    assert [piece.text for piece in litellm.tool_arguments(parsed(body))] == ['{"to": "anna@example.com"}', ""]
    assert outcome(body, sanitized("{}")) == {"action": "NONE", "stream_holdback_chars": []}
    assert outcome(body, answer(Verdict.BLOCKED))["action"] == "BLOCKED"


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("short", 5),
        ("word " * 200, 256),
        ("see " + "x" * 300, 300),
        ("see " + "x" * 5000, 4096),
        ("", 0),
    ],
)
def test_the_end_of_a_growing_answer_is_held_back_to_the_start_of_a_word(text: str, held: int) -> None:
    got = litellm.held_back_of(text)
    assert held <= got <= held + 5
    start = len(text) - got
    assert start == 0 or got == 4096 or text[start - 1].isspace()


def test_only_answers_of_models_are_held_back() -> None:
    body = {"input_type": "response", "texts": ["Paris.", ""], "request_data": {}}
    assert outcome(body, answer()) == {"action": "NONE", "stream_holdback_chars": [6, 0]}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "input_type"),
        ({"input_type": "other"}, "input_type"),
        ({"input_type": "request", "texts": "x"}, "texts"),
        ({"input_type": "request", "texts": ["x"] * 1001}, "texts"),
        (
            {"input_type": "request", "additional_provider_specific_params": {"policy": "No!"}},
            "additional_provider_specific_params.policy",
        ),
    ],
)
def test_bad_input_names_the_field(body: object, field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parsed(body)
    assert field in [name for name, _ in caught.value.faults]


def test_an_error_says_that_nothing_may_pass() -> None:
    body = json.loads(litellm.error_body(to_problem(InvalidRequest("is required", field="texts")), None))
    assert body == {
        "action": "BLOCKED",
        "blocked_reason": "is required",
        "errors": [{"field": "texts", "reason": "is required"}],
    }
