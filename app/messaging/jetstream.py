"""JetStream with cheaper publishing: one inbox for the acknowledgements of all publishes of this process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from typing import Any, Final

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import ConnectionReconnectingError, MaxPayloadError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import JetStreamContext
from nats.js.api import Header, PubAck
from nats.js.errors import APIError, NoStreamResponseError

from app.errors import PayloadTooLarge
from app.messaging.client import withdraw

NO_RESPONDERS = "503"
TOO_LARGE: Final = 10054
"""JetStream's error code for `message size exceeds maximum allowed` (nats-server errors.json)."""

STORE_REFUSED: Final = 10077
FULL: Final = "maximum bytes exceeded"
"""JetStream's error code and words where a message finds no room in a stream that drops no old ones."""


def is_full(error: APIError) -> bool:
    """Whether a stream refused a message because it holds as many bytes as it may."""
    return getattr(error, "err_code", None) == STORE_REFUSED and error.description == FULL


@contextmanager
def refusing_too_large() -> Iterator[None]:
    """Raise PayloadTooLarge where a message fits neither the stream nor the server's max_payload."""
    try:
        yield
    except MaxPayloadError:
        raise PayloadTooLarge from None
    except APIError as error:
        if getattr(error, "err_code", None) == TOO_LARGE:  # What a bucket raises has none.
            raise PayloadTooLarge from None
        raise


class JetStream(JetStreamContext):
    """nats-py's JetStream context with a cheaper `publish`, also where its key-value buckets use it.

    nats-py 2.16 draws a random token and starts a timer task for each publish, and reads the acknowledgement into a
    class by the names of its fields. Here a number is the token, the timer a callback, and three fields are read.
    """

    def __init__(self, connection: Client, *, timeout_s: float) -> None:
        super().__init__(connection, timeout=timeout_s)
        self._connection = connection
        self._acknowledgements = connection.new_inbox()
        self._waiting: dict[str, asyncio.Future[PubAck]] = {}
        self._tokens = count()

    async def open(self) -> None:
        """Subscribe to acknowledgements; the client repeats the subscription by itself after a reconnect."""
        await self._connection.subscribe(f"{self._acknowledgements}.*", cb=self._on_acknowledgement)

    async def publish(
        self,
        subject: str,
        payload: bytes = b"",
        timeout: float | None = None,  # noqa: ASYNC109 - the signature that buckets call
        stream: str | None = None,
        headers: dict[str, Any] | None = None,
        msg_ttl: float | None = None,
        *,
        buffered: bool = True,
    ) -> PubAck:
        """Publish one message and wait until the stream has it.

        Args:
            subject: where to.
            payload: the message's body.
            timeout: seconds to wait; the context's own by default.
            stream: name of the stream that is expected to take it.
            headers: sent along; the mapping is left as it is.
            msg_ttl: seconds after which the stream drops the message.
            buffered: whether the client may keep it for the next connection while there is none, and sends it then
                also where this has given up. Without it, what was not sent when this fails never is.

        Raises:
            nats.errors.Error: it was not sent, or not acknowledged in time; whether it was stored is not known then.
                ConnectionReconnectingError: there is no connection, and it may not be buffered.
            nats.js.errors.APIError: the stream refused it.
        """
        if not buffered and not self._connection.is_connected:
            raise ConnectionReconnectingError
        sent = dict(headers or {})
        if stream is not None:
            sent[Header.EXPECTED_STREAM] = stream
        if msg_ttl is not None:
            sent[Header.MSG_TTL] = str(int(msg_ttl))
        token = str(next(self._tokens))
        reply = f"{self._acknowledgements}.{token}"
        loop = asyncio.get_running_loop()
        acknowledged: asyncio.Future[PubAck] = loop.create_future()
        self._waiting[token] = acknowledged
        timer = loop.call_later(self._timeout if timeout is None else timeout, _give_up, acknowledged)
        try:
            await self._connection.publish(subject, payload, reply=reply, headers=sent or None)
            return await acknowledged
        except BaseException:
            if not buffered:
                withdraw(self._connection, reply)
            raise
        finally:
            timer.cancel()
            del self._waiting[token]

    async def send(self, subject: str, payload: bytes, headers: Mapping[str, str]) -> None:
        """Publish a message that no stream keeps."""
        await self._connection.publish(subject, payload, headers=dict(headers))

    async def _on_acknowledgement(self, message: Msg) -> None:
        acknowledged = self._waiting.get(message.subject.rpartition(".")[2])
        if acknowledged is None or acknowledged.done():
            return  # It came after its publish gave up.
        if message.headers and message.headers.get(Header.STATUS) == NO_RESPONDERS:
            acknowledged.set_exception(NoStreamResponseError())
            return
        answer = json.loads(message.data)
        if "error" in answer:
            acknowledged.set_exception(_refusal(answer["error"]))
        else:
            acknowledged.set_result(PubAck(answer["stream"], answer["seq"], duplicate=answer.get("duplicate")))


def _give_up(acknowledged: asyncio.Future[PubAck]) -> None:
    if not acknowledged.done():
        acknowledged.set_exception(NatsTimeoutError())


def _refusal(error: dict[str, Any]) -> APIError:
    try:
        raise APIError.from_error(error)  # It raises the class that fits by itself.
    except APIError as refusal:
        return refusal
