"""Carries the client's calls to the guard's micro services over NATS."""

from __future__ import annotations

import asyncio
import json
from typing import Final

from nats.aio.client import Client
from nats.errors import Error as NatsError

from .exchange import Call, Lost, Reply

GUARD: Final = "vigil.api.guard"
RESTORE: Final = "vigil.api.restore"
DECISION: Final = "vigil.api.decision"
ERROR_CODE: Final = "Nats-Service-Error-Code"
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
            return Reply(200, {}, json.dumps(json.loads(reply.content)["answer"]).encode())
        except (ValueError, KeyError, TypeError):
            return Reply(500, {}, b"")

    async def _batch(self, call: Call) -> Reply:
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(request: object) -> bytes:
            async with gate:
                reply = await self._ask(GUARD, json.dumps(request, ensure_ascii=False).encode(), call.timeout_s)
            if isinstance(reply, Lost):
                return b'{"status": 503}'
            name = b"answer" if reply.status == 200 else b"problem"
            return b'{"status": %d, "%s": %s}' % (reply.status, name, reply.content or b"null")

        results = await asyncio.gather(*(one(request) for request in json.loads(call.body or b"{}")["requests"]))
        return Reply(200, {}, b'{"results": [' + b", ".join(results) + b"]}")
