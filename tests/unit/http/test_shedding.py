"""A saturated service refuses guard requests without reading them, and answers everything else."""

from __future__ import annotations

from typing import Any

import pytest

from app.errors import Overloaded
from app.http.shapes import Shapes
from app.http.shedding import GUARD_PATHS, RESTORE_PATH, LoadShedding
from app.settings import GatewaySettings

SHAPES = Shapes(GatewaySettings())


def busy() -> Overloaded:
    return Overloaded(retry_after_s=7)


BUSY_GUARD = {**dict.fromkeys(GUARD_PATHS, busy), RESTORE_PATH: lambda: None}


async def passed_on(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def call(app: LoadShedding, method: str, path: str, *, root_path: str = "") -> tuple[int, dict[bytes, bytes]]:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        raise AssertionError("a refused body is not read")

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": root_path + path, "root_path": root_path}
    await app(scope, receive, send)
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
        ("POST", "/presidio/analyze", 503),
        ("POST", "/v2/guard", 503),
        ("POST", "/beta/litellm_basic_guardrail_api", 503),
    ],
)
async def test_only_new_guard_requests_are_shed(method: str, path: str, status: int) -> None:
    shedding = LoadShedding(passed_on, refusals=BUSY_GUARD, shapes=SHAPES)
    got, headers = await call(shedding, method, path)
    assert got == status
    if status == 503:
        assert headers[b"retry-after"] == b"7"
        problem = path.startswith("/guard")
        assert headers[b"content-type"] == (b"application/problem+json" if problem else b"application/json")


@pytest.mark.parametrize("root_path", ["", "/vigil"])
async def test_a_client_that_would_pass_the_text_on_gets_a_block(root_path: str) -> None:
    shedding = LoadShedding(passed_on, refusals=BUSY_GUARD, shapes=SHAPES)
    status, headers = await call(shedding, "POST", "/v1/guard/input", root_path=root_path)
    assert (status, headers.get(b"content-type")) == (200, b"application/json")
    assert b"retry-after" not in headers


async def test_nothing_is_shed_while_there_is_room() -> None:
    shedding = LoadShedding(passed_on, refusals={"/guard": lambda: None}, shapes=SHAPES)
    assert (await call(shedding, "POST", "/guard"))[0] == 200


async def test_texts_to_restore_are_shed_by_what_waits_of_their_own() -> None:
    refusals = {**dict.fromkeys(GUARD_PATHS, lambda: None), RESTORE_PATH: busy}
    shedding = LoadShedding(passed_on, refusals=refusals, shapes=SHAPES)
    status, headers = await call(shedding, "POST", "/restore")
    assert (status, headers[b"retry-after"]) == (503, b"7")
    assert headers[b"content-type"] == b"application/problem+json"
    assert (await call(shedding, "POST", "/guard"))[0] == 200
