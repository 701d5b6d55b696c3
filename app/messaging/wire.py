"""What strangers can write on the wire and nats-py 2.16 does not survive, made harmless before the client reads it.

nats-server hands on subjects and header blocks as they came. The client decodes them in its read loop, and an exception
there ends all reading until unanswered pings are noticed; then the message comes again. Seen: a subject or status line
that is not UTF-8, a header block without its first line, a subject with a vertical tab. And a delivery whose sender
wrote a header `Status` is taken for the server's word that a pull has ended.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any, Final

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js import client as context
from nats.js import manager
from nats.protocol import parser

from app.messaging.envelope import is_inbox
from app.telemetry import metrics

ACK_PREFIX: Final = b"$JS.ACK."
"""Reply subjects of deliveries: no status of the server comes with one."""
VERSION: Final = b"NATS/1.0"
PLAIN: Final = VERSION + b"\r\n"
SERVERS_OWN: Final = (b"status", b"description")
TOKEN: Final = rb"[^ \t\r\n]+"
"""What nats-server ends a token at; Python's `\\s` also ends it at vertical tab and form feed."""


def harden(client: Client) -> None:
    """Let a client read everything that a server may hand it; doing it twice changes nothing."""
    if "_process_msg" in vars(client):
        return
    process: Any = client._process_msg

    async def guarded(sid: int, subject: bytes, reply: bytes, payload: bytes, headers: bytes | None) -> None:
        if headers is not None:
            headers = readable_headers(headers, delivery=reply.startswith(ACK_PREFIX))
        await process(sid, readable(subject), readable(reply), payload, headers)

    vars(client)["_process_msg"] = guarded


class InboxOnly:
    """A connection for a micro service: a request whose answer is wanted anywhere but in an inbox is not handled.

    Whoever may ask the service could otherwise have it publish its answer where they may not: into the work queue, or
    to the server's own API, with the service's rights. That holds for the library's answers to `$SRV.PING` too.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def subscribe(self, subject: str, *, cb: Callable[[Msg], Awaitable[None]], queue: str = "") -> Subscription:
        async def checked(message: Msg) -> None:
            if is_inbox(message.reply):
                await cb(message)
            else:
                metrics.NATS_EVENTS.labels("reply_refused").inc()

        return await self._client.subscribe(subject, queue=queue, cb=checked)


def readable(subject: bytes) -> bytes:
    """Return a subject as UTF-8; bytes that are not are written out."""
    return subject if subject.isascii() else subject.decode("utf-8", "backslashreplace").encode()


def readable_headers(block: bytes, *, delivery: bool) -> bytes | None:
    """Return a header block that the client can read, None when nothing of it is left.

    Args:
        block: what stands between the subject's line and the payload.
        delivery: whether it came with a message of a stream, which has no status of the server.
    """
    if block.startswith(PLAIN):
        lowered = block.lower() if delivery else b""
        if not any(name in lowered for name in SERVERS_OWN):
            return block
    elif not delivery and block.startswith(VERSION + b" ") and _is_status(block):
        return block
    lines = block.split(b"\r\n")[1:]
    kept = [
        line for line in lines if line and not (delivery and line.partition(b":")[0].strip().lower() in SERVERS_OWN)
    ]
    return PLAIN + b"\r\n".join(kept) + b"\r\n\r\n" if kept else None


def _is_status(block: bytes) -> bool:
    """Whether a block begins with a status line as the server writes it: `NATS/1.0 404 No Messages`."""
    if not block.endswith(b"\r\n\r\n") or not block[9:12].isdigit():
        return False
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return True


class StoredHeaders:
    """Reads the headers of a stored message as those of a delivery are read, and as text.

    nats-py reads them as a mail's, where values that are not ASCII become objects that nothing can publish again.
    """

    @staticmethod
    def parsebytes(block: bytes) -> dict[str, str]:
        return Client._parse_header_lines(block)


for module in (manager, context):
    vars(module)["BytesParser"] = StoredHeaders
parser.MSG_RE = re.compile(rb"\AMSG[ \t]+(%b)[ \t]+(%b)[ \t]+((%b)[ \t]+)?(\d+)\r\n" % ((TOKEN,) * 3))
parser.HMSG_RE = re.compile(rb"\AHMSG[ \t]+(%b)[ \t]+(%b)[ \t]+((%b)[ \t]+)?(\d+)[ \t]+(\d+)\r\n" % ((TOKEN,) * 3))
