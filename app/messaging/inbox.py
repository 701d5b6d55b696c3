"""The reply inbox: one subscription for all callers of this process, each waiting on a token of its own."""

from __future__ import annotations

import asyncio

from nats.aio.client import Client
from nats.aio.msg import Msg

from app.contracts import Problem
from app.problems import MEDIA_TYPE
from app.topology import Header

Reply = bytes | Problem
"""The answer's JSON as it came, or the problem that took its place."""


class ReplyInbox:
    """Makes reply subjects `<inbox>.<token>` and resolves the future behind each token."""

    def __init__(self) -> None:
        self._prefix: str | None = None
        self._waiting: dict[str, asyncio.Future[Reply]] = {}
        self._next_token = 0

    async def open(self, connection: Client) -> None:
        """Subscribe once; the client repeats the subscription by itself after a reconnect."""
        self._prefix = connection.new_inbox()
        await connection.subscribe(f"{self._prefix}.*", cb=self._on_reply)

    def expect(self) -> tuple[str, asyncio.Future[Reply]]:
        """Return a fresh reply subject and the future of its first reply."""
        if self._prefix is None:
            raise RuntimeError("the inbox is not open")
        self._next_token += 1
        token = str(self._next_token)
        future = self._waiting[token] = asyncio.get_running_loop().create_future()
        return f"{self._prefix}.{token}", future

    def forget(self, reply_to: str) -> None:
        self._waiting.pop(reply_to.rpartition(".")[2], None)

    async def _on_reply(self, message: Msg) -> None:
        future = self._waiting.pop(message.subject.rpartition(".")[2], None)
        if future is None or future.done():
            return  # A second reply, or one for a caller who has gone.
        is_problem = (message.headers or {}).get(Header.CONTENT_TYPE) == MEDIA_TYPE
        future.set_result(Problem.model_validate_json(message.data, extra="ignore") if is_problem else message.data)
