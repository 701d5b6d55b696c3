"""The blocking and the asynchronous client do the same over HTTP; what they carry and what they keep to themselves."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import httpx2
import pytest

from app.client import AsyncClient, Client, Decision, OnFailure, Patience, Unavailable, Verdict

TEXT = "kappa-omega-secret"
KEY = "vgk_1_topsecret"
QUICK = Patience(first_pause_s=0.001, tries=2)
Handler = Callable[[httpx2.Request], httpx2.Response]
Judge = Callable[..., Any]


def blocking(handler: Handler, on_failure: OnFailure) -> Judge:
    async def judge(text: str) -> Decision:
        http = httpx2.Client(transport=httpx2.MockTransport(handler))
        with Client("http://guard/", on_failure=on_failure, api_key=KEY, patience=QUICK, http=http) as client:
            return client.guard(text, mode="fast")

    return judge


def asynchronous(handler: Handler, on_failure: OnFailure) -> Judge:
    async def judge(text: str) -> Decision:
        http = httpx2.AsyncClient(transport=httpx2.MockTransport(handler))
        async with AsyncClient(
            "http://guard/", on_failure=on_failure, api_key=KEY, patience=QUICK, http=http
        ) as client:
            return await client.guard(text, mode="fast")

    return judge


@pytest.fixture(params=[blocking, asynchronous], ids=["blocking", "asynchronous"])
def client(request: pytest.FixtureRequest) -> Callable[[Handler, OnFailure], Judge]:
    made: Callable[[Handler, OnFailure], Judge] = request.param
    return made


async def test_a_request_has_key_type_and_body(client: Callable[[Handler, OnFailure], Judge]) -> None:
    seen: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(
            200, json={"request_id": json.loads(request.content)["request_id"], "decision": "BLOCKED"}
        )

    decision = await client(answer, "raise")("zażółć")
    assert decision.decision is Verdict.BLOCKED
    assert str(seen[0].url) == "http://guard/guard"
    assert seen[0].headers["authorization"] == f"Bearer {KEY}"
    assert seen[0].headers["content-type"] == "application/json"
    assert seen[0].headers["user-agent"].startswith("vigil-guard-python/")
    assert {"text": "zażółć", "mode": "fast"}.items() <= json.loads(seen[0].content).items()


async def test_neither_text_nor_key_is_logged_or_raised(
    client: Callable[[Handler, OnFailure], Judge], caplog: pytest.LogCaptureFixture
) -> None:
    def fail(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("no way to reach kappa-omega-secret", request=request)

    with caplog.at_level(logging.DEBUG):
        with pytest.raises(Unavailable) as raised:
            await client(fail, "raise")(TEXT)
        assert (await client(fail, "block")(TEXT)).blocked
    assert "BLOCKED by rule" in caplog.text
    for told in (caplog.text, str(raised.value), repr(raised.value)):
        assert TEXT not in told
        assert KEY not in told


async def test_a_redirect_is_not_followed(client: Callable[[Handler, OnFailure], Judge]) -> None:
    def redirect(request: httpx2.Request) -> httpx2.Response:
        assert request.url.host == "guard", "the key and the text went to another host"
        return httpx2.Response(307, headers={"location": "http://elsewhere/guard"})

    assert (await client(redirect, "block")(TEXT)).failure == "UnexpectedAnswer"


async def test_an_answer_that_cannot_be_unpacked_is_no_answer(client: Callable[[Handler, OnFailure], Judge]) -> None:
    def garbled(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"Content-Encoding": "gzip"}, stream=httpx2.ByteStream(b"no gzip"))

    assert (await client(garbled, "block")(TEXT)).failure == "Unavailable"
    with pytest.raises(Unavailable):
        await client(garbled, "raise")(TEXT)


@pytest.fixture
def guard() -> Iterator[ThreadingHTTPServer]:
    """A guard, or a proxy before one, that blocks every text; `asked` of the handler has the targets of requests."""
    Guard.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Guard) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


class Guard(BaseHTTPRequestHandler):
    asked: ClassVar[list[str]]

    def do_POST(self) -> None:
        self.asked.append(self.path)
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        answer = json.dumps({"request_id": request["request_id"], "decision": "BLOCKED"}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize("kind", ["blocking", "asynchronous"])
@pytest.mark.parametrize("proxy", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
async def test_a_guard_on_this_machine_is_asked_without_a_proxy_and_others_through_it(
    proxy: str, kind: str, guard: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    port = guard.server_address[1]
    monkeypatch.setenv(proxy, f"http://127.0.0.1:{port}")
    for host, target in (
        (f"127.0.0.1:{port}", "/guard"),
        (f"localhost:{port}", "/guard"),
        ("guard.example.com", "http://guard.example.com/guard"),
    ):
        if kind == "blocking":
            with Client(f"http://{host}", on_failure="raise", patience=QUICK) as client:
                decision = await asyncio.to_thread(client.guard, TEXT)
        else:
            async with AsyncClient(f"http://{host}", on_failure="raise", patience=QUICK) as client:
                decision = await client.guard(TEXT)
        assert decision.blocked
        assert Guard.asked.pop() == target


def test_the_rule_must_be_stated() -> None:
    with pytest.raises(TypeError):
        Client()  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="on_failure"):
        Client(on_failure="open")  # type: ignore[arg-type]
