"""Drives a stream from whatever brings its chunks to whatever takes its events, within its time limits."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from app.errors import StreamIdle, StreamLost, VigilError
from app.problems import to_problem
from app.settings import StreamSettings
from app.stream_contracts import StreamEvent, StreamProblem
from app.streaming.session import StreamSession
from app.telemetry import metrics

logger: Final = logging.getLogger("vigil.streaming")

Chunk = str | bytes
Receive = Callable[[], Awaitable[Chunk | None]]
"""Waits for the next chunk; None is the end of the answer."""
Emit = Callable[[StreamEvent], Awaitable[None]]


class CallerGone(Exception):
    """Nobody takes the events any more."""


async def drive(
    session: StreamSession,
    receive: Receive,
    emit: Emit,
    limits: StreamSettings,
    stopping: asyncio.Future[Any] | None = None,
) -> bool:
    """Judge a stream to its end, and leave a record of it however it ends; return whether its caller took all events.

    Args:
        session: the stream.
        receive: brings its chunks; raises CallerGone when there is nobody to tell.
        emit: holds the next chunk back until the caller has taken the event; raises CallerGone likewise. Errors become
            the last event.
        limits: times.
        stopping: done once this process stops. The stream is then lost where it would wait for a chunk, and a caller
            who does not take its events at once counts as gone.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + limits.deadline_s

    async def tell(event: StreamEvent) -> None:
        telling = asyncio.ensure_future(emit(event))
        try:
            await _wait(telling, limits.idle_timeout_s, stopping)
            if not telling.done():
                raise CallerGone
            telling.result()
        finally:
            telling.cancel()

    try:
        while not session.ended:
            chunk = await _next(session, receive, tell, limits, deadline, stopping)
            came_at = loop.time()
            async for event in session.finish() if chunk is None else session.feed(chunk):
                await tell(event)
            if chunk is not None:
                metrics.CHUNK_SECONDS.observe(loop.time() - came_at)
    except CallerGone:
        await _abandon(session)
        return False
    except asyncio.CancelledError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, its message stays inside
        known = error if isinstance(error, VigilError) else VigilError()
        if known is not error:
            logger.error("a stream failed: %s", type(error).__name__)
        metrics.REQUEST_ERRORS.labels(known.code).inc()
        taken = False
        with contextlib.suppress(CallerGone):
            await tell(StreamProblem(problem=to_problem(known, request_id=session.request_id)))
            taken = True
        await _abandon(session)
        return taken
    return True


async def _wait(work: asyncio.Future[Any], timeout_s: float, stopping: asyncio.Future[Any] | None) -> None:
    """Return when the work is done, the time is over, or the process stops and the work is not done at once."""
    awaited = {work} if stopping is None else {work, stopping}
    await asyncio.wait(awaited, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)


async def _next(
    session: StreamSession,
    receive: Receive,
    tell: Emit,
    limits: StreamSettings,
    deadline: float,
    stopping: asyncio.Future[Any] | None,
) -> Chunk | None:
    """Wait for the next chunk; when it takes long, let out meanwhile what can be.

    Raises:
        StreamIdle: none came within the idle time, or before the stream's deadline.
        StreamLost: none has come and the process stops.
    """
    loop = asyncio.get_running_loop()
    coming = asyncio.ensure_future(receive())
    started = loop.time()
    try:
        await _wait(coming, limits.pause_s, stopping)
        if not coming.done():
            if stopping is not None and stopping.done():
                raise StreamLost
            async for event in session.pause():
                await tell(event)
            until = min(started + limits.idle_timeout_s, deadline)
            if not session.ended:
                await _wait(coming, max(until - loop.time(), 0), stopping)
        if session.ended:
            return None
        if not coming.done() and stopping is not None and stopping.done():
            raise StreamLost
        if not coming.done() or loop.time() > deadline:
            raise StreamIdle
        return coming.result()
    finally:
        coming.cancel()


async def _abandon(session: StreamSession) -> None:
    """Record what came of an answer that ends without a verdict."""
    try:
        await session.abandon()
    except VigilError as error:
        logger.warning("a stream that was given up left no record: %s", error.code)
