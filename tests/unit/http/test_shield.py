"""An unforeseen failure is answered with a problem and logged without its message."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.http.shapes import Shapes
from app.http.shield import Shield
from app.settings import GatewaySettings


async def run(app: Any) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await Shield(app, Shapes(GatewaySettings()))({"type": "http", "method": "POST", "path": "/guard"}, receive, send)
    return sent


async def test_a_failure_is_a_problem_without_details(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("kappa-omega-secret")

    start, body = await run(fail)
    assert start["status"] == 500
    assert dict(start["headers"])[b"content-type"] == b"application/problem+json"
    assert json.loads(body["body"])["status"] == 500
    assert "kappa-omega" not in caplog.text + body["body"].decode()
    assert "ValueError" in caplog.text


async def test_a_failure_after_the_answer_has_begun_adds_nothing_to_it() -> None:
    async def fail_late(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError

    assert [message["type"] for message in await run(fail_late)] == ["http.response.start"]


async def test_an_answer_passes_unchanged() -> None:
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    assert [message["type"] for message in await run(answer)] == ["http.response.start", "http.response.body"]
