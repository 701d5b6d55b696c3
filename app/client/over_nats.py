"""Carries the client's calls to the guard's micro services over NATS."""

from __future__ import annotations

import asyncio
import json
from typing import Final

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from .channels import Channel
from .exchange import PROBLEM, Call, Lost, Reply
from .streaming import DONE, Event

GUARD: Final = "vigil.api.guard"
RESTORE: Final = "vigil.api.restore"
STREAM: Final = "vigil.api.stream"
SEQUENCE: Final = "Vigil-Sequence"
DECISION: Final = "vigil.api.decision"
ERROR_CODE: Final = "Nats-Service-Error-Code"
EXPIRED: Final = "EXPIRED"
"""What the record says of a request whose deadline had passed before it was judged: over HTTP that is 410."""
GONE: Final = json.dumps(
    {
        "type": f"{PROBLEM}request-expired",
        "detail": "The deadline had passed before the text was judged; send it again.",
    }
).encode()
LAST_EVENT_S: Final = 1.0
AT_ONCE: Final = 16
"""Texts of a batch that are asked for at once: there is no micro service for batches."""


class NatsCarrier:
    def __init__(self, connection: Client) -> None:
        self._connection = connection

    async def carry(self, call: Call) -> Reply | Lost:
        if call.path == "/guard/batch":
            return await self._batch(call)
        if call.method == "GET":
            return await self._find(call)
        return await self._ask(RESTORE if call.path == "/restore" else GUARD, call.body or b"", call.timeout_s)

    async def close(self) -> None:
        """Leave the connection to the caller, whose it is."""

    def channel(self) -> Channel:
        return NatsChannel(self._connection)

    async def _ask(self, subject: str, body: bytes, timeout_s: float) -> Reply | Lost:
        if len(body) > self._connection.max_payload:
            return Reply(413, {}, b"")
        try:
            reply = await self._connection.request(subject, body, timeout=timeout_s)
        except (NatsError, TimeoutError) as error:
            return Lost(type(error).__name__)
        code = (reply.headers or {}).get(ERROR_CODE, "200")
        return Reply(int(code) if code.isascii() and code.isdigit() else 500, {}, reply.data)

    async def _find(self, call: Call) -> Reply | Lost:
        reply = await self._ask(DECISION, call.path.rpartition("/")[2].encode(), call.timeout_s)
        if not isinstance(reply, Reply) or reply.status != 200:
            return reply
        try:
            answer = json.loads(reply.content)["answer"]
            if answer["decision"] == EXPIRED:
                return Reply(410, {}, GONE)
            return Reply(200, {}, json.dumps(answer).encode())
        except (ValueError, KeyError, TypeError):
            return Reply(500, {}, b"")

    async def _batch(self, call: Call) -> Reply:
        gate = asyncio.Semaphore(AT_ONCE)
        now = asyncio.get_running_loop().time
        until = now() + call.timeout_s

        async def one(request: object) -> bytes:
            async with gate:
                left_s = until - now()
                if left_s <= 0:  # Those before it took all the time: it was not asked for.
                    return b'{"status": 503}'
                reply = await self._ask(GUARD, json.dumps(request, ensure_ascii=False).encode(), left_s)
            if isinstance(reply, Lost):
                return b'{"status": 503}'
            name = b"answer" if reply.status == 200 else b"problem"
            return b'{"status": %d, "%s": %s}' % (reply.status, name, reply.content or b"null")

        results = await asyncio.gather(*(one(request) for request in json.loads(call.body or b"{}")["requests"]))
        return Reply(200, {}, b'{"results": [' + b", ".join(results) + b"]}")


class NatsChannel:
    """A stream on the caller's connection: each chunk waits for the answer to the one before."""

    def __init__(self, connection: Client) -> None:
        self._connection = connection
        self._heard: asyncio.Queue[Event | Reply | Lost] = asyncio.Queue()
        self._inbox: Subscription | None = None
        self._chunks = ""
        self._sent = 0
        self._told = 0
        """Number of the newest event."""
        self._over = asyncio.Event()
        """Set once the last event came."""
        self._timeout_s = 0.0

    async def open(self, opening: bytes, timeout_s: float) -> Reply | Lost | None:
        self._timeout_s = timeout_s
        if len(opening) > self._connection.max_payload:
            return Reply(413, {}, b"")
        try:
            async with asyncio.timeout(timeout_s):
                inbox = self._connection.new_inbox()
                self._inbox = await self._connection.subscribe(inbox, cb=self._on_event)
                await self._connection.publish(STREAM, opening, reply=inbox)
                first = await self._heard.get()
        except (NatsError, TimeoutError) as error:
            return Lost(type(error).__name__)
        if isinstance(first, Reply | Lost):
            return first
        self._chunks = str(first.get("chunks", ""))
        return None

    async def send(self, chunk: bytes) -> None:
        await self._send(chunk)

    async def finish(self) -> None:
        # Its answer comes with the verdict, which the caller waits for.
        await self._send(json.dumps(DONE).encode(), may_take_longer=True)

    async def _send(self, chunk: bytes, *, may_take_longer: bool = False) -> None:
        if self._over.is_set():
            return
        self._sent += 1
        try:
            await self._connection.request(
                self._chunks, chunk, timeout=self._timeout_s, headers={SEQUENCE: str(self._sent)}
            )
        except (NatsError, TimeoutError) as error:
            if may_take_longer and isinstance(error, TimeoutError):
                return
            # Where the stream has ended its last event is here already, or about to be.
            try:
                await asyncio.wait_for(self._over.wait(), LAST_EVENT_S)
            except TimeoutError:
                self._end(Lost(type(error).__name__))

    async def event(self) -> Event | Reply | Lost:
        return await self._heard.get()

    async def close(self) -> None:
        if self._inbox is not None and not self._connection.is_closed:
            await self._inbox.unsubscribe()

    async def _on_event(self, message: Msg) -> None:
        fields = message.headers or {}
        if (status := fields.get("Status")) is not None or (status := fields.get(ERROR_CODE)) is not None:
            self._end(Reply(int(status) if status.isascii() and status.isdigit() else 500, {}, message.data))
            return
        self._told += 1
        try:
            event = json.loads(message.data)
        except ValueError:
            event = None
        if not isinstance(event, dict):
            self._end(Lost("not an event"))
        elif fields.get(SEQUENCE) != str(self._told):
            self._end(Lost("an event is missing"))
        elif event.get("event") == "verdict":
            self._end(event)
        else:
            self._heard.put_nowait(event)

    def _end(self, last: Event | Reply | Lost) -> None:
        if not self._over.is_set():
            self._over.set()
            self._heard.put_nowait(last)
