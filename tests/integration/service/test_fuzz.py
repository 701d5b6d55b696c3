"""Short versions of `make fuzz`: mutated messages, requests by and against the OpenAPI document, hostile headers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import pytest

from tests.fuzz import http, messages
from tests.fuzz.__main__ import ENVIRONMENT
from tests.integration.service.conftest import PARTICULAR_ORIGIN
from tests.running_service import RunningService

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


def test_mutated_messages_are_each_decided_or_dead_lettered(new_service: Callable[..., RunningService]) -> None:
    account = asyncio.run(messages.run(new_service(environment=ENVIRONMENT).start(), 600, seed=7))
    assert account.unaccounted == ()
    assert account.left == 0
    assert account.reconnects == 0
    assert account.decided + account.dead == account.stored
    assert min(account.decided, account.dead, account.refused, account.answered, account.forged) > 0


def test_every_operation_keeps_to_its_document(new_service: Callable[..., RunningService]) -> None:
    """On a service of its own: it makes keys and policies too."""
    reports = list(http.run(new_service(environment=ENVIRONMENT).start(), 3, start=3))
    assert len(reports) > 10
    assert [line for report in reports if report.faults for line in report.lines()] == []


@pytest.mark.parametrize("path", ["/guard", "/nowhere", "/health", "/openapi.json", "/metrics", "/v2/guard"])
def test_every_answer_tells_browsers_to_be_careful(path: str, client: httpx.Client) -> None:
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "strict-transport-security" not in headers
    assert "access-control-allow-origin" not in headers


def test_pages_of_other_sites_are_refused_until_they_are_listed(
    client: httpx.Client, particular: RunningService
) -> None:
    page = {"Origin": PARTICULAR_ORIGIN}
    preflight = page | {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    body = {"text": "Good morning", "mode": "fast"}
    refused = client.post("/guard", json=body, headers=page)
    assert refused.status_code == 403
    assert refused.json()["type"] == "urn:vigil-guard:problem:cross-origin"
    assert client.options("/guard", headers=preflight).status_code == 403
    with httpx.Client(base_url=particular.url, timeout=30) as browser:
        allowed = browser.options("/guard", headers=preflight)
        assert allowed.status_code == 200
        assert allowed.headers["access-control-allow-origin"] == PARTICULAR_ORIGIN
        assert "access-control-allow-credentials" not in allowed.headers
        answered = browser.post("/guard", json=body, headers=page)
        assert answered.status_code == 200
        assert answered.headers["access-control-allow-origin"] == PARTICULAR_ORIGIN
        assert browser.post("/guard", json=body, headers={"Origin": "https://evil.example"}).status_code == 403
