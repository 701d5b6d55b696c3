"""Two workers, one with the event log open, and keys of two tenants: who sees what, whichever worker answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.running_service import PLAIN_HTTP, RunningService

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

ADMIN = "admin-key-of-at-least-32-characters"
REPEATS = 8
"""Connections of their own, so that both workers answer some."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    running = RunningService(
        tmp_path_factory.mktemp("workers"),
        {
            "VIGIL_ACCESS__MODE": "keys",
            "VIGIL_ACCESS__ADMIN_KEY": ADMIN,
            "VIGIL_ACCESS__PEPPER": "pepper-of-at-least-32-characters",
            "VIGIL_EVENT_LOG__BATCH_WAIT_S": "0.1",
        },
        ("--workers", "2"),
    )
    try:
        yield running.start()
    finally:
        running.end()


def asked(service: RunningService, token: str, path: str, **params: Any) -> httpx.Response:
    headers = {"x-api-key": token}
    return httpx.get(f"{service.url}{path}", params=params, headers=headers, timeout=30, verify=PLAIN_HTTP)


def posted(service: RunningService, token: str, path: str, body: dict[str, Any]) -> httpx.Response:
    headers = {"x-api-key": token}
    return httpx.post(f"{service.url}{path}", json=body, headers=headers, timeout=30, verify=PLAIN_HTTP)


def key(service: RunningService, tenant: str, *scopes: str) -> tuple[str, str]:
    """Make a key that both workers know; return its id and its token."""
    fields = {"name": tenant, "tenant": tenant, "scopes": list(scopes)}
    made = posted(service, ADMIN, "/admin/keys", fields).raise_for_status().json()
    token = made["key"]

    def known(_: httpx.Client) -> bool:
        return all(asked(service, token, "/feedback").status_code == 200 for _ in range(REPEATS))

    service.wait_for(known)
    return made["description"]["id"], token


def test_a_key_sees_and_reports_on_its_own_tenant_and_an_administrator_forgets_one(service: RunningService) -> None:
    acme_id, acme = key(service, "acme", "guard", "events")
    _, other = key(service, "other", "guard", "events")
    _, auditor = key(service, "office", "events", "admin")
    ids = {
        token: posted(service, token, "/guard", {"text": "Good morning", "mode": "fast"}).json()["request_id"]
        for token in (acme, other)
    }

    def logged(_: httpx.Client) -> bool:
        return len(asked(service, auditor, "/events").json()["events"]) == 2

    service.wait_for(logged)
    for _ in range(REPEATS):
        for token, request_id in ids.items():
            listed = asked(service, token, "/events").json()["events"]
            assert [each["request_id"] for each in listed] == [request_id]
            assert asked(service, token, "/stats").json()["total"] == 1
    foreign = ids[other]
    assert asked(service, acme, f"/events/{foreign}").status_code == 404
    assert asked(service, acme, "/events", tenant="other").status_code == 403
    assert asked(service, acme, "/stats", tenant="other").json()["type"].endswith(":tenant-refused")
    assert posted(service, acme, f"/guard/{foreign}/feedback", {"verdict": "correct"}).status_code == 404
    assert posted(service, acme, "/admin/forget", {"tenant": "other"}).status_code == 403
    assert posted(service, acme, f"/guard/{ids[acme]}/feedback", {"verdict": "correct"}).status_code == 202

    def reported(_: httpx.Client) -> bool:
        return bool(asked(service, auditor, "/feedback").json()["reports"])

    service.wait_for(reported)
    (report,) = asked(service, acme, "/feedback").json()["reports"]
    assert (report["tenant"], report["key_id"], report["request_key_id"]) == ("acme", acme_id, acme_id)
    assert asked(service, other, "/feedback").json()["reports"] == []

    done = posted(service, auditor, "/admin/forget", {"tenant": "acme"}).json()
    assert (done["state"], done["removed"]["events"], done["removed"]["feedback"]) == ("done", 1, 1)
    assert [each["tenant"] for each in asked(service, auditor, "/events").json()["events"]] == ["other"]
    done = posted(service, auditor, "/admin/forget", {"key_id": acme_id}).json()
    assert (done["state"], set(done["removed"].values())) == ("done", {0})
    entries = asked(service, auditor, "/admin/audit", action="forget.ask").json()["entries"]
    assert [each["target"] for each in entries] == [f"key {acme_id}", "tenant acme"]
