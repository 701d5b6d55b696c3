"""A saturated service refuses guard requests without reading them, and answers everything else."""

from __future__ import annotations

from typing import Any

import pytest

from app.errors import Overloaded
from app.http.shedding import LoadShedding


async def passed_on(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def call(app: LoadShedding, method: str, path: str) -> tuple[int, dict[bytes, bytes]]:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        raise AssertionError("a refused body is not read")

    async def send(message: Any) -> None:
        sent.append(message)

    await app({"type": "http", "method": method, "path": path}, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"])


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/guard", 503),
        ("POST", "/guard/batch", 503),
        ("GET", "/guard/01a21458-eb93-7abd-96c6-3096848fce76", 200),
        ("POST", "/restore", 200),
        ("GET", "/health", 200),
        ("GET", "/metrics", 200),
    ],
)
async def test_only_new_guard_requests_are_shed(method: str, path: str, status: int) -> None:
    shedding = LoadShedding(passed_on, refusal=lambda: Overloaded(retry_after_s=7))
    got, headers = await call(shedding, method, path)
    assert got == status
    if status == 503:
        assert headers[b"retry-after"] == b"7"
        assert headers[b"content-type"] == b"application/problem+json"


async def test_nothing_is_shed_while_there_is_room() -> None:
    assert (await call(LoadShedding(passed_on, refusal=lambda: None), "POST", "/guard"))[0] == 200
