"""The pieces of an answer that may be shown, one after the other, for the asynchronous and the blocking client."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import Final

from .channels import Channel
from .errors import NoAnswer, NoDecision
from .exchange import AGAIN, Lost, Reply
from .patience import Attempts, Patience, retry_after_s
from .streaming import READ_BYTES, Event, HttpStream, Telling, chunks_of
from .types import Decision, OnFailure

logger: Final = logging.getLogger("vigil_guard")

LATE: Final = "the verdict did not come in time"


class _Stream:
    """What both kinds know of one answer."""

    def __init__(self, telling: Telling, patience: Patience, on_failure: OnFailure) -> None:
        self._telling = telling
        self._patience = patience
        self._on_failure = on_failure

    @property
    def decision(self) -> Decision | None:
        """The decision on the whole answer; None before the end, and where the rule let the answer pass."""
        return self._telling.decision

    def _passes(self, error: NoAnswer) -> None:
        """Let an answer pass whose stream could not be opened, where that is the rule.

        Raises:
            NoAnswer, Blocked: it is not.
        """
        if self._on_failure != "allow":
            raise self._telling.by_rule(error, self._on_failure) from None
        logger.warning("no answer of the guard (%s): a stream passes by rule", type(error).__name__)


class AsyncStream(_Stream):
    """The pieces to show, to be read once; `decision` is there after the last."""

    def __init__(
        self,
        chunks: AsyncIterable[str] | Iterable[str],
        telling: Telling,
        channel: Callable[[], Channel],
        patience: Patience,
        on_failure: OnFailure,
    ) -> None:
        super().__init__(telling, patience, on_failure)
        self._chunks = chunks
        self._channel = channel
        self._pieces = self._read()

    def __aiter__(self) -> AsyncIterator[str]:
        return self._pieces

    async def _read(self) -> AsyncIterator[str]:
        try:
            channel = await self._opened()
        except NoAnswer as error:
            self._passes(error)
            async for chunk in _each(self._chunks):
                yield chunk
            return
        sending = asyncio.create_task(self._send(channel))
        try:
            while self._telling.decision is None:
                piece = self._telling.hear(await self._next(channel, sending))
                if piece:
                    yield piece
        except NoAnswer as error:
            raise self._telling.by_rule(error, self._on_failure) from None
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            await channel.close()

    async def _opened(self) -> Channel:
        attempts = Attempts(self._patience)
        while True:
            attempts.sent += 1
            channel = self._channel()
            timeout_s = attempts.timeout_s(attempts.deadline_ms())
            try:
                refused = await channel.open(self._telling.opening, timeout_s)
            except BaseException:  # A caller that is cancelled leaves no connection, and no subscription, behind.
                await channel.close()
                raise
            if refused is None:
                return channel
            await channel.close()
            await asyncio.sleep(_pause_s(refused, attempts, self._telling))

    async def _send(self, channel: Channel) -> None:
        async for piece in _each(self._chunks):
            for chunk in chunks_of(piece):
                await channel.send(chunk)
        await channel.finish()

    async def _next(self, channel: Channel, sending: asyncio.Task[None]) -> Event | Reply | Lost:
        coming = asyncio.ensure_future(channel.event())
        try:
            if not sending.done():
                await asyncio.wait({coming, sending}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()  # What the caller's own chunks raised.
                await asyncio.wait({coming}, timeout=self._patience.budget_s)
            if not coming.done():
                raise NoDecision(LATE, request_id=self._telling.request_id)
            return coming.result()
        finally:
            coming.cancel()


class BlockingStream(_Stream):
    """The pieces to show, to be read once; `decision` is there after the last."""

    def __init__(
        self,
        chunks: Iterable[str],
        telling: Telling,
        exchange: Callable[[], HttpStream],
        tls: ssl.SSLContext | None,
        patience: Patience,
        on_failure: OnFailure,
    ) -> None:
        super().__init__(telling, patience, on_failure)
        self._chunks = chunks
        self._exchange = exchange
        self._tls = tls
        self._pieces = self._read()

    def __iter__(self) -> Iterator[str]:
        return self._pieces

    def _read(self) -> Iterator[str]:
        try:
            line = self._opened()
        except NoAnswer as error:
            self._passes(error)
            yield from self._chunks
            return
        try:
            for piece in self._chunks:
                for chunk in chunks_of(piece):
                    line.write(line.exchange.chunk(chunk))
                yield from self._told(line.heard())
                if self._telling.decision is not None:
                    return
            line.write(line.exchange.finish())
            until = time.monotonic() + self._patience.budget_s
            while self._telling.decision is None:
                if (left_s := until - time.monotonic()) <= 0:
                    raise NoDecision(LATE, request_id=self._telling.request_id)
                yield from self._told(line.heard(left_s))
        except NoAnswer as error:
            raise self._telling.by_rule(error, self._on_failure) from None
        finally:
            line.close()

    def _told(self, heard: Iterable[Event | Reply | Lost]) -> Iterator[str]:
        for event in heard:
            piece = self._telling.hear(event)
            if piece:
                yield piece
            if self._telling.decision is not None:
                return

    def _opened(self) -> Line:
        attempts = Attempts(self._patience)
        while True:
            attempts.sent += 1
            line = Line(self._exchange(), self._tls)
            refused = line.open(self._telling.opening, attempts.timeout_s(attempts.deadline_ms()))
            if refused is None:
                return line
            line.close()
            time.sleep(_pause_s(refused, attempts, self._telling))


class Line:
    """A blocking connection for one stream: what came is looked at after each chunk, so that no thread is needed."""

    def __init__(self, exchange: HttpStream, tls: ssl.SSLContext | None) -> None:
        self.exchange = exchange
        self._tls = tls
        self._socket: socket.socket | None = None
        self._timeout_s = 0.0
        self._early: deque[Event | Reply | Lost] = deque()

    def open(self, opening: bytes, timeout_s: float) -> Reply | Lost | None:
        """Open a stream; return why it is not open, None where it is."""
        self._timeout_s = timeout_s
        try:
            self._socket = socket.create_connection((self.exchange.host, self.exchange.port), timeout=timeout_s)
            if self.exchange.address.scheme == "https":
                tls = self._tls or ssl.create_default_context()
                self._socket = tls.wrap_socket(self._socket, server_hostname=self.exchange.host)
            self._socket.sendall(self.exchange.begin(opening))
            until = time.monotonic() + timeout_s
            while not self._early and (left_s := until - time.monotonic()) > 0:
                self._early += self.heard(left_s)
        except OSError as error:
            return Lost(type(error).__name__)
        first = self._early.popleft() if self._early else Lost("nothing came")
        return first if isinstance(first, Reply | Lost) else None

    def write(self, content: bytes) -> None:
        """Send; where that fails, what is heard tells why."""
        if self._socket is not None and not self.exchange.over:
            self._socket.settimeout(self._timeout_s)
            try:
                self._socket.sendall(content)
            except OSError:
                return

    def heard(self, wait_s: float = 0.0) -> list[Event | Reply | Lost]:
        """Return what came; wait so long for something."""
        early = [*self._early]
        self._early.clear()
        if self._socket is None or self.exchange.over:
            return early or [Lost("the connection is closed")]
        self._socket.settimeout(0.0 if early else wait_s)
        try:
            return early + self.exchange.hear(self._socket.recv(READ_BYTES))
        except (BlockingIOError, TimeoutError, ssl.SSLWantReadError):
            return early
        except OSError as error:
            return [*early, Lost(type(error).__name__)]

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()


def _pause_s(refused: Reply | Lost, attempts: Attempts, telling: Telling) -> float:
    """Return how long to wait before the next try.

    Raises:
        GuardError: there is none.
    """
    if isinstance(refused, Lost) or refused.status in AGAIN:
        asked_s = retry_after_s(refused.headers.get("retry-after")) if isinstance(refused, Reply) else None
        pause_s = attempts.pause_s(asked_s)
        if pause_s is not None:
            return pause_s
    telling.hear(refused)
    raise AssertionError("unreachable: what was refused is raised")


async def _each(chunks: AsyncIterable[str] | Iterable[str]) -> AsyncIterator[str]:
    if isinstance(chunks, AsyncIterable):
        async for chunk in chunks:
            yield chunk
    else:
        for chunk in chunks:
            yield chunk
            await asyncio.sleep(0)  # So that what comes back is read meanwhile.
