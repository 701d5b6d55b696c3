"""Two replicas on one nats-server, closed: keys, tenants, limits and slow clients as callers meet them."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from app.messaging.connection import server_address
from app.settings import Settings
from tests.integration.service.test_http_contract import assert_problem
from tests.running_service import RunningService

ADMIN = "admin-key-of-at-least-32-characters"
SETTINGS = {
    "VIGIL_ACCESS__MODE": "keys",
    "VIGIL_ACCESS__ADMIN_KEY": ADMIN,
    "VIGIL_ACCESS__PEPPER": "pepper-of-at-least-32-characters",
    "VIGIL_PRIVACY__RESTORE_KEY": "restore-key-of-at-least-32-characters",
    "VIGIL_HTTP__BODY_TIMEOUT_S": "1",
    "VIGIL_HTTP__HEADER_TIMEOUT_S": "1",
}
CUT_OFF_WITHIN_S = 20.0
"""Long enough for a machine with other work; without the limits a client waits for ever."""


@pytest.fixture(scope="module")
def replicas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningService, RunningService]]:
    arguments = ("--timeout-keep-alive", "1")
    first = RunningService(tmp_path_factory.mktemp("first"), SETTINGS, arguments)
    running = [first]
    try:
        first.start()
        shared = server_address(Settings(state_dir=first.state_dir, nats_url=None))
        second = RunningService(tmp_path_factory.mktemp("second"), {**SETTINGS, "NATS_URL": shared}, arguments)
        running.append(second.start())
        yield first, second
    finally:
        for service in reversed(running):
            service.end()


@pytest.fixture
def clients(replicas: tuple[RunningService, RunningService]) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    first, second = replicas
    with httpx.Client(base_url=first.url, timeout=30) as one, httpx.Client(base_url=second.url, timeout=30) as other:
        yield one, other


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def make_key(client: httpx.Client, **fields: Any) -> tuple[str, str]:
    """Return a new key's id and token, known to the replica that made it."""
    response = client.post("/admin/keys", json={"name": "test", **fields}, headers=bearer(ADMIN))
    assert response.status_code == 201, response.text
    assert response.headers["cache-control"] == "no-store"
    issued = response.json()
    wait_until(lambda: client.get("/no/such/path", headers=bearer(issued["key"])).status_code not in (401, 503))
    return issued["description"]["id"], issued["key"]


def judged(client: httpx.Client, token: str, body: dict[str, Any]) -> int:
    return client.post("/guard", json={"mode": "fast", **body}, headers=bearer(token)).status_code


def wait_until(condition: Callable[[], bool], *, within_s: float = 5.0) -> float:
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < within_s
    return time.monotonic() - started


def code_of(response: httpx.Response) -> str:
    assert response.headers["content-type"] == "application/problem+json"
    return str(response.json()["type"]).rpartition(":")[2]


def test_a_key_is_seen_and_ended_on_the_other_replica_within_a_second(
    clients: tuple[httpx.Client, httpx.Client],
) -> None:
    one, other = clients
    key_id, token = make_key(one)
    assert wait_until(lambda: judged(other, token, {"text": "hello"}) == 200) < 1
    assert one.post(f"/admin/keys/{key_id}/revoke", headers=bearer(ADMIN)).status_code == 200
    assert wait_until(lambda: judged(other, token, {"text": "hello"}) == 401) < 1


def test_a_change_of_a_key_holds_on_the_other_replica_within_a_second(
    clients: tuple[httpx.Client, httpx.Client],
) -> None:
    one, other = clients
    key_id, token = make_key(one, tenant="acme", limits={"text_length": 5})
    wait_until(lambda: judged(other, token, {"text": "hello"}) == 200)
    assert judged(other, token, {"text": "hello there"}) == 422
    path = f"/admin/keys/{key_id}"
    wanted = {"name": "renamed", "policy": "strict", "limits": {"text_length": None, "requests_per_day": 1000}}
    changed = one.patch(path, json=wanted, headers=bearer(ADMIN))
    assert changed.status_code == 200
    assert (changed.json()["tenant"], changed.json()["policy"]) == ("acme", "strict")
    assert wait_until(lambda: judged(other, token, {"text": "hello there"}) == 200) < 1
    answered = other.post("/guard", json={"text": "hello there", "mode": "fast"}, headers=bearer(token))
    assert answered.json()["policy"] == "strict"
    assert '"day";q=1000' in answered.headers["ratelimit-policy"]
    told = one.get("/admin/audit", params={"action": "keys.set"}, headers=bearer(ADMIN)).json()["entries"][0]
    assert (told["actor"], told["target"]) == ("bootstrap", f"{key_id} test")
    assert told["detail"] == "name renamed, policy strict, limits.requests_per_day 1000, limits.text_length none"
    assert_problem(one.patch(path, json={}, headers=bearer(ADMIN)), 422, "body")
    assert_problem(one.patch(path, json={"limits": {"burst": 0}}, headers=bearer(ADMIN)), 422, "limits.burst")
    assert_problem(one.patch(path, json={"policy": "nowhere"}, headers=bearer(ADMIN)), 422, "policy")
    assert one.patch(path, json={"name": "mine"}, headers=bearer(token)).status_code == 403
    one.post(f"{path}/revoke", headers=bearer(ADMIN))
    assert one.patch(path, json=wanted, headers=bearer(ADMIN)).status_code == 404


