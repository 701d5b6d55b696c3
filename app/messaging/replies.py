"""Answers to callers: plain messages to their inbox, told apart by content type."""

from __future__ import annotations

from typing import Final

from faststream.nats import NatsBroker

from app.contracts import GuardAnswer, Problem
from app.problems import MEDIA_TYPE
from app.topology import Header

ANSWER_HEADERS: Final = {str(Header.CONTENT_TYPE): "application/json"}
PROBLEM_HEADERS: Final = {str(Header.CONTENT_TYPE): MEDIA_TYPE}


async def send_answer(broker: NatsBroker, inbox: str, answer: GuardAnswer) -> None:
    await broker.publish(answer.model_dump_json().encode(), inbox, headers=ANSWER_HEADERS)


async def send_problem(broker: NatsBroker, inbox: str, problem: Problem) -> None:
    await broker.publish(problem.model_dump_json().encode(), inbox, headers=PROBLEM_HEADERS)
