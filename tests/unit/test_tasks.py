"""A background task that swallows a cancellation is ended all the same."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from app import tasks


async def test_a_swallowed_cancellation_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "AGAIN_S", 0.01)

    async def swallow_twice() -> None:
        for _ in range(2):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        await asyncio.Event().wait()

    task = asyncio.create_task(swallow_twice())
    await asyncio.sleep(0)
    await tasks.end([task])
    assert task.cancelled()


async def test_a_task_that_cannot_be_ended_is_named_and_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tasks, "AGAIN_S", 0.001)
    release = asyncio.Event()

    async def never_end() -> None:
        while not release.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await release.wait()

    task = asyncio.create_task(never_end(), name="stubborn")
    await asyncio.sleep(0)
    await tasks.end([task])
    assert "stubborn" in caplog.text
    release.set()
    await task
