"""A small NATS client that sends what well-behaved ones refuse to: any bytes as subject, headers and payload."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

CONNECT = {"verbose": False, "pedantic": False, "headers": True, "no_responders": True, "lang": "fuzz", "version": "0"}


@dataclass(frozen=True, slots=True)
class RawMessage:
    subject: bytes
    payload: bytes
    headers: bytes | None = None
    """The whole block, its first line and its end included, as the sender likes it."""
    reply: bytes | None = None
    """Where the answer is wanted; an inbox of its own by default."""


@dataclass
class Outcomes:
    """What became of messages, by their number."""

    stored: dict[int, tuple[str, int]] = field(default_factory=dict)
    """Stream and sequence that acknowledged a message."""
    repeated: set[int] = field(default_factory=set)
    refused: dict[int, str] = field(default_factory=dict)
    answered: set[int] = field(default_factory=set)
    """Messages that a micro service answered."""

    @property
    def settled(self) -> int:
        return len(self.stored) + len(self.repeated) + len(self.refused) + len(self.answered)


class WireClient:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.outcomes = Outcomes()
        self.errors: list[str] = []
        self.closed = asyncio.Event()
        self._wanted = 0
        self._enough = asyncio.Event()

    @classmethod
    async def connect(cls, url: str) -> Self:
        server = urlsplit(url)
        client = cls(*await asyncio.open_connection(server.hostname, server.port, limit=2**22))
        await client._reader.readline()  # INFO
        told = CONNECT | {"auth_token": server.username}
        client._writer.write(b"CONNECT " + json.dumps(told).encode() + b"\r\nSUB _INBOX.fuzz.* 1\r\nPING\r\n")
        await client._writer.drain()
        client._task = asyncio.create_task(client._read())
        return client

    def send(self, number: int, message: RawMessage) -> None:
        reply = message.reply if message.reply is not None else b"_INBOX.fuzz.%d" % number
        if message.headers is None:
            line = b"PUB %b %b %d\r\n" % (message.subject, reply, len(message.payload))
            self._writer.write(line + message.payload + b"\r\n")
        else:
            sizes = (len(message.headers), len(message.headers) + len(message.payload))
            line = b"HPUB %b %b %d %d\r\n" % (message.subject, reply, *sizes)
            self._writer.write(line + message.headers + message.payload + b"\r\n")

    async def drain(self) -> None:
        await self._writer.drain()

    async def settled(self, *, at_least: int, within_s: float) -> None:
        """Wait until so many messages have an outcome; some never get one."""
        self._wanted = at_least
        self._enough.clear()
        self._look()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._enough.wait()

    def _look(self) -> None:
        if self.outcomes.settled >= self._wanted:
            self._enough.set()

    async def close(self) -> None:
        self._task.cancel()
        self._writer.close()

    async def _read(self) -> None:
        try:
            while line := await self._reader.readline():
                line = line.rstrip(b"\r\n")
                if line == b"PING":
                    self._writer.write(b"PONG\r\n")
                elif line.startswith(b"-ERR"):
                    self.errors.append(line.decode())
                elif line.startswith((b"MSG ", b"HMSG ")):
                    kind, subject, *sizes = line.split(b" ")
                    content = await self._reader.readexactly(int(sizes[-1]) + 2)
                    head = int(sizes[-2]) if kind == b"HMSG" else 0
                    self._note(int(subject.rpartition(b".")[2]), content[:head], content[head:-2])
                    self._look()
        finally:
            self.closed.set()

    def _note(self, number: int, headers: bytes, payload: bytes) -> None:
        if headers.startswith(b"NATS/1.0 503"):
            self.outcomes.refused[number] = "nobody takes this subject"
            return
        try:
            told = json.loads(payload)
        except ValueError:
            told = None
        if isinstance(told, dict) and isinstance(told.get("error"), dict):
            self.outcomes.refused[number] = str(told["error"].get("description"))
        elif isinstance(told, dict) and "stream" in told and "seq" in told:
            if told.get("duplicate"):
                self.outcomes.repeated.add(number)
            else:
                self.outcomes.stored[number] = (told["stream"], told["seq"])
        else:
            self.outcomes.answered.add(number)
