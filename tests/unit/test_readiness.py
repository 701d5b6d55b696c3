"""Readiness costs one look however many ask, and nobody's leaving ends it."""

from __future__ import annotations

import asyncio

import pytest

from app.contracts import Readiness
from app.readiness import KEPT_S, SharedReadiness

READY = Readiness(ready=True, checks={})


class Parts:
    """What is looked at: answers once it may."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.looks = 0
        self.may = asyncio.Event()
        self.readiness = SharedReadiness(self.look, lambda: self.now_s)

    async def look(self) -> Readiness:
        self.looks += 1
        await self.may.wait()
        return READY


async def test_all_who_ask_at_once_share_one_look() -> None:
    parts = Parts()
    asked = [asyncio.create_task(parts.readiness()) for _ in range(100)]
    await asyncio.sleep(0)
    parts.may.set()
    assert await asyncio.gather(*asked) == [READY] * 100
    assert parts.looks == 1


async def test_an_answer_is_given_again_for_a_while_and_then_looked_for_anew() -> None:
    parts = Parts()
    parts.may.set()
    for parts.now_s in (0.0, KEPT_S - 0.01):
        await parts.readiness()
    assert parts.looks == 1
    parts.now_s = KEPT_S
    await parts.readiness()
    assert parts.looks == 2


async def test_who_goes_away_takes_the_answer_from_nobody() -> None:
    parts = Parts()
    leaving, staying = asyncio.create_task(parts.readiness()), asyncio.create_task(parts.readiness())
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    parts.may.set()
    assert await staying == READY
