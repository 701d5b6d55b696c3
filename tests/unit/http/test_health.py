"""Health checks answer HEAD as they answer GET: some load balancers ask so."""

from __future__ import annotations

import httpx
import pytest
from fastapi import FastAPI

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
