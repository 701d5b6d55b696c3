"""An answer judged as it comes, over HTTP: request and response side by side, errors as events, one row."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import httpx
import nats
import pytest

from tests.integration.service.test_http_contract import assert_problem
from tests.running_service import RunningService

pytestmark = pytest.mark.integration

CANARY = "kappa-omega-7319"
PLAIN = "The harbour opens at dawn and the boats go out with the tide. "
NDJSON = {"content-type": "application/x-ndjson"}
EXPECT = "Expect: 100-continue"
"""Answered with status 100 once somebody waits for the body."""


class Duplex:
    """A client that writes and reads by turns on one connection, as few HTTP libraries do."""

    def __init__(self, port: int, *headers: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._reader = self._socket.makefile("rb")
        lines = ["POST /guard/stream HTTP/1.1", "Host: 127.0.0.1", "Transfer-Encoding: chunked", *headers]
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode())

    def send(self, content: bytes | dict[str, Any]) -> None:
        written = content if isinstance(content, bytes) else json.dumps(content).encode() + b"\n"
        self._socket.sendall(b"%x\r\n%s\r\n" % (len(written), written))

    def start(self) -> int:
        """Read the answer's head; return its status."""
        status = int(self._reader.readline().split()[1])
        while self._reader.readline().strip():
            pass
        return status

    def event(self) -> dict[str, Any]:
        """Read one event."""
        size = int(self._reader.readline(), 16)
        event: dict[str, Any] = json.loads(self._reader.read(size))
        self._reader.readline()
        return event

    def at_end(self) -> bool:
        """Whether the answer ends here, and the connection with it."""
        return self._reader.read() == b"0\r\n\r\n"

    def close(self) -> None:
        self._reader.close()
        self._socket.close()


@pytest.fixture
def duplex(service: RunningService) -> Iterator[Callable[..., Duplex]]:
    with contextlib.ExitStack() as stack:

        def opened(*headers: str) -> Duplex:
            client = Duplex(service.port, "Content-Type: application/x-ndjson", *headers)
            stack.callback(client.close)
            return client

        yield opened


def body(*lines: Any) -> bytes:
    return b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines)


def events(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in response.text.splitlines()]


def text_of(found: list[dict[str, Any]]) -> str:
    return "".join(event["text"] for event in found if event["event"] == "text")


def test_events_come_while_the_answer_is_still_being_sent(duplex: Callable[..., Duplex]) -> None:
    client = duplex()
    client.send({"policy": "balanced"})
    assert client.start() == 200
    assert client.event()["event"] == "open"
    client.send({"text": "Write to anna@exam"})
    client.send({"text": "ple.com. " + PLAIN * 2})
    assert client.event()["text"].startswith("Write to <EMAIL_ADDRESS_1>. The harbour")
    client.send({"text": f"The ferry is called {CANARY[:8]}"})
    client.send({"canaries": []} | {"done": True})
    while (event := client.event())["event"] == "text":
        pass
    assert event["event"] == "verdict"
    assert event["decision"] == "SANITIZED"


def test_the_first_violation_stops_the_stream_while_the_client_goes_on(duplex: Callable[..., Duplex]) -> None:
    client = duplex()
    client.send({"canaries": [CANARY]})
    client.send({"text": f"The word is {CANARY}, and "})
    client.start()
    assert [client.event()["event"] for _ in range(2)] == ["open", "stop"]
    verdict = client.event()
    assert verdict["decision"] == verdict["answer"]["decision"] == "BLOCKED"
    assert verdict["answer"]["categories"][0] == "system_prompt_leak"


