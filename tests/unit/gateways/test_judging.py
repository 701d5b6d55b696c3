"""Several texts have one outcome, each text is decided once, and a block stands whatever happens to the others."""

from __future__ import annotations

import asyncio

import pytest

from app.contracts import GuardAnswer, GuardRequest, Source, Verdict
from app.errors import InvalidRequest, Overloaded
from app.gateways.judging import Piece, is_blocked, judge_all, source_of, text_parts, to_requests
from tests.unit.gateways.answers import answer

KNOWN: dict[str, GuardAnswer | Exception] = {
    "fine": answer(),
    "attack": answer(Verdict.BLOCKED),
    "late": Overloaded(),
}


def requests(*texts: str) -> list[GuardRequest]:
    return to_requests(
        [Piece(text, Source.INPUT) for text in texts], field="texts", text_limit=100, deadline_ms=4000, metadata={}
    )


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
    made = to_requests(pieces, field="texts", text_limit=10, deadline_ms=4000, metadata={"a": 1}, policy="strict")
    assert [(each.text, each.source, each.deadline_ms, each.policy) for each in made] == [
        ("x", Source.TOOL, 4000, "strict")
    ]


def test_a_text_that_is_too_long_is_named_by_its_place() -> None:
    with pytest.raises(InvalidRequest) as caught:
        to_requests(
            [Piece("x", Source.INPUT), Piece("y" * 11, Source.INPUT)],
            field="messages",
            text_limit=10,
            deadline_ms=1,
            metadata={},
        )
    assert caught.value.faults == (("messages.1", "must be at most 10 characters, not 11"),)
    assert "yy" not in caught.value.message


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
        ([{"type": "text", "text": 5}, "loose"], []),
        (None, []),
        ({"text": "no list"}, []),
    ],
)
def test_texts_of_a_message(content: object, texts: list[str]) -> None:
    assert text_parts(content) == texts  # type: ignore[arg-type]
