"""Lakera Guard's contract, with bodies as LiteLLM and APISIX write them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from app.contracts import (
    MAX_LISTED_SPANS,
    Action,
    Finding,
    PiiReport,
    Source,
    Verdict,
)
from app.detection.chat_worker import judged_messages
from app.errors import InvalidRequest
from app.gateways import lakera
from app.gateways.judging import Terms
from app.gateways.lakera import ScreeningRequest
from app.problems import to_problem
from app.validation import parse
from tests.unit.gateways.answers import REQUEST_ID, answer, of_chat, redacted_arguments, sanitized

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


TERMS = Terms(text_limit=1000, messages_limit=10, deadline_ms=4000)
ALONE = replace(TERMS, messages_limit=0)
"""Under these every chat is too large to be judged as one."""
each_way = pytest.mark.parametrize("terms", [TERMS, ALONE])


def screened(body: dict[str, Any], *decided: Any, terms: Terms = TERMS) -> dict[str, Any]:
    """Return what a gateway reads when this was decided of the messages that are not the operator's."""
    asked = parsed(body)
    planned = lakera.plan(asked, terms)
    answers: Sequence[Any] = decided
    if planned.chat is not None:
        messages = planned.chat.messages or []
        operators = [answer()] * sum(message.role.instructs for message in messages)
        answers = [of_chat(messages, *operators, *decided)]
    told = lakera.to_answer(asked, planned, answers, request_id=REQUEST_ID, version="0.1.0")
    read: dict[str, Any] = json.loads(told.to_json())
    return read


def detected(read: dict[str, Any]) -> list[tuple[int, str]]:
    return [(item["message_id"], item["detector_type"]) for item in read["breakdown"] if item["detected"]]


def test_messages_are_judged_as_one_chat() -> None:
    planned = lakera.plan(parsed(LITELLM), TERMS)
    assert planned.chat is not None
    assert [(each.role, each.text) for each in planned.chat.messages or []] == [
        ("system", "Answer briefly."),
        ("user", "Call Anna Nowak in Leeds"),
        ("assistant", "I will."),
    ]
    assert planned.places == [0, 1, 3]
    assert planned.chat.metadata == {"session_id": "s1"}


def test_an_answer_takes_nothing_away_from_the_prompts_before_it() -> None:
    asked = parsed(LITELLM)
    planned = lakera.plan(asked, TERMS)
    assert planned.chat is not None
    assert judged_messages(planned.chat.messages or [], planned.chat.judge) == {1, 2}
    assert detected(screened(LITELLM, answer(Verdict.BLOCKED), answer())) == [(1, "prompt_attack")]


def test_of_several_answers_to_one_prompt_each_is_judged() -> None:
    answers = [{"role": "assistant", "content": "kappa"}, {"role": "assistant", "content": "omega"}]
    asked = LITELLM | {"messages": [*LITELLM["messages"][:2], *answers]}
    planned = lakera.plan(parsed(asked), TERMS)
    assert planned.chat is not None
    judged = judged_messages(planned.chat.messages or [], planned.chat.judge)
    assert {2, 3} <= judged


def test_a_chat_that_is_too_large_is_judged_message_by_message_and_the_operators_is_not() -> None:
    planned = lakera.plan(parsed(LITELLM), ALONE)
    assert [(each.text, each.source) for each in planned.requests] == [
        ("Call Anna Nowak in Leeds", Source.INPUT),
        ("I will.", Source.OUTPUT),
    ]
    assert planned.places == [1, 3]


CALLING: dict[str, Any] = {
    "messages": [
        {"role": "user", "content": "Call her"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"function": {"arguments": '{"to": "anna@example.com"}'}}],
        },
        {"role": "assistant", "content": [{"type": "tool_use", "input": {"q": "bob"}}]},
        {"role": "system", "content": None, "function_call": {"arguments": "eve"}},
    ],
    "breakdown": True,
}


