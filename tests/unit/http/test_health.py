"""Health checks answer HEAD as they answer GET: some load balancers ask so. Metrics are read once for all who ask."""

from __future__ import annotations

import asyncio
import threading

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from app.contracts import Check, Readiness
from app.http import health


class Checked:
    async def readiness(self) -> Readiness:
        return Readiness(ready=False, checks={"nats": Check(ok=False, reason="away")})


@pytest.mark.parametrize("path", ["/health", "/livez", "/health/ready", "/readyz"])
async def test_head_is_answered_as_get(path: str) -> None:
    app = FastAPI()
    app.include_router(health.router(Checked()))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        got, head = await client.get(path), await client.head(path)
    assert (head.status_code, head.headers) == (got.status_code, got.headers)
    assert list(app.openapi()["paths"][path]) == ["get"]


async def test_who_asks_for_metrics_while_they_are_read_gets_what_is_found_and_the_next_one_asks_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    readings: list[bytes] = []
    may_end = threading.Event()

    def read() -> bytes:
        readings.append(b"reading %d" % len(readings))
        return readings[-1] if may_end.wait(10) else b""

    monkeypatch.setattr(health, "exposition", read)
    app = FastAPI()
    app.include_router(health.router(Checked()))
    asked = 0

    async def counted(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal asked
        asked += 1
        if asked == 50:
            asyncio.get_running_loop().call_soon(may_end.set)
        await app(scope, receive, send)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(counted), base_url="http://localhost") as client:
        flood = await asyncio.gather(*(client.get("/metrics") for _ in range(50)))
        assert {each.content for each in flood} == {b"reading 0"}
        assert (await client.get("/metrics")).content == b"reading 1"