def test_who_has_no_key_or_a_wrong_one_or_one_that_ended_is_refused(clients: tuple[httpx.Client, httpx.Client]) -> None:
    one, _ = clients
    body = {"text": "hello", "mode": "fast"}
    missing = one.post("/guard", json=body)
    assert (missing.status_code, code_of(missing)) == (401, "key-missing")
    assert missing.headers["www-authenticate"].startswith("Bearer")
    wrong = one.post("/guard", json=body, headers=bearer("vgk_0123456789ab_" + "0" * 64))
    assert (wrong.status_code, code_of(wrong)) == (401, "key-refused")
    key_id, token = make_key(one)
    one.post(f"/admin/keys/{key_id}/revoke", headers=bearer(ADMIN))
    wait_until(lambda: judged(one, token, body) == 401)
    assert "revoked" in one.post("/guard", json=body, headers=bearer(token)).json()["detail"]


def test_a_key_names_policies_that_exist(clients: tuple[httpx.Client, httpx.Client]) -> None:
    one, _ = clients
    for named in ({"policy": "nowhere"}, {"policies": ["strict", "nowhere"]}):
        refused = one.post("/admin/keys", json={"name": "x", **named}, headers=bearer(ADMIN))
        assert_problem(refused, 422, *named)
        assert "the policies are balanced, permissive, strict" in refused.json()["detail"]


def test_a_key_ends_with_its_time(clients: tuple[httpx.Client, httpx.Client]) -> None:
    one, _ = clients
    ends_at = datetime.now(UTC) + timedelta(seconds=2)
    _, token = make_key(one, expires_at=ends_at.isoformat())
    assert judged(one, token, {"text": "hello"}) == 200
    wait_until(lambda: judged(one, token, {"text": "hello"}) == 401)
    assert "expired" in one.post("/guard", json={"text": "x"}, headers=bearer(token)).json()["detail"]
    late = one.post("/admin/keys", json={"name": "x", "expires_at": "2020-01-01T00:00:00Z"}, headers=bearer(ADMIN))
    assert (late.status_code, late.json()["errors"][0]["field"]) == (422, "expires_at")


def test_a_scope_opens_its_paths_alone(clients: tuple[httpx.Client, httpx.Client]) -> None:
    one, _ = clients
    _, token = make_key(one)
    for response in (
        one.get("/admin/keys", headers=bearer(token)),
        one.get("/admin/audit", headers=bearer(token)),
        one.post("/guard", json={"text": "x"}, headers=bearer(ADMIN)),
        one.get("/no/such/path", headers=bearer(token)),
    ):
        assert (response.status_code, code_of(response)) == (403, "scope-missing")
    for path in ("/health", "/health/ready", "/metrics", "/docs", "/openapi.json"):
        assert one.get(path).status_code == 200


def test_keys_are_listed_without_secrets_and_actions_are_recorded(clients: tuple[httpx.Client, httpx.Client]) -> None:
    one, _ = clients
    key_id, token = make_key(one, tenant="acme", limits={"rate_per_s": 5})
    listed = one.get("/admin/keys", headers=bearer(ADMIN))
    assert token.rpartition("_")[2] not in listed.text
    assert "digest" not in listed.text
    found = next(each for each in listed.json()["keys"] if each["id"] == key_id)
    assert (found["tenant"], found["limits"]["rate_per_s"], found["created_by"]) == ("acme", 5, "bootstrap")
    entries = one.get("/admin/audit", headers=bearer(ADMIN)).json()["entries"]
    assert any(each["action"] == "keys.create" and key_id in each["target"] for each in entries)