def test_arguments_of_tool_calls_are_judged_with_their_messages() -> None:
    planned = lakera.plan(parsed(CALLING), TERMS)
    assert planned.places == [0, 1, 2, 3]
    said = [[call.value for call in message.calls] for message in (planned.chat and planned.chat.messages) or []]
    assert said == [[], ['{"to": "anna@example.com"}'], [{"q": "bob"}], ["eve"]]
    apart = lakera.plan(parsed(CALLING), ALONE)
    assert [(each.text, each.source) for each in apart.requests] == [
        ("Call her", Source.INPUT),
        ('{"to": "anna@example.com"}', Source.OUTPUT),
        ('{"q": "bob"}', Source.OUTPUT),
    ]
    assert apart.places == [0, 1, 2]
    deep = {"messages": [{"role": "assistant", "function_call": {"arguments": "[" * 40 + "]" * 40}}]}
    assert [each.source for each in lakera.plan(parsed(deep), TERMS).requests] == [Source.OUTPUT]


def test_what_a_tool_gave_back_is_judged_as_a_tools() -> None:
    given = {"type": "tool_result", "content": [{"type": "text", "text": "It rains."}]}
    asked = {"messages": [{"role": "user", "content": [given]}, {"role": "user", "content": [{"type": "image"}]}]}
    planned = lakera.plan(parsed(asked), TERMS)
    assert planned.places == [0]
    (message,) = (planned.chat and planned.chat.messages) or []
    assert [[each.text for each in call.texts] for call in message.calls if call.is_result] == [["It rains."]]
    assert [(each.source, "It rains." in (each.text or "")) for each in lakera.plan(parsed(asked), ALONE).requests] == [
        (Source.TOOL, True)
    ]


REFUSING: dict[str, Any] = {
    "messages": [
        {
            "role": "assistant",
            "content": [{"type": "text", "text": "I may not.", "refusal": "Call Anna"}, {"refusal": "or Eve"}],
            "refusal": "nor Bob",
        }
    ],
    "breakdown": True,
    "payload": True,
}


def test_refusals_are_judged_beside_the_texts_and_cannot_be_masked() -> None:
    planned = lakera.plan(parsed(REFUSING), TERMS)
    (message,) = (planned.chat and planned.chat.messages) or []
    assert (message.text, [call.value for call in message.calls]) == ("I may not.", ["Call Anna\nor Eve\nnor Bob"])
    apart = lakera.plan(parsed(REFUSING), ALONE)
    assert [(each.text, each.source) for each in apart.requests] == [
        ("I may not.", Source.OUTPUT),
        ("Call Anna", Source.OUTPUT),
        ("or Eve", Source.OUTPUT),
        ("nor Bob", Source.OUTPUT),
    ]
    read = screened(REFUSING, answer(), sanitized("x", ("PERSON", 5, 9)), answer(), answer(), terms=ALONE)
    assert (detected(read), read["payload"]) == ([(0, "pii")], [])
    alone = {"messages": [{"role": "assistant", "content": None, "refusal": "Call Anna"}]}
    assert lakera.plan(parsed(alone), TERMS).places == [0]


def test_personal_data_in_arguments_cannot_be_masked_and_is_told_so() -> None:
    asked = parsed(CALLING)
    planned = lakera.plan(asked, TERMS)
    messages = (planned.chat and planned.chat.messages) or []
    redacted = of_chat(messages, answer(), sanitized("x", ("EMAIL_ADDRESS", 0, 3)), answer(), answer())
    verdicts = list(redacted.messages or [])
    verdicts[1] = verdicts[1].model_copy(update={"arguments": [redacted_arguments()]})
    told = lakera.to_answer(
        asked,
        planned,
        [redacted.model_copy(update={"messages": verdicts})],
        request_id=REQUEST_ID,
        version="0.1.0",
    )
    assert detected(json.loads(told.to_json())) == [(1, "pii/email"), (1, "pii")]


ON_IT = {
    "messages": [{"role": "assistant", "content": "On it", "tool_calls": CALLING["messages"][1]["tool_calls"]}],
    "breakdown": True,
    "payload": True,
}


def test_arguments_that_are_judged_by_themselves_cannot_be_masked_either() -> None:
    read = screened(ON_IT, answer(), sanitized("x", ("EMAIL_ADDRESS", 8, 24)), terms=ALONE)
    assert detected(read) == [(0, "pii")]
    assert read["payload"] == []


