"""Messages as an attacker, a broken client or a bad cable would send them; the same for the same seed."""

from __future__ import annotations

import json
import random
import re
import string
from uuid import UUID

from tests.fuzz.wire_client import RawMessage

TEXTS = ("Good morning", "What is the capital of France?", "Zażółć gęślą jaźń", "a" * 300, "My PESEL is 44051401359")
GOOD_SUBJECTS = (b"vigil.guard.input", b"vigil.guard.output", b"vigil.guard.tool", b"vigil.detection.batch")
STAGES = (b"vigil.pii.scan", b"vigil.arbiter.decide", b"vigil.logs.event", b"vigil.detection.x.y")
SERVICES = (b"vigil.api.guard", b"vigil.api.restore", b"vigil.api.decision", b"$SRV.PING", b"$SRV.INFO.vigil-guard")
FORGED_REPLIES = (
    b"vigil.logs.event", b"vigil.guard.input", b"$JS.API.STREAM.PURGE.VIGIL_DETECTION", b"_INBOX.>", b"_INBOX.a..b",
    b"$JS.ACK.VIGIL_DETECTION.detection-worker.1.1.1.1.0", b"_INBOX.\xff", b"_INBOX.\x0b",
)  # fmt: skip
TIMES = (
    "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "soon", "2026-01-01", "1e9", "2026-11-26T00:00:00",
    "٢٠٢٦-01-01T00:00:00Z",
)  # fmt: skip
NASTY = ("\x00", "\x1b[2J", "\r\nX: y", "\u2028", "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"), "%0d%0a")


def message(number: int, seed: int) -> RawMessage:
    """Return one message; one in eight is as it should be."""
    dice = random.Random(f"{seed}:{number}")
    subject = dice.choice(GOOD_SUBJECTS)
    payload = _request(dice)
    headers: bytes | None = None
    reply: bytes | None = None
    changes = dice.choice((0, 1, 1, 1, 1, 2, 2, 3))
    for change in dice.sample((_subject, _payload, _payload, _headers, _headers, _forge), changes):
        if change is _subject:
            subject = _subject(dice)
        elif change is _payload:
            payload = _payload(dice, payload)
        elif change is _headers:
            headers = _headers(dice)
        else:
            # A publish to a stream has its own answer, by which the run is accounted for.
            subject, reply = dice.choice(SERVICES), dice.choice(FORGED_REPLIES)
    return RawMessage(subject, payload, headers, reply)


def _forge() -> None:
    """Stands for a reply subject that is no inbox."""


