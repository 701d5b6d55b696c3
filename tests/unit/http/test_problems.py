"""Every request that is answered with a problem is counted by its code, whoever refuses it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from app.http import application
from app.settings import Settings
from tests.metric_values import growth_of
from tests.support import no_metering, open_access


class Open:
    """A service that lets everyone in and is never asked for anything."""

    def __init__(self) -> None:
        self.access, self.metering = open_access(), no_metering()

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


@pytest.mark.parametrize(
    ("method", "address", "status", "code"),
    [
        ("POST", "/guard", 400, "malformed-json"),
        ("GET", "/events?limit=many", 422, "invalid-request"),
        ("GET", "/nowhere", 404, "http-404"),
        ("PUT", "/guard", 405, "http-405"),
    ],
)
async def test_a_problem_is_counted_by_its_code(method: str, address: str, status: int, code: str) -> None:
    service: Any = Open()
    transport = httpx.ASGITransport(application.build(service, Settings(), "0"))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        with growth_of("vigil_request_errors_total", code=code) as counted:
            response = await client.request(method, address)
    assert (response.status_code, counted.value) == (status, 1)
    assert response.json()["type"] == f"urn:vigil-guard:problem:{code}"


async def test_a_query_is_refused_by_field_and_reason_and_nothing_a_caller_wrote_is_repeated() -> None:
    service: Any = Open()
    transport = httpx.ASGITransport(application.build(service, Settings(), "0"))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        refused = await client.get("/events?limit=many&nonsense=1&My+PESEL+is+44051401359=1")
    assert {each["field"]: each["reason"] for each in refused.json()["errors"]} == {
        "query.limit": "Input should be a valid integer, unable to parse string as an integer",
        "query.nonsense": "is not a known field",
        "query.(unnamed field)": "is not a known field",
    }
    assert "query.limit: Input should be a valid integer" in refused.json()["detail"]
    assert "44051401359" not in refused.text