def test_clean_arguments_take_nothing_back_of_what_was_detected_in_their_message() -> None:
    assert detected(screened(ON_IT, answer(Verdict.BLOCKED), answer(), terms=ALONE)) == [(0, "prompt_attack")]
    read = screened(ON_IT, sanitized("x", ("PERSON", 0, 2)), answer(), terms=ALONE)
    assert detected(read) == [(0, "pii/name")]
    assert [(item["start"], item["end"]) for item in read["payload"]] == [(0, 2)]


def test_nothing_found_is_not_flagged() -> None:
    read = screened(APISIX, answer())
    assert read["flagged"] is False
    assert detected(read) == []
    assert "prompt_attack" in {item["detector_type"] for item in read["breakdown"]}
    assert read["metadata"] == {"request_uuid": str(REQUEST_ID)}
    assert read["payload"] == []
    assert "dev_info" not in read


@each_way
def test_personal_data_is_told_with_its_place_and_without_its_value(terms: Terms) -> None:
    found = sanitized("Call <PERSON_1> in Leeds", ("PERSON", 5, 15), kept=("LOCATION", 19, 24))
    read = screened(LITELLM, found, answer(), terms=terms)
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
@each_way
def test_a_block_is_never_told_as_personal_data_alone(categories: list[str], detector: str, terms: Terms) -> None:
    blocked = answer(Verdict.BLOCKED, categories=categories)
    assert detected(screened(LITELLM, blocked, answer(), terms=terms)) == [(1, detector)]


def test_a_chat_that_is_blocked_as_a_whole_has_a_detector() -> None:
    asked = parsed(LITELLM)
    planned = lakera.plan(asked, TERMS)
    whole = of_chat((planned.chat and planned.chat.messages) or [], answer(), answer(), answer())
    blocked = whole.model_copy(update={"decision": Verdict.BLOCKED})
    told = lakera.to_answer(asked, planned, [blocked], request_id=REQUEST_ID, version="0.1.0")
    assert told.flagged
    assert detected(json.loads(told.to_json())) == [(3, "prompt_attack")]


def test_more_places_than_are_listed_cannot_be_masked() -> None:
    finding = Finding(detector="pii", rule="PERSON", start=5, end=15, score=90, action=Action.REDACT)
    many = sanitized("x").model_copy(
        update={
            "findings": [finding] * MAX_LISTED_SPANS,
            "pii": PiiReport(scanned=True, count=MAX_LISTED_SPANS + 1),
        }
    )
    assert (1, "pii") in detected(screened(LITELLM, many, answer()))
    assert (1, "pii") in detected(screened(LITELLM, many, answer(), terms=ALONE))
    assert detected(screened(LITELLM, sanitized("x"), answer())) == [(1, "pii")]


def test_what_stands_beside_the_texts_is_bounded() -> None:
    calls = [{"function": {"arguments": f'{{"a": "{number}"}}'}} for number in range(lakera.MOST_BESIDE - 2)]
    parts = [{"type": "tool_result", "content": "x"}]
    message = {"role": "assistant", "content": parts, "refusal": "No.", "tool_calls": calls}
    assert len(lakera.plan(parsed({"messages": [message]}), ALONE).requests) == lakera.MOST_BESIDE
    for more in ({"role": "user", "refusal": "No."}, {"role": "user", "content": parts}, {"tool_calls": calls[:1]}):
        with pytest.raises(InvalidRequest) as caught:
            parsed({"messages": [message, more]})
        reason = "may have at most 1000 tool calls, results and refusals together"
        assert caught.value.faults == (("messages", reason),)


@each_way
def test_bare_strings_among_the_parts_are_judged(terms: Terms) -> None:
    body = parsed({"messages": [{"role": "user", "content": ["Ignore that", {"type": "text", "text": "and this."}]}]})
    [request] = lakera.plan(body, terms).requests
    assert request.whole_text == "Ignore that\nand this."


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
        ({"messages": [{"role": "user", "content": {"text": "x"}}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": ["x", ["y"]]}]}, "messages.0.content"),
    ],
)
def test_bad_input_names_the_field(body: object, field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parsed(body)
    assert field in [name for name, _ in caught.value.faults]


def test_an_error_has_a_code_and_a_message() -> None:
    body = json.loads(lakera.error_body(to_problem(InvalidRequest("is required", field="messages")), None))
    assert body == {"code": 422, "error": "Invalid request", "message": "is required"}
