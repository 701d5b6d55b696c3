"""A chat as a request: exactly one of text and messages, its shape, its limits, and what travels of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.chat import ChatMessage, Role
from app.contracts import GuardRequest, Source
from app.errors import InvalidRequest
from app.messaging import chats
from app.validation import parse

SECRET = "kappa-omega"


def parsed(body: dict[str, Any], limit: int = 1000) -> GuardRequest:
    return parse(GuardRequest, json.dumps(body).encode(), text_limit=limit)


def chat(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"messages": list(messages), **fields}


def user(content: Any, **fields: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **fields}


@pytest.mark.parametrize(
    ("body", "field", "reason"),
    [
        ({}, "text", "is required"),
        (chat(user("a"), text=SECRET), "text", "cannot be given beside messages"),
        (chat(), "messages", "at least 1 item"),
        (chat({"role": "system", "content": SECRET}), "messages", "not blank"),
        (chat(user(" ")), "messages", "not blank"),
        (chat(user([{"type": "image_url", "image_url": {"url": SECRET}}])), "messages", "not blank"),
        (chat(user(SECRET * 100)), "messages", "at most 1000 characters"),
        (chat({"role": SECRET, "content": "a"}), "messages.0.role", "'assistant'"),
        (chat({"content": "a"}), "messages.0.role", "is required"),
        (chat(user(3)), "messages.0.content.text", "string"),
        (chat(user([{"type": "text"}])), "messages.0.content.parts.0", "must have a text"),
        (chat(user("a"), judge="some"), "judge", "'all' or 'last'"),
    ],
)
def test_what_is_no_chat_is_refused_by_the_name_of_its_field(body: dict[str, Any], field: str, reason: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parsed(body)
    reasons = dict(refused.value.faults)
    assert reason in reasons[field]
    assert SECRET not in str(refused.value.faults)


def test_all_texts_count_together() -> None:
    messages = [user("a" * 40), user("b" * 40)]
    assert parsed(chat(*messages), 82).whole_text == "a" * 40 + "\n\n" + "b" * 40
    with pytest.raises(InvalidRequest):
        parsed(chat(*messages), 81)


def test_too_many_messages_are_refused_before_anything_is_published() -> None:
    request = parsed(chat(*[user("a")] * 3))
    assert len(chats.lean(request, 3).messages or []) == 3
    with pytest.raises(InvalidRequest) as refused:
        chats.lean(request, 2)
    assert refused.value.field == "messages"


def test_only_texts_travel_and_kinds_of_what_is_not_read() -> None:
    picture = {"type": "image_url", "image_url": {"url": SECRET}}
    asked = chat(
        user([{"type": "text", "text": "what is this", "cache": SECRET}, picture], name=SECRET),
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": SECRET}}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}], "tool_calls": None},
    )
    request = chats.lean(parsed(asked), 10)
    written = request.model_dump_json()
    assert SECRET not in written
    assert parse(GuardRequest, written.encode(), text_limit=1000) == request
    assert request.messages is not None
    assert [message.texts for message in request.messages] == [["what is this"], [], ["no"]]
    assert [message.not_judged for message in request.messages] == [["image_url", "name"], ["tool_calls"], []]


def test_a_part_whose_fields_hold_nothing_is_named_as_not_judged() -> None:
    picture = {"type": "image_url", "image_url": {"url": SECRET}, "text": None, "input": None, "content": None}
    message = ChatMessage.model_validate(user([{"type": "text", "text": "what is this"}, picture]))
    assert message.not_judged == message.lean().not_judged == ["image_url"]


@pytest.mark.parametrize("role", Role)
def test_who_speaks_is_not_read_and_named_so_and_which_function_answered_is_not(role: Role) -> None:
    message = ChatMessage.model_validate({"role": role, "content": "a", "name": SECRET})
    assert message.not_judged == ([] if role in (Role.TOOL, Role.FUNCTION) else ["name"])
    assert message.lean().not_judged == message.not_judged
    assert SECRET not in message.lean().model_dump_json()
    assert ChatMessage.model_validate({"role": role, "content": "a", "name": ""}).not_judged == []


def test_the_last_role_says_where_a_chat_comes_from() -> None:
    def origin(*roles: str) -> Source:
        return parsed(chat(*({"role": role, "content": "a"} for role in roles))).origin

    assert origin("user") is Source.INPUT
    assert origin("user", "assistant") is Source.OUTPUT
    assert origin("user", "function") is Source.TOOL
    assert origin("user", "tool", "developer", "system") is Source.TOOL
    assert parsed({"text": "a", "source": "output"}).origin is Source.OUTPUT


def test_a_request_id_belongs_to_roles_and_texts() -> None:
    first = parsed(chat(user("a"), user("b"))).identity
    assert parsed(chat(user("a"), {"role": "assistant", "content": "b"})).identity != first
    assert parsed(chat(user("a\n\nb"))).identity != first
    assert parsed(chat(user(["a"] and [{"type": "text", "text": "a"}]), user("b", name="x"))).identity == first


def test_new_texts_come_back_in_the_shape_of_the_message() -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "low"}}
    message = ChatMessage.model_validate(
        user([{"type": "text", "text": "Anna", "cache_control": {"type": "ephemeral"}}, picture], name="caller")
    )
    lean = message.lean()
    assert isinstance(lean.content, list)
    content = [lean.content[0].with_words("<PERSON_1>"), lean.content[1]]
    assert json.loads(message.with_content(content).model_dump_json()) == user(
        [{"type": "text", "text": "<PERSON_1>", "cache_control": {"type": "ephemeral"}}, picture], name="caller"
    )
    assert json.loads(ChatMessage.model_validate(user("Anna")).with_content("x").model_dump_json()) == user("x")


@pytest.mark.parametrize("first", [["text"], ["image", "text"], ["text", "image"]])
@pytest.mark.parametrize("repeated", [["text"], ["image", "text"], ["text", "image"]])
def test_a_repeat_with_other_images_keeps_them_beside_the_texts_of_the_first(
    first: list[str], repeated: list[str]
) -> None:
    def message(kinds: list[str], text: str) -> dict[str, Any]:
        parts = {"text": {"type": "text", "text": text}, "image": {"type": "image_url", "image_url": {"url": "a"}}}
        return user([parts[kind] for kind in kinds])

    before, again = (ChatMessage.model_validate(message(kinds, "Anna")) for kinds in (first, repeated))
    sanitized = before.with_content("<PERSON_1>").content
    assert sanitized is not None
    assert json.loads(again.with_content(sanitized).model_dump_json()) == message(repeated, "<PERSON_1>")
    plain = ChatMessage.model_validate(user("Anna"))
    assert plain.with_content(sanitized).content == "<PERSON_1>"


def calls(*arguments: Any, **fields: Any) -> dict[str, Any]:
    named = [
        {"id": str(index), "type": "function", "function": {"name": "mail", "arguments": each}}
        for index, each in enumerate(arguments)
    ]
    return {"role": "assistant", "content": None, "tool_calls": named, **fields}


def test_arguments_travel_and_names_and_ids_do_not() -> None:
    anthropic = [{"type": "tool_use", "id": SECRET, "name": SECRET, "input": {"to": "anna", "n": 1}}]
    first = {"role": "assistant", "function_call": {"name": SECRET, "arguments": '{"q": "x"}'}}
    custom = {
        "role": "assistant",
        "tool_calls": [{"id": SECRET, "type": "custom", "custom": {"input": "a plain text"}}],
    }
    asked = chat(calls('{"to": "anna"}'), {"role": "assistant", "content": anthropic}, first, custom)
    request = chats.lean(parsed(asked), 10)
    written = request.model_dump_json(exclude_unset=True)
    assert SECRET not in written
    assert parse(GuardRequest, written.encode(), text_limit=1000).messages == request.messages
    assert request.identity == parsed(asked).identity
    assert [[call.path for call in message.calls] for message in request.messages or []] == [
        ["tool_calls.0.function.arguments"],
        ["content.0.input"],
        ["function_call.arguments"],
        ["tool_calls.0.custom.input"],
    ]
    assert [message.not_judged for message in request.messages or []] == [[], [], [], []]
    assert request.whole_text == "\n\nanna\n\n\n\nanna\n\n\n\nx\n\n\n\na plain text"


@pytest.mark.parametrize(
    ("message", "kinds"),
    [
        ({"role": "assistant", "tool_calls": [{"name": "mail", "args": {"to": "anna"}}]}, ["tool_calls"]),
        ({"role": "assistant", "tool_calls": [{"function": {"name": "mail"}}]}, ["tool_calls"]),
        ({"role": "assistant", "function_call": {"name": "mail"}}, ["function_call"]),
        ({"role": "assistant", "content": [{"type": "tool_use", "name": "mail"}]}, ["tool_use"]),
        (calls("", None, {}), []),
    ],
)
def test_a_call_whose_arguments_stand_elsewhere_is_named_as_not_judged(
    message: dict[str, Any], kinds: list[str]
) -> None:
    request = chats.lean(parsed(chat(user("a"), message)), 10)
    assert (request.messages or [])[1].not_judged == kinds


@pytest.mark.parametrize(
    ("body", "field", "reason"),
    [
        (chat(calls(json.dumps({"a": "x" * 1001}))), "messages", "at most 1000 characters"),
        (chat(calls(json.dumps({"k" * 300: ["x"] * 4}))), "messages", "at most 1000 characters"),
        (chat(calls("{}")), "messages", "not blank"),
        (
            chat(calls("[" * 40 + "]" * 40)),
            "messages.0.tool_calls.0.function.arguments",
            "deeper than 32",
        ),
        (chat({"role": "assistant", "tool_calls": SECRET}), "messages.0.tool_calls", "valid array"),
        (
            chat({"role": "assistant", "tool_calls": [{"function": SECRET}]}),
            "messages.0.tool_calls.0.function",
            "an object",
        ),
    ],
)
def test_arguments_are_bounded_as_other_texts_are(body: dict[str, Any], field: str, reason: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parsed(body)
    assert reason in dict(refused.value.faults)[field]
    assert SECRET not in str(refused.value.faults)


def test_texts_of_a_chat_are_counted_with_those_of_arguments() -> None:
    with pytest.raises(InvalidRequest) as refused:
        parsed(chat(user([{"type": "text", "text": "a"}] * 1500), calls(["x"] * 501)), 100_000)
    assert "at most 2000 texts" in dict(refused.value.faults)["messages"]
    assert parsed(chat(user([{"type": "text", "text": "a"}] * 1500), calls(["x"] * 500)), 100_000)


def test_tool_calls_are_counted_as_messages_are() -> None:
    request = parsed(chat(calls("a", "b", "c")))
    assert chats.lean(request, 3).messages
    with pytest.raises(InvalidRequest) as refused:
        chats.lean(request, 2)
    assert "2 tool calls and results" in refused.value.message


def test_a_request_id_belongs_to_arguments_too() -> None:
    first = parsed(chat(calls('{"to": "a"}'))).identity
    assert parsed(chat(calls('{"cc": "a"}'))).identity != first
    assert parsed(chat(calls('{"to": "a"}', name="x"))).identity == first


REFUSING = {
    "role": "assistant",
    "content": [
        {"type": "text", "text": "I may not.", "refusal": '{"Anna": 1}'},
        {"type": "refusal", "refusal": "No."},
    ],
    "refusal": "Ask Anna",
    "name": SECRET,
}


def test_a_refusal_beside_a_text_is_read_as_one_of_its_own() -> None:
    request = chats.lean(parsed(chat(user("a"), REFUSING)), 10)
    written = request.model_dump_json(exclude_unset=True)
    assert SECRET not in written
    assert parse(GuardRequest, written.encode(), text_limit=1000).messages == request.messages
    message = (request.messages or [])[1]
    assert message.texts == ["I may not.", "No."]
    assert [(call.path, [each.text for each in call.texts]) for call in message.calls] == [
        ("content.0.refusal", ['{"Anna": 1}']),
        ("refusal", ["Ask Anna"]),
    ]
    assert message.not_judged == ["name"]
    assert request.identity == parsed(chat(user("a"), REFUSING)).identity
    assert request.identity != parsed(chat(user("a"), REFUSING | {"refusal": "Ask Eve"})).identity
    new = ChatMessage.model_validate(REFUSING).with_arguments({"content.0.refusal": ["<1>"], "refusal": ["<2>"]})
    first, second = REFUSING["content"]  # type: ignore[misc]
    assert json.loads(new.model_dump_json()) == REFUSING | {
        "content": [first | {"refusal": "<1>"}, second],  # type: ignore[operator]
        "refusal": "<2>",
    }


@pytest.mark.parametrize(
    ("refusal", "kinds"), [(None, []), ("", []), (True, ["refusal"]), ({"a": SECRET}, ["refusal"])]
)
def test_a_refusal_that_is_no_text_is_named_as_not_judged(refusal: Any, kinds: list[str]) -> None:
    request = chats.lean(parsed(chat(user("a", refusal=refusal))), 10)
    assert (request.messages or [])[0].not_judged == kinds
    assert SECRET not in request.model_dump_json()
