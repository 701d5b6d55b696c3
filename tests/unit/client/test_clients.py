"""The blocking and the asynchronous client do the same over HTTP; what they carry and what they keep to themselves."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

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


def test_the_rule_must_be_stated() -> None:
    with pytest.raises(TypeError):
        Client()  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="on_failure"):
        Client(on_failure="open")  # type: ignore[arg-type]
