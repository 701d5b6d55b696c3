"""A chat's decision gives back the chat to use, and none where it cannot be told what of it may be used."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from app.client import Blocked, Client, Decision
from app.client.calls import request_of

CHAT = [{"role": "user", "content": "a", "name": "u1"}, {"role": "assistant", "content": "b"}]


def decision(verdict: str, **fields: Any) -> Decision:
    return Decision.model_validate({"request_id": uuid4(), "decision": verdict, **fields})


def of_message(index: int, verdict: str, content: Any = None) -> dict[str, Any]:
    role = CHAT[index]["role"]
    return {"index": index, "role": role, "judged": True, "decision": verdict, "sanitized_content": content}


def test_a_chat_is_used_as_it_is_or_as_it_came_back() -> None:
    assert decision("ALLOWED").apply_to(CHAT) == CHAT
    assert decision("SANITIZED", sanitized_messages=[{"role": "user", "content": "x"}]).apply_to(CHAT) == [
        {"role": "user", "content": "x"}
    ]
    read_again = decision("SANITIZED", messages=[of_message(0, "SANITIZED", "x"), of_message(1, "ALLOWED")])
    assert read_again.apply_to(CHAT) == [{**CHAT[0], "content": "x"}, CHAT[1]]


def test_parts_that_the_guard_does_not_give_back_stay_in_a_chat_that_is_read_again() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    text = {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}
    chat = [{"role": "user", "content": [image, text]}]
    content = [{"type": "image_url"}, {"type": "text", "text": "x"}]
    read_again = decision("SANITIZED", messages=[of_message(0, "SANITIZED", content)])
    assert read_again.apply_to(chat) == [{"role": "user", "content": [image, {**text, "text": "x"}]}]
    for other in ("a", [text], None):
        with pytest.raises(Blocked):
            read_again.apply_to([{"role": "user", "content": other}])


CALLING = [{"path": "tool_calls.0.function.arguments", "decision": "SANITIZED"}]


@pytest.mark.parametrize(
    "messages",
    [
        None,
        [of_message(0, "SANITIZED", "x")],
        [of_message(0, "SANITIZED"), of_message(1, "ALLOWED")],
        [of_message(0, "ALLOWED"), of_message(1, "SANITIZED", "x") | {"arguments": CALLING}],
    ],
    ids=["none", "one missing", "no content", "arguments"],
)
def test_what_cannot_be_told_is_blocked(messages: Any) -> None:
    with pytest.raises(Blocked):
        decision("SANITIZED", messages=messages).apply_to(CHAT)
    with pytest.raises(Blocked):
        decision("BLOCKED").apply_to(CHAT)


def test_a_request_has_a_text_or_messages() -> None:
    assert request_of(None, {"judge": "last"}, CHAT).items() >= {"messages": CHAT, "judge": "last"}.items()
    with Client("http://127.0.0.1:9", on_failure="allow") as guard:
        for arguments in ({}, {"text": "a", "messages": CHAT}):
            with pytest.raises(TypeError, match="either a text or messages"):
                guard.guard(**arguments)  # type: ignore[arg-type]
