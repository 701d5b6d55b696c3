"""A stream's way to the guard and back, for asyncio: over a connection of its own."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from typing import Protocol

from .exchange import Lost, Reply
from .streaming import READ_BYTES, Event, HttpStream


class Channel(Protocol):
    async def open(self, opening: bytes, timeout_s: float) -> Reply | Lost | None:
        """Open a stream; return why it is not open, None where it is."""
        ...

    async def send(self, chunk: bytes) -> None:
        """Send a chunk; where that fails, `event` tells why."""
        ...

    async def finish(self) -> None: ...

    async def event(self) -> Event | Reply | Lost: ...

    async def close(self) -> None: ...


class HttpChannel:
    def __init__(self, exchange: HttpStream, tls: ssl.SSLContext | None) -> None:
        self._exchange = exchange
        self._tls = tls
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._heard: deque[Event | Reply | Lost] = deque()

    async def open(self, opening: bytes, timeout_s: float) -> Reply | Lost | None:
        try:
            async with asyncio.timeout(timeout_s):
                tls = (self._tls or ssl.create_default_context()) if self._exchange.address.scheme == "https" else None
                self._reader, self._writer = await asyncio.open_connection(
                    self._exchange.host, self._exchange.port, ssl=tls
                )
                await self._write(self._exchange.begin(opening))
                first = await self.event()
        except (OSError, TimeoutError) as error:
            return Lost(type(error).__name__)
        return first if isinstance(first, Reply | Lost) else None

    async def send(self, chunk: bytes) -> None:
        await self._write(self._exchange.chunk(chunk))

    async def finish(self) -> None:
        await self._write(self._exchange.finish())

    async def event(self) -> Event | Reply | Lost:
        while not self._heard:
            if self._reader is None or self._exchange.over:
                return Lost("the connection is closed")
            try:
                self._heard += self._exchange.hear(await self._reader.read(READ_BYTES))
            except OSError as error:
                return Lost(type(error).__name__)
        return self._heard.popleft()

    async def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()

    async def _write(self, content: bytes) -> None:
        if self._writer is None or self._exchange.over:
            return
        with contextlib.suppress(OSError):
            self._writer.write(content)
            await self._writer.drain()