def test_after_a_rotation_the_old_secret_works_for_its_grace(clients: tuple[httpx.Client, httpx.Client]) -> None:
    one, _ = clients
    key_id, old = make_key(one)
    path = f"/admin/keys/{key_id}/rotate"
    new = one.post(path, headers=bearer(ADMIN)).json()["key"]
    wait_until(lambda: judged(one, new, {"text": "hello"}) == 200)
    assert judged(one, old, {"text": "hello"}) == 200
    newest = one.post(path, json={"grace_s": 0}, headers=bearer(ADMIN)).json()["key"]
    wait_until(lambda: judged(one, newest, {"text": "hello"}) == 200)
    assert judged(one, new, {"text": "hello"}) == judged(one, old, {"text": "hello"}) == 401


def test_another_tenants_request_is_not_there(clients: tuple[httpx.Client, httpx.Client]) -> None:
    one, other = clients
    (_, acme), (_, globex) = make_key(one, tenant="acme"), make_key(one, tenant="globex")
    wait_until(lambda: judged(other, globex, {"text": " "}) == 422)
    request_id = str(uuid4())
    mine = one.post("/guard", json={"text": "hello", "request_id": request_id, "mode": "fast"}, headers=bearer(acme))
    assert mine.json()["request_id"] == request_id
    path = f"/guard/{request_id}"
    assert one.get(path, headers=bearer(acme)).json() == mine.json()
    assert other.get(path, headers=bearer(globex)).status_code == 404
    body = {"text": "another text", "request_id": request_id, "mode": "fast"}
    theirs = other.post("/guard", json=body, headers=bearer(globex))
    assert (theirs.status_code, theirs.json()["request_id"]) == (200, request_id)
    assert one.get(path, headers=bearer(acme)).json() == mine.json()
    reported = one.post(f"{path}/feedback", json={"verdict": "correct"}, headers=bearer(acme))
    assert (reported.status_code, reported.json()["request_id"]) == (202, request_id)
    foreign = other.post(f"/guard/{uuid4()}/feedback", json={"verdict": "correct"}, headers=bearer(globex))
    assert foreign.status_code == 404
    made = one.post("/guard", json={"text": "hello", "mode": "fast"}, headers=bearer(acme)).json()["request_id"]
    assert one.get(f"/guard/{made}", headers=bearer(acme)).status_code == 200
    assert other.get(f"/guard/{made}", headers=bearer(globex)).status_code == 404


def test_another_tenants_restore_map_does_not_open(clients: tuple[httpx.Client, httpx.Client]) -> None:
    one, _ = clients
    (_, acme), (_, globex) = make_key(one, tenant="acme"), make_key(one, tenant="globex")
    wait_until(lambda: judged(one, globex, {"text": " "}) == 422)
    asked = {"text": "My PESEL is 44051401359", "restorable": True}
    restore_map = one.post("/guard", json=asked, headers=bearer(acme)).json()["restore_map"]
    body = {"text": "<PL_PESEL_1>", "restore_map": restore_map}
    assert one.post("/restore", json=body, headers=bearer(acme)).json()["text"] == "44051401359"
    own = {"request_id": str(uuid4())}
    restore_own = one.post("/guard", json=asked | own, headers=bearer(acme)).json()["restore_map"]
    named = one.post("/restore", json=body | {"restore_map": restore_own}, headers=bearer(acme)).json()
    assert named["request_id"] == own["request_id"]
    assert_problem(one.post("/restore", json=body, headers=bearer(globex)), 422, "restore_map")
    assert one.post("/guard", json=body, headers=bearer(acme)).status_code == 200
    assert_problem(one.post("/guard", json=body, headers=bearer(globex)), 422, "restore_map")
    streamed = "".join(json.dumps(line) + "\n" for line in ({"restore_map": restore_map}, {"text": "<PL_PESEL_1>"}))
    ndjson = {"Content-Type": "application/x-ndjson"}
    assert "44051401359" in one.post("/guard/stream", content=streamed, headers=bearer(acme) | ndjson).text
    refused = one.post("/guard/stream", content=streamed, headers=bearer(globex) | ndjson)
    assert refused.status_code == 422
    assert "44051401359" not in refused.text


def test_the_log_holds_no_key(replicas: tuple[RunningService, RunningService]) -> None:
    for service in replicas:
        assert re.search(r"vgk_[0-9a-f]{12}_[0-9a-f]", service.log) is None
        assert ADMIN not in service.log


def test_a_rate_holds_over_both_replicas_within_a_tenth(clients: tuple[httpx.Client, httpx.Client]) -> None:
    """20 a second are allowed and many more come to each replica; a path that nobody serves is the cheapest."""
    rate, burst, seconds = 20, 10, 5.0
    _, token = make_key(clients[0], scopes=["admin"], limits={"rate_per_s": rate, "burst": burst})
    path = "/no/such/path"
    wait_until(lambda: clients[1].get(path, headers=bearer(token)).status_code != 401)
    answered: list[int] = []
    until = time.monotonic() + seconds

    def call(client: httpx.Client) -> None:
        while time.monotonic() < until:
            answered.append(client.get(path, headers=bearer(token)).status_code)

    started = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(call, clients * 2))
    took_s = time.monotonic() - started
    admitted = sum(status != 429 for status in answered)
    assert answered.count(429) > 0
    assert admitted <= 1.1 * (rate * took_s + burst)
    assert admitted >= 0.9 * rate * took_s


