"""An HTTP request joins its caller's trace; its span names the route and never what a caller wrote."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request, Response

from app.http.correlate import Correlate
from app.http.lane import lane
from app.identity import new_request_id
from app.telemetry import correlation
from tests.spans import CALLER, TRACE_ID, parent_of, recording, trace_of

REQUEST_ID = new_request_id()


@pytest.fixture
def app() -> FastAPI:
    app, routes = FastAPI(), APIRouter()

    @routes.post("/guard")
    async def guard(_: Request) -> Response:
        correlation.identify(REQUEST_ID)
        correlation.note(mode="fast")
        return Response(correlation.traceparent())

    @routes.get("/guard/{request_id}")
    async def decision(request_id: str) -> Response:
        return Response(status_code=503)

    @routes.get("/livez")
    async def alive() -> Response:
        return Response(correlation.traceparent())

    app.router.routes.insert(0, lane(routes.routes, "/guard"))
    app.include_router(routes)
    app.add_middleware(Correlate)
    return app


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://guard") as client:
        yield client


async def test_a_span_continues_the_callers_trace_and_names_the_route(client: httpx.AsyncClient) -> None:
    with recording() as recorded:
        inside = (await client.post("/guard?text=secret", headers={"traceparent": CALLER})).text
    [span] = recorded.spans
    assert span.name == "POST /guard"
    assert (trace_of(span), parent_of(span)) == (TRACE_ID, "b7ad6b7169203331")
    assert correlation.trace_id_of(inside) == TRACE_ID
    assert inside != CALLER
    assert dict(span.attributes or {}) == {
        "http.request.method": "POST",
        "http.route": "/guard",
        "http.response.status_code": 200,
        "vigil.request_id": str(REQUEST_ID),
        "vigil.mode": "fast",
    }


@pytest.mark.parametrize(
    ("method", "path", "name", "failed"),
    [
        ("GET", "/guard/secret", "GET /guard/{request_id}", True),
        ("GET", "/secret", "GET", False),
        ("SECRET", "/guard", "HTTP", False),
    ],
)
async def test_what_a_caller_wrote_stands_in_no_span(
    client: httpx.AsyncClient, method: str, path: str, name: str, failed: bool
) -> None:
    with recording() as recorded:
        await client.request(method, path)
    [span] = recorded.spans
    assert span.name == name
    assert "secret" not in span.to_json().lower()
    assert span.status.is_ok is not failed


@pytest.mark.parametrize("prefix", ["", "/vigil"])
async def test_machines_that_ask_for_health_are_not_traced(app: FastAPI, prefix: str) -> None:
    transport = httpx.ASGITransport(app, root_path=prefix)
    async with httpx.AsyncClient(transport=transport, base_url="http://guard") as client:
        with recording() as recorded:
            assert (await client.get(f"{prefix}/livez", headers={"traceparent": CALLER})).text == CALLER
    assert recorded.spans == []


async def test_without_tracing_the_callers_context_is_kept(client: httpx.AsyncClient) -> None:
    assert (await client.post("/guard", headers={"traceparent": CALLER})).text == CALLER
    assert (await client.post("/guard", headers={"traceparent": "secret"})).text == ""