def request_id(sent: RawMessage) -> str | None:
    """Return the id under which a message would be decided, None where the guard makes one."""
    try:
        return str(UUID(json.loads(sent.payload)["request_id"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        found = re.search(rb"^correlation_id: *([^\r]+)\r", sent.headers or b"", re.MULTILINE)
    try:
        return str(UUID(found[1].decode())) if found else None
    except ValueError:
        return None


def _request(dice: random.Random) -> bytes:
    return _body(dice, text=dice.choice(TEXTS))


def _body(dice: random.Random, **fields: object) -> bytes:
    identity = {"mode": "fast", "request_id": str(UUID(int=dice.getrandbits(128), version=4))}
    return json.dumps(identity | fields).encode()


def _subject(dice: random.Random) -> bytes:
    kind = dice.randrange(6)
    if kind == 0:
        return dice.choice(STAGES)
    if kind == 1:
        return dice.choice(SERVICES)
    if kind == 2:
        return b"vigil.guard." + bytes(
            dice.choices(b"\x01\x0b\x0c\x7f\x80\xff\xc3\x28\xe2abz*>$", k=dice.randrange(1, 9))
        )
    if kind == 3:
        return b"vigil.guard." + b".".join([b"x"] * dice.randrange(2, 40))
    if kind == 4:
        return b"vigil.guard." + b"y" * dice.randrange(1, 2000)
    return "vigil.guard.żółw".encode()


def _payload(dice: random.Random, valid: bytes) -> bytes:
    valid = valid or b"{}"
    kind = dice.randrange(14)
    if kind == 0:
        return dice.randbytes(dice.randrange(0, 400))
    if kind == 1:
        return valid[: dice.randrange(len(valid))]
    if kind == 2:
        depth = dice.choice((10, 1000, 20_000))
        return dice.choice((b"[", b'{"a":', b'{"text":[')) * depth
    if kind == 3:
        changed = bytearray(valid)
        for _ in range(dice.randrange(1, 6)):
            changed[dice.randrange(len(changed))] = dice.randrange(256)
        return bytes(changed)
    if kind == 4:
        return valid.replace(
            b'"fast"', dice.choice((b"1e999999", b"NaN", b"-0", b"9" * 5000, b"null", b"[]", b'"\\ud800"'))
        )
    if kind == 5:
        return valid[:-1] + b', "text": "\\ud83d"}'
    if kind == 6:
        return b"\xef\xbb\xbf" + valid
    if kind == 7:
        return b""
    if kind == 8:
        unknown = "".join(dice.choices(string.printable, k=12))
        return _body(dice, text="a", **{unknown: dice.choice(TEXTS)})
    if kind == 9:
        key = "".join(dice.choices(string.printable, k=8))
        value = dice.choice((*NASTY, 2**70, 1.5e308, [1], None))
        return _body(dice, text="Good morning", metadata={dice.choice((key, "key")): value})
    if kind == 10:
        return _body(dice, text=dice.choice(NASTY) * dice.randrange(1, 50), mode=dice.choice(("fast", "full", 1)))
    if kind == 11:
        return _body(dice, text=" " * dice.choice((1000, 1000, 100_001, 900_000)))
    if kind == 12:
        record = {"answer": {}, "received_at": dice.choice(TIMES), "subject": {"digest": "x"}, "redacted_text": "a"}
        return json.dumps(record).encode()
    return _body(dice, text="Good morning", deadline_ms=dice.choice((0, -1, 10**30, 1, "1")))


def _headers(dice: random.Random) -> bytes:
    kind = dice.randrange(9)
    if kind == 0:
        return dice.choice(
            (
                b"NATS/1.0 \xff\xfe\r\n\r\n",
                b"NATS/1.0 404 \xff\r\n\r\n",
                b"NATS/1.0 408\r\n\r\n",
                b"NATS/1.0 100 Idle\r\n\r\n",
            )
        )
    if kind == 1:
        return dice.choice(
            (b"XX", b"\r\n\r\n", b"NATS/1.0", b"NATS/1.0\r\n", b"NATS/1.0\r\n\r\n", b"NATS/2.0\r\na: b\r\n\r\n")
        )
    if kind == 2:
        return dice.randbytes(dice.randrange(1, 200))
    if kind == 3:
        count = dice.choice((10, 500))
        return _block(*((f"h{index}", "v" * dice.randrange(60)) for index in range(count)))
    if kind == 4:
        return _block(("a@b", "1"), ("(c)", "2"), ("d e", "3"), ("", "4"), ("x" * 600, "5"))
    if kind == 5:
        return _block((dice.choice(("Status", "status", "Description")), dice.choice(("404", "503", "100", "x"))))
    if kind == 6:
        return _block(
            ("reply_to", dice.choice(FORGED_REPLIES).decode("latin-1")),
            (
                "correlation_id",
                dice.choice(("x", "a" * 5000, "\x1b[31m", "'; DROP TABLE", str(UUID(int=dice.getrandbits(128))))),
            ),
        )
    if kind == 7:
        return _block(
            ("Vigil-Deadline", dice.choice(TIMES)),
            ("Vigil-Received-At", dice.choice(TIMES)),
            ("Vigil-Attempt", dice.choice(("a", "../..", "x" * 100))),
            ("Vigil-Tenant", dice.choice(("../x", "\x00", "x" * 300))),
            ("Vigil-Key-Id", "x" * dice.randrange(300)),
            ("traceparent", dice.choice(("00-0-0-0", "x" * 900))),
        )
    return _block(
        (
            dice.choice(
                ("Nats-Rollup", "Nats-TTL", "Nats-Expected-Stream", "Nats-Schedule", "Nats-Trace-Dest", "Nats-Msg-Id")
            ),
            dice.choice(("all", "sub", "1", "VIGIL_DETECTION", "x" * 300)),
        ),
        ("content-type", dice.choice(("text/plain", "application/json", "\xff", "application/problem+json"))),
    )


def _block(*fields: tuple[str, str]) -> bytes:
    return (
        b"NATS/1.0\r\n"
        + b"".join(f"{name}: {value}\r\n".encode("latin-1", "replace") for name, value in fields)
        + b"\r\n"
    )
