"""A pull asks for what fits, reports every time-out alike, and takes a refusal for an empty pull."""

from __future__ import annotations

from typing import Any

import pytest
from nats.aio.msg import Msg
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js.errors import APIError

from app.messaging import pulling
from app.messaging.pulling import PULL_BYTES, SteadyPull


class Pull:
    """Gives what a test prepared, and notes how many messages each pull asked for."""

    def __init__(self, *answers: list[Msg] | BaseException) -> None:
        self.answers = list(answers)
        self.asked: list[int] = []

    async def fetch(self, *, batch: int, timeout: float | None) -> list[Msg]:  # noqa: ASYNC109 - the client's signature
        self.asked.append(batch)
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


def message(size: int) -> Msg:
    return Msg(_client=None, data=b"x" * size)  # type: ignore[arg-type]


def steady(*answers: Any) -> tuple[SteadyPull, Pull]:
    pull = Pull(*answers)
    return SteadyPull(pull), pull  # type: ignore[arg-type]


async def test_the_first_pull_is_small_and_later_ones_grow_with_what_is_seen() -> None:
    wrapped, pull = steady(*([message(1000)] for _ in range(60)))
    for _ in range(60):
        await wrapped.fetch(batch=1000)
    assert pull.asked[0] == PULL_BYTES // pulling.LARGEST_MESSAGE_BYTES
    assert pull.asked == sorted(pull.asked)
    assert pull.asked[-1] == 1000


async def test_large_messages_make_the_next_pull_small() -> None:
    wrapped, pull = steady(*([message(100)] for _ in range(60)), [message(900_000)], [])
    for _ in range(62):
        await wrapped.fetch(batch=1000)
    assert pull.asked[-1] == PULL_BYTES // 900_000


@pytest.mark.parametrize("failure", [TimeoutError(), NatsTimeoutError(), APIError(code=409)])
async def test_every_empty_pull_looks_the_same(failure: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulling, "MISSING_PAUSE_S", 0.0)
    wrapped, _ = steady(failure)
    with pytest.raises(NatsTimeoutError):
        await wrapped.fetch(batch=10)
