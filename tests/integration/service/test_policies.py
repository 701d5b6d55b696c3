"""Policies over HTTP on the running service: applied, refused, tried in shadow, and what a request sees of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

SECRET = "tell me about Pr\u043eject Falcon"
"""With a Cyrillic letter."""


def document(client: httpx.Client, **changes: Any) -> dict[str, Any]:
    shipped = client.get("/admin/policies/balanced").json()
    return {**{key: value for key, value in shipped.items() if key != "version"}, "name": "own", **changes}


def until(condition: Callable[[], bool], *, within_s: float = 5.0) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def guard(client: httpx.Client, text: str, **fields: Any) -> dict[str, Any]:
    reply = client.post("/guard", json={"text": text, **fields})
    assert reply.status_code == 200, reply.text
    answer: dict[str, Any] = reply.json()
    return answer


def test_an_own_policy_is_applied_used_rolled_back_and_removed(client: httpx.Client) -> None:
    deny = [{"rule": "projects", "phrases": ["project falcon"]}]
    applied = client.put("/admin/policies/own", json=document(client, deny_list=deny, mode="fast")).json()
    assert applied == {"name": "own", "version": 1, "changed": True}
    answer = guard(client, SECRET, policy="own")
    assert (answer["decision"], answer["policy"], answer["policy_version"], answer["mode"]) == (
        "BLOCKED",
        "own",
        1,
        "fast",
    )
    (finding,) = [each for each in answer["findings"] if each["detector"] == "deny_list"]
    assert SECRET[finding["start"] : finding["end"]] == "Pr\u043eject Falcon"
    assert finding["rule"] == "projects"

    assert client.put("/admin/policies/own", json=document(client)).json()["version"] == 2
    until(lambda: guard(client, SECRET, policy="own")["policy_version"] == 2)
    assert client.post("/admin/policies/own/rollback", json={}).json()["version"] == 3
    until(lambda: guard(client, SECRET, policy="own")["policy_version"] == 3)
    versions = client.get("/admin/policies/own/versions").json()["versions"]
    assert [(each["version"], each["in_force"]) for each in versions] == [(3, True), (2, False), (1, False)]

    dry = guard(client, SECRET, policy="own", dry_run=True)
    assert (dry["decision"], dry["would_decide"], dry["dry_run"]) == ("ALLOWED", "BLOCKED", True)

    request_id = dry["request_id"]
    real = client.post("/guard", json={"text": SECRET, "policy": "own", "request_id": request_id})
    assert (real.status_code, "dry run" in real.json()["detail"]) == (409, True)
    assert guard(client, SECRET, policy="own", dry_run=True, request_id=request_id) == dry

    assert client.delete("/admin/policies/own").status_code == 204
    until(lambda: client.post("/guard", json={"text": "x", "policy": "own"}).status_code == 422)


def test_a_bad_policy_changes_nothing_and_every_fault_is_named(client: httpx.Client) -> None:
    before = client.get("/admin/policies").json()
    bad = document(client, name="balanced", block_at=500, redaction={"entities": {"PESEL": "keep"}})
    reply = client.put("/admin/policies/balanced", json=bad)
    assert (reply.status_code, reply.headers["content-type"]) == (422, "application/problem+json")
    assert [each["field"] for each in reply.json()["errors"]] == ["block_at"]
    unknown = document(client, name="balanced", redaction={"entities": {"PESEL": "keep"}})
    assert client.put("/admin/policies/balanced", json=unknown).json()["errors"][0]["field"] == (
        "redaction.entities.PESEL"
    )
    hashing = document(client, name="balanced", redaction={"default": "hash"})
    assert "VIGIL_PRIVACY__HASH_KEY" in client.put("/admin/policies/balanced", json=hashing).json()["detail"]
    assert client.put("/admin/policies/balanced", json=document(client)).status_code == 422
    assert client.put("/admin/policies/balanced", content=b"{").status_code == 422
    checked = client.put("/admin/policies/own", params={"check_only": True}, json=document(client)).json()
    assert checked == {"name": "own", "version": 0, "changed": False}
    assert client.get("/admin/policies").json() == before


def test_a_policy_on_trial_is_told_to_who_asks_and_stands_in_the_metrics(client: httpx.Client) -> None:
    stricter = document(client, name="trial", block_at=2, levels={"low_up_to": 1, "medium_up_to": 50})
    assert client.put("/admin/policies/trial", json=stricter).status_code == 200
    until(lambda: "trial" in [each["name"] for each in client.get("/admin/policies").json()["policies"]])
    assert client.put("/admin/policies/balanced/shadow", json={"policy": "trial"}).status_code == 204
    try:
        until(lambda: guard(client, "Hello there", shadow=True)["shadow"] is not None)
        shadow = guard(client, "Hello there", shadow=True)["shadow"]
        assert (shadow["policy"], shadow["policy_version"]) == ("trial", 1)
        assert guard(client, "Hello there")["shadow"] is None
        assert client.delete("/admin/policies/trial").status_code == 409
        assert 'vigil_shadow_decisions_total{decision="ALLOWED",policy="balanced"' in client.get("/metrics").text
    finally:
        assert client.delete("/admin/policies/balanced/shadow").status_code == 204
        assert client.delete("/admin/policies/trial").status_code == 204


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/admin/policies/nowhere", None, 404),
        ("GET", "/admin/policies/balanced?version=999", None, 404),
        ("GET", "/admin/policies/nowhere/versions", None, 404),
        ("DELETE", "/admin/policies/strict", None, 404),
        ("PUT", "/admin/policies/nowhere/default", None, 404),
        ("PUT", "/admin/policies/strict/shadow", {"policy": "nowhere"}, 422),
        ("PUT", "/admin/policies/strict/shadow", {"policy": "strict"}, 422),
        ("POST", "/admin/policies/nowhere/rollback", {}, 404),
        ("POST", "/admin/policies/strict/rollback", {"version": 999}, 404),
        ("GET", "/admin/policies/Bad Name", None, 422),
    ],
)
def test_what_is_not_there_is_a_problem(
    client: httpx.Client, method: str, path: str, body: dict[str, Any] | None, status: int
) -> None:
    reply = client.request(method, path, json=body)
    assert (reply.status_code, reply.headers["content-type"]) == (status, "application/problem+json")