def test_a_refused_caller_is_told_when_to_come_back(clients: tuple[httpx.Client, httpx.Client]) -> None:
    one, _ = clients
    _, token = make_key(one, limits={"rate_per_s": 0.01, "burst": 5})
    while (response := one.get(f"/guard/{uuid4()}", headers=bearer(token))).status_code != 429:
        assert re.fullmatch(r'"rate";r=\d;t=\d+', response.headers["ratelimit"])
    assert code_of(response) == "rate-limited"
    assert 1 <= int(response.headers["retry-after"]) <= 100
    assert response.headers["ratelimit-policy"] == '"rate";q=5;w=500'


def test_limits_of_a_key_on_text_and_batch_are_told_by_field(clients: tuple[httpx.Client, httpx.Client]) -> None:
    one, _ = clients
    _, token = make_key(one, limits={"text_length": 5, "batch_size": 2, "body_bytes": 200, "requests_per_day": 3})
    long = one.post("/guard", json={"text": "kappa-omega"}, headers=bearer(token))
    assert (long.status_code, long.json()["errors"][0]["field"]) == (422, "text")
    batch = [{"text": "a", "mode": "fast"}] * 3
    assert one.post("/guard/batch", json={"requests": batch}, headers=bearer(token)).status_code == 422
    large = one.post("/guard", json={"text": "a", "metadata": {"x": "y" * 300}}, headers=bearer(token))
    assert (large.status_code, code_of(large)) == (413, "payload-too-large")
    answers = [one.post("/guard", json={"text": "a", "mode": "fast"}, headers=bearer(token)) for _ in range(4)]
    assert [each.status_code for each in answers] == [200, 200, 200, 429]
    assert code_of(answers[-1]) == "quota-exceeded"
    assert answers[-1].headers["ratelimit"].startswith('"day";r=0;t=')


def read_until_closed(connection: socket.socket) -> bytes:
    """What came before the service closed the connection, also by a reset: a close while bytes are unread is one."""
    received = b""
    try:
        while chunk := connection.recv(4096):
            received += chunk
    except ConnectionResetError:
        pass
    return received


def trickle(connection: socket.socket, stop: threading.Event) -> None:
    while not stop.wait(0.2):
        try:
            connection.sendall(b"x")
        except OSError:
            return


@pytest.mark.parametrize("head", [b"POST /guard HTTP/1.1\r\nX-Slow: ", b""], ids=["in its headers", "silent"])
def test_a_client_that_never_ends_its_headers_is_cut_off(
    replicas: tuple[RunningService, RunningService], head: bytes
) -> None:
    stop = threading.Event()
    with socket.create_connection(("127.0.0.1", replicas[0].port), timeout=CUT_OFF_WITHIN_S) as connection:
        connection.sendall(head)
        if head:
            threading.Thread(target=trickle, args=(connection, stop), daemon=True).start()
        try:
            assert read_until_closed(connection) == b""
        finally:
            stop.set()


def test_a_client_that_sends_its_body_byte_by_byte_is_cut_off(
    replicas: tuple[RunningService, RunningService], clients: tuple[httpx.Client, httpx.Client]
) -> None:
    _, token = make_key(clients[0])
    stop = threading.Event()
    with socket.create_connection(("127.0.0.1", replicas[0].port), timeout=CUT_OFF_WITHIN_S) as connection:
        connection.sendall(
            b"POST /guard HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
            b"Authorization: Bearer " + token.encode() + b"\r\n\r\n{"
        )
        threading.Thread(target=trickle, args=(connection, stop), daemon=True).start()
        try:
            answer = read_until_closed(connection)
        finally:
            stop.set()
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in answer.lower()


def test_listening_for_other_machines_without_a_key_ends_the_start_with_what_to_do(tmp_path: Path) -> None:
    service = RunningService(tmp_path / "state", arguments=("--host", "0.0.0.0"))  # noqa: S104 - what is refused
    try:
        service.start(wait=False)
        assert service.process is not None
        assert service.process.wait(60) != 0
        service.process = None
    finally:
        service.end()
    assert "VIGIL_ACCESS__MODE=keys" in service.log
    assert "0.0.0.0" in service.log  # noqa: S104
