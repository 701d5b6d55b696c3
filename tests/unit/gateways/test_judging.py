"""Several texts have one outcome, each text is decided once, and a block stands whatever happens to the others."""

from __future__ import annotations

import asyncio

import pytest

from app.chat import ChatMessage, Role
from app.contracts import GuardAnswer, GuardRequest, Source, Verdict
from app.errors import InvalidRequest, Overloaded
from app.gateways.judging import Piece, Terms, is_blocked, judge_all, source_of, text_parts, to_chat, to_requests
from tests.unit.gateways.answers import answer

TERMS = Terms(text_limit=10, messages_limit=3, deadline_ms=4000)
KNOWN: dict[str, GuardAnswer | Exception] = {
    "fine": answer(),
    "attack": answer(Verdict.BLOCKED),
    "late": Overloaded(),
}


def requests(*texts: str) -> list[GuardRequest]:
    return to_requests([Piece(text, Source.INPUT) for text in texts], TERMS, field="texts", metadata={})


async def judge(request: GuardRequest) -> GuardAnswer:
    known = KNOWN[request.text]
    if isinstance(known, Exception):
        raise known
    return known


async def test_answers_come_in_the_order_of_the_texts() -> None:
    decisions = [each.decision for each in await judge_all(judge, requests("fine", "attack", "fine")) if each]
    assert decisions == [Verdict.ALLOWED, Verdict.BLOCKED, Verdict.ALLOWED]


async def test_the_same_text_is_decided_once_and_all_are_decided_side_by_side() -> None:
    asked: list[str] = []
    everyone_asked = asyncio.Event()

    async def slow(request: GuardRequest) -> GuardAnswer:
        asked.append(request.text)
        if len(asked) == 2:
            everyone_asked.set()
        await asyncio.wait_for(everyone_asked.wait(), 5)
        return answer()

    assert len(await judge_all(slow, requests("a", "b", "a", "a"))) == 4
    assert sorted(asked) == ["a", "b"]


async def test_a_block_stands_when_another_text_could_not_be_decided() -> None:
    answers = await judge_all(judge, requests("late", "attack", "fine"))
    assert is_blocked(answers)
    assert answers[0] is None


async def test_what_could_not_be_decided_is_not_let_through() -> None:
    with pytest.raises(Overloaded):
        await judge_all(judge, requests("fine", "late"))


async def test_nothing_to_judge_is_no_answer() -> None:
    assert await judge_all(judge, []) == []


def test_blank_texts_and_those_that_stay_make_no_request() -> None:
    pieces = [Piece("", Source.INPUT), Piece(" \n", Source.INPUT), Piece("orders", None), Piece("x", Source.TOOL)]
    made = to_requests(pieces, TERMS, field="texts", metadata={"a": 1}, policy="strict")
    assert [(each.text, each.source, each.deadline_ms, each.policy) for each in made] == [
        ("x", Source.TOOL, 4000, "strict")
    ]


def test_a_text_that_is_too_long_is_named_by_its_place() -> None:
    with pytest.raises(InvalidRequest) as caught:
        to_requests([Piece("x", Source.INPUT), Piece("y" * 11, Source.INPUT)], TERMS, field="messages", metadata={})
    assert caught.value.faults == (("messages.1", "must be at most 10 characters, not 11"),)
    assert "yy" not in caught.value.message


def chat(*messages: tuple[Role, str]) -> GuardRequest | None:
    return to_chat([ChatMessage(role=role, content=text) for role, text in messages], TERMS, metadata={"a": 1})


def test_a_chat_is_one_request() -> None:
    made = chat((Role.SYSTEM, "Be brief"), (Role.USER, ""))
    assert made is None
    made = chat((Role.SYSTEM, "Hm"), (Role.USER, "Hi"))
    assert made is not None
    assert [message.content for message in made.messages or []] == ["Hm", "Hi"]
    assert (made.deadline_ms, made.metadata) == (4000, {"a": 1})


@pytest.mark.parametrize("messages", [[(Role.USER, "a")] * 4, [(Role.USER, "abcd"), (Role.USER, "abcde")], []])
def test_what_is_too_large_for_a_chat_is_none(messages: list[tuple[Role, str]]) -> None:
    assert chat(*messages) is None


async def test_chats_are_told_apart_by_what_they_say() -> None:
    asked: list[GuardRequest] = []

    async def keep(request: GuardRequest) -> GuardAnswer:
        asked.append(request)
        return answer()

    made = [chat((Role.USER, text)) for text in ("a", "b", "a")]
    assert len(await judge_all(keep, [each for each in made if each])) == 3
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("role", "judges_operator", "source"),
    [
        ("user", False, Source.INPUT),
        ("assistant", False, Source.OUTPUT),
        ("Tool", False, Source.TOOL),
        ("function", False, Source.TOOL),
        ("system", False, None),
        ("developer", False, None),
        ("System", True, Source.INPUT),
        ("whoever", False, Source.INPUT),
    ],
)
def test_each_role_is_judged_as_what_it_is(role: str, judges_operator: bool, source: Source | None) -> None:
    assert source_of(role, judges_operator=judges_operator) is source


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ("one", ["one"]),
        ([{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "x"}}, {"text": "b"}], ["a", "b"]),
        ([{"type": "text", "text": 5}, "loose"], ["loose"]),
        (None, []),
        ({"text": "no list"}, []),
    ],
)
def test_texts_of_a_message(content: object, texts: list[str]) -> None:
    assert text_parts(content) == texts  # type: ignore[arg-type]
