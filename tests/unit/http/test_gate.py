"""The gate: keys from headers, refusals as problems, limits told, slow and large bodies cut off."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from app.access.control import AccessControl, AccessMode
from app.access.keys import KeyRequest, Peppers, issue
from app.access.limits import UNLIMITED
from app.access.metering import Metering
from app.access.principal import ANONYMOUS
from app.errors import BodyTimeout, Overloaded, PayloadTooLarge, QuotaExceeded, ScanFailed, VigilError
from app.http.gate import Gate, counted, hold_room, principal_of
from app.http.shapes import Shapes
from app.http.slow_clients import HeaderDeadline, keep_alive
from app.settings import GatewaySettings, HttpSettings

PEPPERS = Peppers([b"pepper-of-32-characters-or-more-1"])


def key(**fields: Any) -> tuple[str, Any]:
    return issue(KeyRequest(**{"name": "x", **fields}), PEPPERS, created_by="test")


@dataclass
class Caller:
    """Calls a gate with an application behind it that notes who came in, and reads the body when told to."""

    records: list[Any] = field(default_factory=list)
    mode: AccessMode = AccessMode.AUTO
    reads_body: bool = False
    body_timeout_s: float = 1.0
    body: list[dict[str, Any]] = field(default_factory=list)
    seen: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.access = AccessControl(self.mode, PEPPERS, None)
        self.access.replace(self.records)
        self.metering = Metering("0" * 32, UNLIMITED, self.access.keyring.limits_of)
        self.gate = Gate(self._app, self.access, self.metering, Shapes(GatewaySettings()), self.body_timeout_s)

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        self.seen.append(principal_of(scope))
        while self.reads_body and (await receive())["more_body"]:
            pass
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b""})

    async def __call__(
        self,
        path: str = "/guard",
        *,
        method: str = "POST",
        client: str | None = "127.0.0.1",
        root_path: str = "",
        **headers: str,
    ) -> tuple[int, dict[str, str], dict[str, Any]]:
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            if self.body:
                return self.body.pop(0)
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": method,
            "path": root_path + path,
            "root_path": root_path,
            "client": (client, 1) if client is not None else None,
            "headers": [
                (name.replace("_", "-").encode(), value.encode())
                for name, value in ({"host": "localhost:8000"} | headers).items()
            ],
        }
        await self.gate(scope, receive, send)
        answered = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        body = sent[1].get("body", b"")
        return sent[0]["status"], answered, json.loads(body) if body else {}


async def test_an_open_service_lets_this_machine_in_as_anonymous() -> None:
    caller = Caller()
    assert (await caller())[0] == 200
    assert (await caller(client=None))[0] == 200
    assert caller.seen == [ANONYMOUS, ANONYMOUS]


@pytest.mark.parametrize(
    ("client", "headers"),
    [
        ("10.0.0.1", {}),
        ("127.0.0.1", {"host": "rebound.evil.example:8000"}),
        ("127.0.0.1", {"origin": "https://evil.example"}),
        ("127.0.0.1", {"origin": "null"}),
    ],
)
async def test_an_open_service_refuses_strangers_and_pages_of_other_sites(client: str, headers: dict[str, str]) -> None:
    status, _, problem = await Caller()(client=client, **headers)
    assert status == 403
    assert "VIGIL_ACCESS__MODE" in problem["detail"]


async def test_health_and_documentation_stay_open_for_everyone() -> None:
    caller = Caller([key()[1]])
    for path in ("/health/ready", "/metrics", "/docs", "/openapi.json"):
        assert (await caller(path, method="GET", client="10.0.0.1"))[0] == 200


@pytest.mark.parametrize("name", ["authorization", "x_api_key"])
async def test_a_key_comes_in_either_header(name: str) -> None:
    token, record = key(tenant="acme")
    caller = Caller([record])
    status, _, _ = await caller(**{name: f"Bearer {token}" if name == "authorization" else token})
    assert status == 200
    assert [(each.key_id, each.tenant) for each in caller.seen] == [(record.id, "acme")]
    assert (await caller(authorization=f"bearer  {token} "))[0] == 200


async def test_a_key_may_be_the_password_of_presidios_address_and_of_no_other() -> None:
    token, record = key()
    caller = Caller([record])
    for user, prefix in (("any", ""), ("", ""), ("any", "/vigil")):
        credentials = base64.b64encode(f"{user}:{token}".encode()).decode()
        for path, status in (("/presidio/analyze", 200), ("/guard", 401)):
            assert (await caller(path, root_path=prefix, authorization=f"Basic {credentials}"))[0] == status
    for broken in ("", "not base64!", base64.b64encode(token.encode()).decode(), base64.b64encode(b"any:").decode()):
        assert (await caller("/presidio/analyze", authorization=f"Basic {broken}"))[0] == 401


async def test_a_missing_key_is_a_401_with_a_challenge() -> None:
    caller = Caller([key()[1]])
    for headers in ({}, {"authorization": "Digest dTpw"}, {"authorization": "Bearer "}, {"x_api_key": "x" * 600}):
        status, answered, problem = await caller(**headers)
        assert (status, answered["www-authenticate"]) == (401, 'Bearer realm="vigil-guard"')
        assert problem["type"] == "urn:vigil-guard:problem:key-missing"


async def test_a_wrong_key_is_a_401_that_does_not_repeat_it() -> None:
    status, _, problem = await Caller([key()[1]])(authorization="Bearer kappa-omega")
    assert status == 401
    assert "kappa" not in json.dumps(problem)


async def test_a_wrong_scope_is_a_403() -> None:
    token, record = key()
    caller = Caller([record])
    for path in ("/admin/keys", "/events", "/nobody-listed-this"):
        assert (await caller(path, x_api_key=token))[0] == 403
    assert caller.seen == []


async def test_a_caller_over_the_limit_gets_a_429_and_each_answer_tells_what_is_left() -> None:
    token, record = key(limits={"rate_per_s": 0.001, "burst": 2})
    caller = Caller([record])
    status, answered, _ = await caller(x_api_key=token)
    assert (status, answered["ratelimit-policy"]) == (200, '"rate";q=2;w=2000')
    assert answered["ratelimit"].startswith('"rate";r=1;t=')
    await caller(x_api_key=token)
    status, answered, problem = await caller(x_api_key=token)
    assert status == 429
    assert 990 < int(answered["retry-after"]) <= 1000
    assert answered["ratelimit"].startswith('"rate";r=0;t=')
    assert problem["type"] == "urn:vigil-guard:problem:rate-limited"


async def test_a_batch_without_room_in_the_quota_is_refused_as_a_whole() -> None:
    token, record = key(limits={"requests_per_day": 10})
    caller = Caller([record])
    scope = {"vigil.principal": caller.access.keyring.check(token), "vigil.metering": caller.metering}
    hold_room(scope, 10)
    with pytest.raises(QuotaExceeded):
        hold_room(scope, 11)


async def test_texts_are_counted_all_together_or_not_at_all() -> None:
    token, record = key(limits={"requests_per_day": 10})
    caller = Caller([record])
    scope = {"vigil.principal": caller.access.keyring.check(token), "vigil.metering": caller.metering}
    with pytest.raises(QuotaExceeded), counted(scope, 11):
        pass
    with counted(scope, 6):
        pass
    with pytest.raises(QuotaExceeded), counted(scope, 5):
        pass
    with counted(scope, 4):
        pass


@pytest.mark.parametrize(("refused", "left"), [(Overloaded(), 10), (ScanFailed(), 4)])
async def test_texts_that_are_refused_within_are_given_back(refused: VigilError, left: int) -> None:
    token, record = key(limits={"requests_per_day": 10})
    caller = Caller([record])
    scope = {"vigil.principal": caller.access.keyring.check(token), "vigil.metering": caller.metering}
    with pytest.raises(type(refused)), counted(scope, 6):
        raise refused
    hold_room(scope, left)
    with pytest.raises(QuotaExceeded):
        hold_room(scope, left + 1)


async def test_requests_under_way_are_let_go_when_the_application_fails() -> None:
    token, record = key(limits={"concurrency": 1})
    caller = Caller([record], reads_body=True, body_timeout_s=0.01)
    for _ in range(3):
        with pytest.raises(BodyTimeout):
            await caller(x_api_key=token)


async def test_a_body_that_does_not_come_is_cut_off() -> None:
    caller = Caller(reads_body=True, body_timeout_s=0.01)
    caller.body = [{"type": "http.request", "body": b"x", "more_body": True}]
    with pytest.raises(BodyTimeout):
        await caller()


async def test_a_body_that_comes_byte_by_byte_does_not_get_more_time() -> None:
    caller = Caller(reads_body=True, body_timeout_s=0.05)

    async def trickle() -> dict[str, Any]:
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b"x", "more_body": True}

    with pytest.raises(BodyTimeout):
        await caller.gate(
            {"type": "http", "method": "POST", "path": "/guard", "client": None, "headers": []}, trickle, None
        )


async def test_after_the_body_an_application_may_wait_for_the_end_of_the_connection() -> None:
    caller = Caller(body_timeout_s=0.01)
    caller.body = [{"type": "http.request", "body": b"", "more_body": False}, {"type": "http.disconnect"}]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await asyncio.sleep(0.02)
        caller.seen.append((await receive())["type"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    caller.gate._app = app
    await caller()
    assert caller.seen == ["http.disconnect"]


async def test_a_body_larger_than_the_keys_is_refused() -> None:
    token, record = key(limits={"body_bytes": 3})
    caller = Caller([record], reads_body=True)
    caller.body = [{"type": "http.request", "body": b"xx", "more_body": True} for _ in range(2)]
    with pytest.raises(PayloadTooLarge):
        await caller(x_api_key=token)


async def test_a_kind_of_connection_that_no_route_has_is_closed() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await Caller().gate({"type": "websocket", "path": "/guard"}, None, send)  # type: ignore[arg-type]
    assert sent == [{"type": "websocket.close", "code": 1008}]


@dataclass(eq=False)
class Connection:
    cycle: Any = None
    untaken: int = 0
    closed: bool = False
    aborted: bool = False

    @property
    def transport(self) -> Connection:
        return self

    def get_write_buffer_size(self) -> int:
        return self.untaken

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True


@dataclass
class Cycle:
    response_complete: bool = True


@dataclass
class Server:
    connections: set[Connection]
    timeout_keep_alive: int = 5

    @property
    def server_state(self) -> Server:
        return self

    @property
    def config(self) -> Server:
        return self


def test_connections_are_kept_for_longer_than_load_balancers_keep_theirs_unless_told_otherwise() -> None:
    usual, told = Server(set()), Server(set(), timeout_keep_alive=7)
    for server in (usual, told):
        keep_alive(server, HttpSettings().keep_alive_s)
    assert usual.timeout_keep_alive > 60
    assert told.timeout_keep_alive == 7


def test_a_connection_that_had_a_request_may_wait_as_long_as_it_is_kept() -> None:
    silent, asked = Connection(), Connection(Cycle())
    deadline = HeaderDeadline(Server({silent, asked}, timeout_keep_alive=75), 10)
    for second in range(0, 90, 3):
        deadline.look(float(second))
        assert silent.closed is (second >= 12)
        assert asked.closed is (second >= 75)


def test_a_connection_without_a_request_is_closed_in_time_and_one_at_work_is_not() -> None:
    silent, working, busy = Connection(), Connection(Cycle(response_complete=False)), Connection(Cycle())
    deadline = HeaderDeadline(Server({silent, working, busy}), 10)
    for second in range(0, 30, 3):
        busy.cycle = Cycle()  # Another request each time.
        deadline.look(float(second))
        assert silent.closed is (second >= 12)
    assert not working.closed
    assert not busy.closed


@pytest.mark.parametrize("complete", [True, False])
def test_a_connection_of_which_nothing_is_taken_ends_without_waiting_for_that(complete: bool) -> None:
    stuck, slow = (Connection(Cycle(response_complete=complete), untaken=1_000) for _ in range(2))
    deadline = HeaderDeadline(Server({stuck, slow}, timeout_keep_alive=75), 10)
    for second in range(0, 90, 3):
        slow.untaken -= 1
        deadline.look(float(second))
        assert stuck.aborted is (second >= 75)
    assert [stuck.closed, slow.closed, slow.aborted] == [False] * 3
