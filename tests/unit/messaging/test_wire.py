"""Whatever stands on the wire, the client reads it and goes on reading; answers go to inboxes alone."""

from __future__ import annotations

from typing import Any

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.protocol.parser import Parser

from app.messaging.wire import InboxOnly, harden, readable_headers

DELIVERY = b"$JS.ACK.VIGIL_DETECTION.detection-worker.1.1.1.1.0"


class Reading(Client):
    """A client without a connection, that keeps what it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[Msg] = []

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        self.read.append(self._build_message(sid, subject, reply, data, await self._process_headers(headers)))


def on_the_wire(subject: bytes, reply: bytes, headers: bytes | None, payload: bytes = b"{}") -> bytes:
    if headers is None:
        return b"MSG %b 1 %b %d\r\n%b\r\n" % (subject, reply, len(payload), payload)
    sizes = (len(headers), len(headers) + len(payload))
    return b"HMSG %b 1 %b %d %d\r\n%b%b\r\n" % (subject, reply, *sizes, headers, payload)


async def read(*messages: bytes, hardened: bool = True) -> list[Msg]:
    client = Reading()
    if hardened:
        harden(client)
        harden(client)
    await Parser(client).parse(b"".join(messages))
    return client.read


POISON = {
    "subject that is not UTF-8": (b"vigil.guard.\xff", DELIVERY, None),
    "subject with a vertical tab": (b"vigil.guard.\x0bx", DELIVERY, None),
    "subject with a form feed": (b"vigil.guard.x\x0c", DELIVERY, b"NATS/1.0\r\na: b\r\n\r\n"),
    "reply that is not UTF-8": (b"vigil.api.guard", b"_INBOX.\xff", None),
    "status that is not UTF-8": (b"vigil.guard.input", DELIVERY, b"NATS/1.0 \xff\xfe\r\n\r\n"),
    "status description that is not UTF-8": (b"vigil.api.guard", b"_INBOX.1", b"NATS/1.0 404 \xff\r\n\r\n"),
    "status, and a header that is not UTF-8": (b"vigil.api.guard", b"_INBOX.1", b"NATS/1.0 404\r\nh: \xff\r\n\r\n"),
    "headers without a first line": (b"vigil.guard.input", DELIVERY, b"XX"),
    "headers of a first line alone": (b"vigil.guard.input", DELIVERY, b"NATS/1.0"),
    "headers of two bytes": (b"vigil.guard.input", DELIVERY, b"\r\n"),
}


@pytest.mark.parametrize("poison", POISON.values(), ids=POISON)
async def test_the_message_after_a_poisoned_one_is_read(poison: tuple[bytes, bytes, bytes | None]) -> None:
    following = on_the_wire(b"vigil.guard.input", DELIVERY, b"NATS/1.0\r\na: b\r\n\r\n")
    messages = await read(on_the_wire(*poison), following)
    assert len(messages) == 2
    assert messages[1].headers == {"a": "b"}


@pytest.mark.parametrize(
    "name", ["subject that is not UTF-8", "status that is not UTF-8", "headers of a first line alone"]
)
async def test_without_it_reading_ends(name: str) -> None:
    """If this fails, the client has learnt it, and the guard may go."""
    with pytest.raises((UnicodeDecodeError, IndexError)):
        await read(on_the_wire(*POISON[name]), hardened=False)


@pytest.mark.parametrize(
    "headers",
    [
        b"NATS/1.0 404 No Messages\r\n\r\n",
        b"NATS/1.0\r\nStatus: 404\r\nkept: 1\r\n\r\n",
        b"NATS/1.0\r\nstatus : 100\r\nDescription: Idle\r\nkept: 1\r\n\r\n",
        b"NATS/1.0 503\r\nkept: 1\r\n\r\n",
    ],
)
async def test_a_delivery_has_no_status_of_the_server(headers: bytes) -> None:
    (message,) = await read(on_the_wire(b"vigil.guard.input", DELIVERY, headers))
    assert not {"Status", "status", "Description"} & (message.headers or {}).keys()
    assert (message.headers or {}).get("kept", "1") == "1"


async def test_the_servers_own_word_arrives() -> None:
    for status in (b"NATS/1.0 503\r\n\r\n", b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 7\r\n\r\n"):
        (message,) = await read(on_the_wire(b"_INBOX.1", b"", status))
        assert message.headers is not None
        assert message.headers["Status"] == status[9:12].decode()


def test_ordinary_headers_pass_untouched() -> None:
    block = b"NATS/1.0\r\nNats-Msg-Id: 1\r\nstatus-of-mine: 1\r\n\r\n"
    assert readable_headers(block, delivery=False) is block
    assert readable_headers(block.replace(b"status-of-mine", b"mine"), delivery=True) is not None


@pytest.mark.parametrize(
    ("reply", "handled"),
    [
        ("_INBOX.abc.1", True),
        ("", False),
        ("vigil.logs.event", False),
        ("$JS.API.STREAM.PURGE.VIGIL_DETECTION", False),
        ("_INBOX.>", False),
        ("_INBOX.a..b", False),
        ("_INBOX.\\xff\x0b", False),
    ],
)
async def test_a_micro_service_answers_into_inboxes_alone(reply: str, handled: bool) -> None:
    subscribed: dict[str, Any] = {}
    seen: list[Msg] = []

    class Connection:
        async def subscribe(self, subject: str, queue: str, cb: Any) -> None:
            subscribed.update(subject=subject, queue=queue, cb=cb)

    async def handle(message: Msg) -> None:
        seen.append(message)

    connection: Any = Connection()
    await InboxOnly(connection).subscribe("vigil.api.guard", cb=handle, queue="q")
    await subscribed["cb"](Msg(_client=connection, subject="vigil.api.guard", reply=reply))
    assert bool(seen) == handled
    assert (subscribed["subject"], subscribed["queue"]) == ("vigil.api.guard", "q")


def test_headers_of_a_stored_message_are_text_whatever_was_written() -> None:
    headers = JetStreamContext(Client())._hdr_parser.parsebytes(b"a: plain\r\nb: \xff\xfe\r\n\x9c\x00\r\n\r\n")
    assert dict(headers.items()) == {"a": "plain", "b": "\ufffd\ufffd"}
    assert {type(value) for value in headers.values()} == {str}