def test_a_whole_answer_at_once_is_redacted_and_read_again_by_its_id(client: httpx.Client) -> None:
    request_id = str(uuid4())
    text = "Anna Nowak, PESEL 44051401359, has the account PL61 1090 1014 0000 0712 1981 2874. " + PLAIN * 3
    lines = [{"request_id": request_id}, *({"text": letter} for letter in text)]
    found = events(client.post("/guard/stream", content=body(*lines), headers=NDJSON))
    assert found[0] == {"event": "open", "request_id": request_id}
    expected = client.post("/guard", json={"text": text, "source": "output"}).json()
    assert text_of(found) == expected["sanitized_text"]
    assert found[-1]["redacted"] == 3
    stored = client.get(f"/guard/{request_id}").json()
    assert stored["decision"] == found[-1]["decision"] == "SANITIZED"
    assert found[-1]["answer"]["sanitized_text"] is None


def test_openais_stream_goes_in_as_it_is_and_server_sent_events_come_out(client: httpx.Client) -> None:
    pieces = ["Write to an", "na@example.c", "om"]
    sent = [{"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
    content = b"".join(b"data: %s\n\n" % json.dumps(chunk).encode() for chunk in sent) + b"data: [DONE]\n\n"
    headers = {"content-type": "text/event-stream", "accept": "text/event-stream"}
    response = client.post("/guard/stream", content=content, headers=headers)
    assert response.headers["content-type"].startswith("text/event-stream")
    found = [block.split("\ndata: ") for block in response.text.strip().split("\n\n")]
    assert [name for name, _ in found] == ["event: open", "event: text", "event: verdict"]
    assert json.loads(found[1][1])["text"] == "Write to <EMAIL_ADDRESS_1>"


def test_placeholders_of_the_prompt_are_filled_as_they_pass(client: httpx.Client) -> None:
    asked = client.post("/guard", json={"text": "I am Anna Nowak, anna@example.com.", "restorable": True}).json()
    assert asked["sanitized_text"] == "I am <PERSON_1>, <EMAIL_ADDRESS_1>."
    pieces = ["Dear <PER", "SON_1>, your parcel went to <EMAIL_ADD", "RESS_1> and to bob@example.org."]
    lines = body({"restore_map": asked["restore_map"]}, *({"text": piece} for piece in pieces))
    found = events(client.post("/guard/stream", content=lines, headers=NDJSON))
    assert text_of(found) == "Dear Anna Nowak, your parcel went to anna@example.com and to <EMAIL_ADDRESS_2>."
    assert found[-1]["restored"] == 2


def test_what_cannot_be_opened_is_a_problem_and_what_fails_later_an_event(client: httpx.Client) -> None:
    def posted(*lines: Any, **headers: str) -> httpx.Response:
        return client.post("/guard/stream", content=body(*lines), headers=NDJSON | headers)

    assert_problem(posted({"policy": "nope"}), 422, "policy")
    assert_problem(posted({"polisy": "strict"}), 422, "polisy")
    assert_problem(posted(b"{kappa"), 400, "body")
    assert_problem(posted({"restore_map": "v1.x"}), 422, "restore_map")
    assert_problem(posted({"text": "a"}, **{"content-type": "text/plain"}), 415, "content-type")
    for bad, status in ((b"{kappa\n", 400), ({"text": 3}, 422), ({"text": "x" * 100_000}, 413)):
        found = events(posted({"text": "A beginning. "}, bad))
        assert [event["event"] for event in found] == ["open", "problem"]
        assert found[-1]["problem"]["status"] == status
        assert client.get(f"/guard/{found[0]['request_id']}").json()["decision"] == "ALLOWED"


def test_a_client_that_goes_away_leaves_a_record(
    service: RunningService, duplex: Callable[..., Duplex], client: httpx.Client
) -> None:
    request_id = str(uuid4())
    gone = duplex()
    gone.send({"request_id": request_id})
    gone.start()
    gone.event()
    gone.send({"text": PLAIN})
    gone.close()
    service.wait_for(lambda asked: asked.get(f"/guard/{request_id}").status_code == 200)


async def streamed_over_nats(url: str, text: str) -> list[dict[str, Any]]:
    connection = await nats.connect(url)
    try:
        inbox = connection.new_inbox()
        replies = await connection.subscribe(inbox)
        found: list[dict[str, Any]] = []

        async def next_event() -> dict[str, Any]:
            found.append(json.loads((await replies.next_msg(20)).data))
            return found[-1]

        await connection.publish("vigil.api.stream", b'{"policy": "balanced"}', reply=inbox)
        subject = (await next_event())["chunks"]
        pieces: list[dict[str, Any]] = [{"text": text[at : at + 7]} for at in range(0, len(text), 7)]
        for number, piece in enumerate([*pieces, {"done": True}], 1):
            headers = {"Vigil-Sequence": str(number)}
            await connection.request(subject, json.dumps(piece).encode(), timeout=20, headers=headers)
        while (await next_event())["event"] == "text":
            pass
        return found
    finally:
        await connection.close()


def test_over_nats_a_stream_is_judged_and_recorded_as_over_http(service: RunningService, client: httpx.Client) -> None:
    text = "Anna Nowak, PESEL 44051401359, has the account PL61 1090 1014 0000 0712 1981 2874. " + PLAIN * 2
    over_http = events(client.post("/guard/stream", content=body({"text": text}), headers=NDJSON))
    found = asyncio.run(streamed_over_nats(service.nats_url, text))
    assert text_of(found) == text_of(over_http)
    assert (found[-1]["decision"], found[-1]["redacted"]) == ("SANITIZED", over_http[-1]["redacted"])
    assert client.get(f"/guard/{found[0]['request_id']}").json()["decision"] == "SANITIZED"
    described = client.get("/asyncapi.json").json()
    assert set(described["channels"]["vigil.api.stream:reply"]["messages"]) >= {"StreamAddress", "StreamVerdict"}
    assert described["operations"]["vigil.api.stream.{token}"]["action"] == "receive"


def test_the_document_describes_the_stream(client: httpx.Client) -> None:
    openapi = client.get("/openapi.json").json()
    assert set(openapi["paths"]["/guard/stream"]["post"]["requestBody"]["content"]) == {
        "application/x-ndjson",
        "text/event-stream",
    }
    for name in ("StreamOpening", "StreamChunk", "StreamText", "StreamStopped", "StreamVerdict", "StreamProblem"):
        assert name in openapi["components"]["schemas"]


@pytest.mark.parametrize("arguments", [(), ("--workers", "2")], ids=["one process", "two workers"])
def test_a_stop_tells_open_streams_and_leaves_their_records(
    arguments: tuple[str, ...], new_service: Callable[..., RunningService]
) -> None:
    service = new_service(arguments=arguments).start()
    request_id = str(uuid4())
    with contextlib.closing(Duplex(service.port)) as held, contextlib.closing(Duplex(service.port, EXPECT)) as unopened:
        held.send({"request_id": request_id})
        assert held.start() == 200
        assert held.event()["event"] == "open"
        held.send({"text": PLAIN})
        assert held.event()["text"] == PLAIN, "let out after a pause: the stream waits for its next chunk"
        assert unopened.start() == 100, "the endpoint waits for the opening"
        assert service.stop() == 0
        event = held.event()
        assert event["event"] == "problem"
        assert (event["problem"]["status"], event["problem"]["type"]) == (503, "urn:vigil-guard:problem:stream-lost")
        assert event["problem"]["request_id"] == request_id
        assert held.at_end()
        assert unopened.start() == 503
    assert "ended at once" not in service.log
    assert "timeout graceful shutdown exceeded" not in service.log, "the streams ended by themselves"
    assert service.rows()[request_id] == 1
    assert not (service.state_dir / "nats" / "server.json").exists()


def test_streams_are_bounded(particular: RunningService) -> None:
    first = Duplex(particular.port, "Content-Type: application/x-ndjson")
    first.send({"text": "A beginning"})
    first.start()
    assert first.event()["event"] == "open"
    url = f"{particular.url}/guard/stream"
    refused = httpx.post(url, content=body({"text": "a"}), headers=NDJSON, timeout=20)
    assert_problem(refused, 503)
    assert refused.headers["retry-after"]
    event = first.event()
    assert (event["event"], event["problem"]["status"]) == ("problem", 408)
    first.close()
    assert "A beginning" not in particular.log
