"""LiteLLM's Generic Guardrail API, with bodies as its proxy writes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from app.chat import ChatMessage, ContentPart, Role
from app.contracts import Source, Verdict
from app.errors import InvalidRequest
from app.gateways import litellm
from app.gateways.judging import Terms
from app.gateways.litellm import GuardrailCall
from app.problems import to_problem
from app.tool_calls import FunctionCall, ToolCall
from app.validation import parse
from tests.unit.gateways.answers import answer, of_chat, redacted_arguments, sanitized

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


TERMS = Terms(text_limit=1000, messages_limit=10, deadline_ms=4000)
ALONE = replace(TERMS, messages_limit=1)
"""Under these the chat is too large to be judged as one."""


def sources(body: dict[str, Any], terms: Terms = TERMS) -> list[Source | None]:
    planned = litellm.plan(parsed(body), terms)
    assert planned.chat is None
    return [piece.source for piece in planned.pieces]


def outcome(body: dict[str, Any], *decided: Any, terms: Terms = TERMS) -> dict[str, Any]:
    """Return what LiteLLM reads when this was decided: of each message of a chat, or of each text."""
    call = parsed(body)
    planned = litellm.plan(call, terms)
    answers: Sequence[Any] = decided
    if planned.chat is not None:
        messages = planned.chat.messages or []
        answers = [of_chat(messages, *decided[: len(messages)]), *decided[len(messages) :]]
    told = litellm.to_answer(call, planned, answers, block_message="Not let through.")
    read: dict[str, Any] = json.loads(told.to_json())
    return read


def test_a_chat_is_judged_as_one_by_the_roles_of_its_messages() -> None:
    planned = litellm.plan(parsed(CHAT), TERMS)
    assert planned.chat is not None
    assert planned.requests == [planned.chat]
    assert [(each.role, each.texts) for each in planned.chat.messages or []] == [
        ("system", ["Answer briefly."]),
        ("user", ["Who is this?", "And why?"]),
        ("tool", ["Nobody."]),
        ("assistant", ["Nobody."]),
    ]
    judging = litellm.plan(parsed(CHAT), replace(TERMS, judges_operator=True)).chat
    assert next(each.role for each in (judging and judging.messages) or []) == "user"


def test_a_chat_that_is_too_large_is_judged_text_by_text() -> None:
    assert sources(CHAT, ALONE) == [None, Source.INPUT, Source.INPUT, Source.TOOL, Source.OUTPUT]
    assert sources(CHAT, replace(ALONE, judges_operator=True))[0] is Source.INPUT


@pytest.mark.parametrize(
    "change",
    [
        {"structured_messages": None},
        {"texts": [*CHAT["texts"], "one more"]},
        # Of a call in Anthropic's shape: the system's text is not among them, and two of an answer are told as one.
        {"texts": ["Who is this?", "And why?", "Nobody.", "No", "body."]},
    ],
)
def test_without_sure_roles_every_text_is_a_users(change: dict[str, Any]) -> None:
    assert set(sources(CHAT | change)) == {Source.INPUT}


def test_what_comes_back_from_a_model_is_an_output() -> None:
    assert sources({"input_type": "response", "texts": ["a", "b"], "request_data": {}}) == [Source.OUTPUT] * 2


@pytest.mark.parametrize("terms", [TERMS, ALONE])
def test_requests_carry_labels_and_the_policy_but_nobodys_address(terms: Terms) -> None:
    made = litellm.plan(parsed(CHAT), terms).requests
    assert {(each.policy, each.deadline_ms) for each in made} == {("strict", 4000)}
    assert made[0].metadata == {
        "litellm_call_id": "c1",
        "litellm_trace_id": "t1",
        "model": "small",
        "user_api_key_alias": "team-a-key",
        "user_api_key_team_id": "team-a",
    }


@pytest.mark.parametrize("terms", [TERMS, ALONE])
def test_nothing_is_changed_when_nothing_was_found(terms: Terms) -> None:
    assert outcome(CHAT, *[answer()] * 4, terms=terms) == {"action": "NONE"}


def test_redacted_texts_take_the_places_of_theirs() -> None:
    told = outcome(CHAT, sanitized("Who is <PERSON_1>?"), answer(), answer(), sanitized(""), terms=ALONE)
    assert told == {
        "action": "GUARDRAIL_INTERVENED",
        "texts": ["Answer briefly.", "Who is <PERSON_1>?", "And why?", "Nobody.", ""],
    }


def test_redacted_messages_take_the_places_of_theirs() -> None:
    parts = [ContentPart(type="text", text="Who is <PERSON_1>?"), ContentPart(type="text", text="And why?")]
    redacted = sanitized("x").model_copy(update={"sanitized_text": parts})
    assert outcome(CHAT, answer(), redacted, answer(), answer()) == {
        "action": "GUARDRAIL_INTERVENED",
        "texts": ["Answer briefly.", "Who is <PERSON_1>?", "And why?", "Nobody.", "Nobody."],
    }


def test_a_redacted_chat_without_its_messages_does_not_pass() -> None:
    call = parsed(CHAT)
    lost = sanitized("x").model_copy(update={"sanitized_messages": None})
    told = litellm.to_answer(call, litellm.plan(call, TERMS), [lost], block_message="Not let through.")
    assert told.action == "BLOCKED"


@pytest.mark.parametrize(
    ("terms", "decided"),
    [
        (TERMS, [answer(), answer(), answer(Verdict.BLOCKED), answer()]),
        (ALONE, [answer(), None, answer(Verdict.BLOCKED), answer()]),
    ],
)
def test_one_blocked_text_blocks_the_call(terms: Terms, decided: list[Any]) -> None:
    assert outcome(CHAT, *decided, terms=terms) == {"action": "BLOCKED", "blocked_reason": "Not let through."}


def test_blank_texts_keep_their_place() -> None:
    body = {"input_type": "request", "texts": ["", "Mail anna", " "], "request_data": {}}
    assert outcome(body, sanitized("Mail <PERSON_1>"))["texts"] == ["", "Mail <PERSON_1>", " "]
    assert outcome({"input_type": "request", "texts": [" "]}) == {"action": "NONE"}


def redacted_calls(*arguments: Any) -> Any:
    """Return the decision on calls that stand in no message of a chat, with the arguments to use."""
    calls = [ToolCall(function=FunctionCall(arguments=each)) for each in arguments]
    used = [ChatMessage(role=Role.ASSISTANT, tool_calls=calls)]
    return answer(Verdict.SANITIZED, messages=[], sanitized_messages=used)


CALLS = [
    {"id": "1", "type": "function", "function": {"name": "mail", "arguments": '{"to": "anna@example.com"}'}},
    {"id": "2", "type": "function", "function": {"name": "none", "arguments": ""}},
    {"id": "3", "type": "custom"},
]


UNREPLACED = {
    "action": "BLOCKED",
    "blocked_reason": f"Not let through. {litellm.NOT_REPLACED}",
}


def test_arguments_of_an_answer_are_judged_string_by_string_and_never_pass_with_personal_data() -> None:
    body = {"input_type": "response", "texts": ["Done."], "tool_calls": CALLS, "request_data": {}}
    planned = litellm.plan(parsed(body), TERMS)
    assert [(each.whole_text, each.origin) for each in planned.requests] == [
        ("Done.", Source.OUTPUT),
        ("\n\nanna@example.com", Source.OUTPUT),
    ]
    assert outcome(body, answer(), answer()) == {"action": "NONE", "stream_holdback_chars": [5]}
    assert outcome(body, answer(), redacted_calls('{"to": "<EMAIL_ADDRESS_1>"}', "")) == UNREPLACED
    assert outcome(body, answer(), sanitized("lost")) == UNREPLACED
    assert outcome(body, answer(), answer(Verdict.BLOCKED))["action"] == "BLOCKED"


def test_arguments_that_cannot_be_read_by_string_are_judged_as_a_text() -> None:
    deep = "[" * 40 + "]" * 40
    calls = [CALLS[0], {"function": {"arguments": deep}}, {"function": {"arguments": [[["x"]]]}}]
    body = {"input_type": "response", "texts": [], "tool_calls": calls, "request_data": {}}
    made = litellm.plan(parsed(body), TERMS).requests
    assert [(each.text, each.source) for each in made] == [
        ('{"to": "anna@example.com"}', Source.OUTPUT),
        (deep, Source.OUTPUT),
        ('[[["x"]]]', Source.OUTPUT),
    ]


CALLING = CHAT | {
    "structured_messages": [*CHAT["structured_messages"], {"role": "assistant", "content": None, "tool_calls": CALLS}],
    "tool_calls": CALLS,
}


def test_arguments_of_a_chat_belong_to_it_and_are_judged_once() -> None:
    planned = litellm.plan(parsed(CALLING), TERMS)
    assert planned.requests == [planned.chat]
    assert [call.value for call in ((planned.chat and planned.chat.messages) or [])[4].calls] == [
        '{"to": "anna@example.com"}',
        "",
    ]
    assert outcome(CALLING, *[answer()] * 5) == {"action": "NONE"}
    assert outcome(CALLING, *[answer()] * 4, answer(Verdict.BLOCKED))["action"] == "BLOCKED"
    apart = litellm.plan(parsed(CALLING), ALONE)
    assert [(each.whole_text, each.origin) for each in apart.requests[4:]] == [
        ("\n\nanna@example.com", Source.OUTPUT),
    ]


def test_redacted_arguments_of_a_chat_come_back_in_their_messages() -> None:
    call = parsed(CALLING)
    planned = litellm.plan(call, TERMS)
    messages = (planned.chat and planned.chat.messages) or []
    redacted = of_chat(messages, *[answer()] * 4, sanitized("x"))
    verdict = redacted_arguments()
    used = [*messages[:4], messages[4].with_arguments({verdict.path: ["<EMAIL_ADDRESS_1>"]})]
    verdicts = [
        *(redacted.messages or [])[:4],
        (redacted.messages or [])[4].model_copy(update={"arguments": [verdict]}),
    ]
    redacted = redacted.model_copy(update={"messages": verdicts, "sanitized_messages": used})
    told = json.loads(litellm.to_answer(call, planned, [redacted], block_message="").to_json())
    assert (told["action"], told.get("texts")) == ("GUARDRAIL_INTERVENED", None)
    rows = CALLING["structured_messages"]
    assert told["structured_messages"][:5] == rows[:5]
    new = {"name": "mail", "arguments": '{"to": "<EMAIL_ADDRESS_1>"}'}
    assert told["structured_messages"][5] == rows[5] | {"tool_calls": [CALLS[0] | {"function": new}, *CALLS[1:]]}


NEW = {"name": "mail", "arguments": '{"to": "<EMAIL_ADDRESS_1>"}'}
REDACTED_CALLS = [CALLS[0] | {"function": NEW}, *CALLS[1:]]


@pytest.mark.parametrize(
    ("texts", "terms"),
    [(CHAT["texts"], ALONE), (CHAT["texts"][1:], TERMS)],
    ids=["too large for one", "another list of texts"],
)
def test_arguments_and_texts_of_what_is_no_chat_are_redacted_in_its_messages(texts: list[str], terms: Terms) -> None:
    decided = [sanitized("Who is <PERSON_1>?"), *[answer()] * 3, redacted_calls(NEW["arguments"], "")]
    told = outcome(CALLING | {"texts": texts}, *decided, terms=terms)
    assert told["action"] == "GUARDRAIL_INTERVENED"
    rows = CALLING["structured_messages"]
    assert told["structured_messages"] == [
        rows[0],
        {"role": "user", "content": [{"type": "text", "text": "Who is <PERSON_1>?"}, rows[1]["content"][1]]},
        *rows[2:5],
        rows[5] | {"tool_calls": REDACTED_CALLS},
    ]
    assert "Who is <PERSON_1>?" in told["texts"]


def test_redacted_arguments_do_not_bring_a_text_back_that_stands_in_no_message() -> None:
    body = CALLING | {"texts": ["Who is", "this?"]}
    assert outcome(body, answer(), sanitized("<PERSON_1>"), redacted_calls(NEW["arguments"], "")) == UNREPLACED
    assert outcome(body, answer(), answer(), redacted_calls(NEW["arguments"], ""))["action"] == "GUARDRAIL_INTERVENED"
    loose = {"input_type": "request", "texts": ["Hello"], "tool_calls": CALLS, "request_data": {}}
    assert outcome(loose, answer(), redacted_calls(NEW["arguments"], "")) == UNREPLACED


LEGACY = {"role": "assistant", "content": None, "function_call": CALLS[0]["function"]}


@pytest.mark.parametrize("others", [[], CALLS[1:]], ids=["alone", "beside tool calls"])
@pytest.mark.parametrize("terms", [TERMS, ALONE], ids=["one chat", "text by text"])
def test_a_function_call_is_read_and_redacted_as_a_tool_call_is(terms: Terms, others: list[Any]) -> None:
    row = LEGACY | ({"tool_calls": others} if others else {})
    body = CHAT | {"structured_messages": [*CHAT["structured_messages"], row], "tool_calls": others or None}
    planned = litellm.plan(parsed(body), terms)
    assert planned.requests[-1].whole_text.endswith("\n\nanna@example.com")
    assert planned.requests[-1].origin is Source.OUTPUT
    assert outcome(body, *[answer()] * 4, answer(Verdict.BLOCKED), terms=terms)["action"] == "BLOCKED"
    blank = [""] if others else []
    if planned.chat is None:
        told = outcome(body, *[answer()] * 4, redacted_calls(*blank, NEW["arguments"]), terms=terms)
    else:
        *before, last = planned.chat.messages or []
        assert [call.value for call in last.calls] == [*blank, CALLS[0]["function"]["arguments"]]
        [*_, path] = [call.path for call in last.calls]
        used = [*before, last.with_arguments({path: ["<EMAIL_ADDRESS_1>"]})]
        redacted = of_chat([*before, last], *[answer()] * 4, sanitized("x"))
        verdicts = [*(redacted.messages or [])[:4], (redacted.messages or [])[4].model_copy(update={"arguments": []})]
        redacted = redacted.model_copy(update={"messages": verdicts, "sanitized_messages": used})
        told = json.loads(litellm.to_answer(parsed(body), planned, [redacted], block_message="").to_json())
    assert told["action"] == "GUARDRAIL_INTERVENED"
    assert told["structured_messages"] == [*CHAT["structured_messages"], row | {"function_call": NEW}]


def test_a_function_call_without_arguments_stays_as_it_is() -> None:
    for call in ({"name": "none"}, {"name": "none", "arguments": None}, None, "none"):
        body = CHAT | {"structured_messages": [*CHAT["structured_messages"], LEGACY | {"function_call": call}]}
        assert len(litellm.plan(parsed(body), TERMS).rows) == 4
        assert outcome(body, *[answer()] * 4) == {"action": "NONE"}


@pytest.mark.parametrize(
    ("arguments", "redacted", "new"),
    [
        ("[" * 40 + '"anna"' + "]" * 40, "[" * 40 + '"<PERSON_1>"' + "]" * 40, "[" * 40 + '"<PERSON_1>"' + "]" * 40),
        ("[" * 40 + "600700800" + "]" * 40, "[" * 40 + "<PHONE_NUMBER_1>" + "]" * 40, None),
        (
            {"a": json.loads("[" * 40 + "]" * 40), "b": "anna"},
            '{"a": [], "b": "<PERSON_1>"}',
            {"a": [], "b": "<PERSON_1>"},
        ),
        ({"a": json.loads("[" * 40 + "]" * 40), "b": 600700800}, '{"a": [], "b": <PHONE_NUMBER_1>}', None),
    ],
    ids=["a text", "a text that is broken by it", "a value", "a value that is broken by it"],
)
def test_arguments_that_are_judged_as_a_text_come_back_in_their_shape(arguments: Any, redacted: str, new: Any) -> None:
    calls = [{"id": "1", "type": "function", "function": {"name": "mail", "arguments": arguments}}]
    rows = [{"role": "user", "content": "Write"}, {"role": "assistant", "content": None, "tool_calls": calls}]
    body = {"input_type": "request", "texts": ["Write"], "structured_messages": rows, "tool_calls": calls}
    told = outcome(body, answer(), sanitized(redacted))
    if new is None:
        assert told == UNREPLACED
        return
    [call] = told["structured_messages"][1]["tool_calls"]
    assert call == calls[0] | {"function": {"name": "mail", "arguments": new}}
    assert told["structured_messages"][0] == rows[0]


REFUSING = CHAT | {
    "structured_messages": [
        {"role": "user", "content": "Who is this?"},
        {
            "role": "assistant",
            "content": [{"type": "text", "text": "Hm.", "refusal": "Anna"}, {"type": "refusal", "refusal": "No."}],
            "refusal": "Eve",
        },
    ],
    "texts": ["Who is this?", "Hm."],
}


def test_refusals_are_judged_with_the_chat_and_redacted_where_they_stand() -> None:
    call = parsed(REFUSING)
    planned = litellm.plan(call, TERMS)
    messages = (planned.chat and planned.chat.messages) or []
    assert [(each.texts, [held.value for held in each.calls]) for each in messages] == [
        (["Who is this?"], []),
        (["Hm.", "No."], ["Anna", "Eve"]),
    ]
    redacted = of_chat(messages, answer(), sanitized("x"))
    used = [messages[0], messages[1].with_arguments({"content.0.refusal": ["<PERSON_1>"], "refusal": ["<PERSON_2>"]})]
    redacted = redacted.model_copy(update={"sanitized_messages": used})
    told = json.loads(litellm.to_answer(call, planned, [redacted], block_message="").to_json())
    user, assistant = REFUSING["structured_messages"]
    text, refusal = assistant["content"]
    assert told == {
        "action": "GUARDRAIL_INTERVENED",
        "structured_messages": [
            user,
            assistant | {"content": [text | {"refusal": "<PERSON_1>"}, refusal], "refusal": "<PERSON_2>"},
        ],
    }


def test_refusals_of_what_is_no_chat_are_judged_by_themselves() -> None:
    made = litellm.plan(parsed(REFUSING), ALONE).requests
    assert [(each.text, each.source) for each in made] == [
        ("Who is this?", Source.INPUT),
        ("Hm.", Source.OUTPUT),
        ("Anna", Source.OUTPUT),
        ("No.", Source.OUTPUT),
        ("Eve", Source.OUTPUT),
    ]
    decided = [answer(), answer(), sanitized("<PERSON_1>"), answer(), answer()]
    told = outcome(REFUSING, *decided, terms=ALONE)
    assert "texts" not in told
    [_, assistant] = told["structured_messages"]
    assert [part["refusal"] for part in assistant["content"]] == ["<PERSON_1>", "No."]
    assert outcome(REFUSING, *decided[:4], answer(Verdict.BLOCKED), terms=ALONE)["action"] == "BLOCKED"


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


def test_what_the_messages_hold_is_bounded() -> None:
    rows: list[dict[str, Any]] = [{"role": "assistant", "refusal": "No."}] * litellm.MOST_PARTS
    assert parsed({"input_type": "request", "structured_messages": rows}).structured_messages == rows
    more: tuple[dict[str, Any], ...] = (
        {"refusal": "No."},
        {"content": [{"type": "image_url"}]},
        {"content": "x"},
        {"tool_calls": CALLS[:1]},
        {"function_call": CALLS[0]["function"]},
    )
    for row in more:
        with pytest.raises(InvalidRequest) as caught:
            parsed({"input_type": "request", "structured_messages": [*rows, row]})
        reason = "may have at most 3000 parts, tool calls and refusals together"
        assert caught.value.faults == (("structured_messages", reason),)


def test_an_error_says_that_nothing_may_pass() -> None:
    body = json.loads(litellm.error_body(to_problem(InvalidRequest("is required", field="texts")), None))
    assert body == {
        "action": "BLOCKED",
        "blocked_reason": "is required",
        "errors": [{"field": "texts", "reason": "is required"}],
    }
