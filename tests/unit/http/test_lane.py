"""POST /guard takes the lane, and everything that is told of the endpoint stays as FastAPI tells it."""

from __future__ import annotations

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request, Response

from app.contracts import GuardAnswer
from app.errors import Overloaded
from app.http.lane import Lane, lane


def application(seen: list[object]) -> FastAPI:
    routes = APIRouter()

    @routes.post("/guard", response_model=GuardAnswer)
    async def guard(request: Request) -> Response:
        seen.append(request.scope["route"])
        if await request.body() == b"refuse":
            raise Overloaded
        return Response(await request.body())

    app = FastAPI()

    @app.exception_handler(Overloaded)
    async def overloaded(request: Request, error: Overloaded) -> Response:
        return Response(status_code=error.status)

    app.router.routes.insert(0, lane(routes.routes, "/guard"))
    app.include_router(routes)
    return app


def client(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://guard")


async def test_a_request_takes_the_lane_and_its_route_has_a_name() -> None:
    seen: list[object] = []
    async with client(application(seen)) as http:
        assert (await http.post("/guard", content=b"text")).content == b"text"
    (route,) = seen
    assert isinstance(route, Lane)
    assert route.path == "/guard"


async def test_errors_find_their_handlers() -> None:
    async with client(application([])) as http:
        assert (await http.post("/guard", content=b"refuse")).status_code == 503


async def test_another_method_is_refused_and_the_endpoint_is_documented_once() -> None:
    app = application([])
    async with client(app) as http:
        assert (await http.get("/guard")).status_code == 405
    assert list(app.openapi()["paths"]) == ["/guard"]


def test_a_path_that_nobody_answers_is_an_error_at_start() -> None:
    with pytest.raises(LookupError):
        lane([], "/guard")
