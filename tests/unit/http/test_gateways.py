"""The endpoints of other contracts: what reaches the pipeline, and what its answers and failures look like outside."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.access.control import AccessControl, AccessMode
from app.access.keys import KeyRequest, Peppers, issue
from app.access.limits import UNLIMITED
from app.access.metering import Metering
from app.access.principal import Principal
from app.contracts import Anonymized, AnonymizeJob, GuardRequest, OnTimeout, PiiEntity, PiiQuery, Verdict
from app.errors import DecisionTimeout, MessagingUnavailable, Overloaded, RequestIdConflict, VigilError
from app.http import application
from app.settings import Settings
from tests.metric_values import growth_of
from tests.support import no_metering, open_access
from tests.unit.gateways.answers import answer, of_chat, sanitized

SECRET = "kappa-omega-secret"
CALL = "/beta/litellm_basic_guardrail_api"


@dataclass
class StubService:
    """Blocks texts with "attack", redacts "Anna", and fails as it is told."""

    failure: VigilError | Exception | None = None
    busy: Overloaded | None = None
    timeout_rule: OnTimeout = "error"
    asked: list[GuardRequest] = field(default_factory=list)
    callers: list[Principal] = field(default_factory=list)
    access: AccessControl = field(default_factory=open_access)
    metering: Metering = field(default_factory=no_metering)

    async def guard(self, request: GuardRequest, caller: Principal) -> bytes:
        self.asked.append(request)
        self.callers.append(caller)
        if self.failure is not None:
            raise self.failure
        decided = answer()
        if "attack" in request.whole_text:
            decided = answer(Verdict.BLOCKED)
        elif "Anna" in request.whole_text:
            decided = sanitized("<PERSON_1>", ("PERSON", 0, 4))
        if request.messages is not None:
            decided = of_chat(request.messages, decided)
        return decided.model_dump_json().encode()

    def refusal(self) -> Overloaded | None:
        return self.busy

    def restore_refusal(self) -> Overloaded | None:
        return None

    def on_timeout(self, request: GuardRequest, caller: Principal) -> tuple[str, OnTimeout]:
        return "mine", self.timeout_rule

    async def find_pii(self, query: PiiQuery) -> list[list[PiiEntity]]:
        if self.failure is not None:
            raise self.failure
        return [[PiiEntity(type="PERSON", start=0, end=4, score=0.9)] for _ in query.texts]

    async def anonymize(self, job: AnonymizeJob) -> Anonymized:
        return Anonymized(text="<PERSON>", items=[])

    def pii_kinds(self, language: str | None) -> list[str]:
        return ["PERSON"] if language in {None, "en"} else []

    def pii_recognizers(self, language: str | None) -> list[str]:
        return ["NameRecognizer"]

    def asyncapi(self) -> str:
        return "{}"

    def __getattr__(self, name: str) -> Any:
        """Stand for what other endpoints need, which nothing here calls."""

        async def unused(*_: Any) -> None:
            raise AssertionError(name)

        return unused


@pytest.fixture(scope="module")
def built() -> tuple[StubService, FastAPI]:
    """Return a service and the application around it: that one takes a quarter of a second to build."""
    service = StubService()
    return service, application.build(service, Settings(), "0.1.0")


@pytest.fixture
def service(built: tuple[StubService, FastAPI]) -> StubService:
    """Return the service as if it were new, but for its access control and metering, which nothing here changes."""
    service = built[0]
    fresh = StubService(access=service.access, metering=service.metering)
    vars(service).update(vars(fresh))
    return service


@pytest.fixture
async def client(service: StubService, built: tuple[StubService, FastAPI]) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(built[1], raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


BODIES: dict[str, dict[str, Any]] = {
    "/v1/guard/input": {"prompt": "attack"},
    "/v1/guard/output": {"output": "attack"},
    "/v1/guard/analyze": {"text": "attack"},
    "/v1/guard/batch": {"items": [{"text": "attack"}]},
    CALL: {"input_type": "request", "texts": ["attack"]},
    "/v2/guard": {"messages": [{"role": "user", "content": "attack"}], "breakdown": True},
    "/presidio/analyze": {"text": "Anna", "language": "en"},
    "/presidio/anonymize": {"text": "Anna", "analyzer_results": []},
}
JUDGING = [path for path in BODIES if not path.startswith("/presidio")]


@pytest.mark.parametrize("path", JUDGING)
async def test_texts_are_judged_with_a_deadline_shorter_than_the_clients(
    path: str, service: StubService, client: httpx.AsyncClient
) -> None:
    response = await client.post(path, json=BODIES[path])
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert [(each.whole_text, each.deadline_ms) for each in service.asked] == [("attack", 4000)]
    assert "BLOCKED" in response.text or response.json()["flagged"]
    assert service.callers[0].tenant == "default"


async def test_several_texts_of_a_chat_are_judged_and_put_back(service: StubService, client: httpx.AsyncClient) -> None:
    body = {"input_type": "request", "texts": ["Hello", "I am Anna", "Hello"]}
    answered = (await client.post(CALL, json=body)).json()
    assert answered == {"action": "GUARDRAIL_INTERVENED", "texts": ["Hello", "<PERSON_1>", "Hello"]}
    assert sorted(each.text for each in service.asked) == ["Hello", "I am Anna"]


async def test_a_batch_names_each_item(service: StubService, client: httpx.AsyncClient) -> None:
    body = {"items": [{"text": "Anna"}, {"text": "attack", "source": "model_output"}, {"text": "fine"}]}
    items = (await client.post("/v1/guard/batch", json=body)).json()["items"]
    assert [(item["index"], item["ok"], item["response"]["decision"]) for item in items] == [
        (0, True, "SANITIZED"),
        (1, True, "BLOCKED"),
        (2, True, "ALLOWED"),
    ]


async def test_items_of_a_batch_that_fail_are_errors_of_their_own(
    service: StubService, client: httpx.AsyncClient
) -> None:
    service.failure = Overloaded()
    response = await client.post("/v1/guard/batch", json=BODIES["/v1/guard/batch"])
    assert response.status_code == 200
    [item] = response.json()["items"]
    assert (item["ok"], item["error"]["code"]) == (False, "OVERLOADED")


async def test_an_idempotency_key_is_one_request_for_each_item(service: StubService, client: httpx.AsyncClient) -> None:
    headers = {"X-Idempotency-Key": "idem_1"}
    for _ in range(2):
        await client.post("/v1/guard/input", json={"prompt": "fine"}, headers=headers)
    await client.post("/v1/guard/batch", json={"items": [{"text": "a"}, {"text": "b"}]}, headers=headers)
    ids = [each.request_id for each in service.asked]
    assert ids[0] == ids[1] is not None
    assert len({*ids}) == 3


@pytest.mark.parametrize("failure", [Overloaded(), MessagingUnavailable(), DecisionTimeout(), ValueError(SECRET)])
async def test_what_could_not_be_judged_is_a_block_to_clients_that_fail_open(
    failure: Exception, service: StubService, client: httpx.AsyncClient
) -> None:
    service.failure = failure
    for path in ("/v1/guard/input", "/v1/guard/output", "/v1/guard/analyze"):
        response = await client.post(path, json=BODIES[path])
        assert response.status_code == 200
        assert response.json()["decision"] == "BLOCKED"
        assert response.json()["outputText"].startswith("This message could not be checked")
        assert SECRET not in response.text


@pytest.mark.parametrize("failure", [Overloaded(), MessagingUnavailable(), DecisionTimeout()])
@pytest.mark.parametrize("path", JUDGING)
async def test_what_could_not_be_judged_in_time_passes_where_the_policy_fails_open(
    path: str, failure: Exception, service: StubService, client: httpx.AsyncClient
) -> None:
    service.failure, service.timeout_rule = failure, "allow"
    with growth_of("vigil_undecided_total", decision="ALLOWED") as passed:
        response = await client.post(path, json=BODIES[path])
    assert (response.status_code, passed.value) == (200, 1)
    told = response.json()
    if path.startswith("/v1"):
        told = told["items"][0]["response"] if path.endswith("batch") else told
        assert (told["decision"], told["failOpen"], told["ruleSetName"]) == ("ALLOWED", True, "mine")
        assert "not judged" in told["decisionReason"]
    else:
        assert told.get("flagged") is False or told["action"] == "NONE"


@pytest.mark.parametrize("path", JUDGING)
async def test_what_could_not_be_judged_in_time_is_blocked_where_the_policy_fails_closed(
    path: str, service: StubService, client: httpx.AsyncClient
) -> None:
    service.failure, service.timeout_rule = DecisionTimeout(), "block"
    with growth_of("vigil_undecided_total", decision="BLOCKED") as refused:
        response = await client.post(path, json=BODIES[path])
    assert (response.status_code, refused.value) == (200, 1)
    assert "BLOCKED" in response.text or response.json()["flagged"]
    assert '"failOpen":true' not in response.text


@pytest.mark.parametrize("path", JUDGING)
async def test_a_failure_that_is_no_lack_of_time_never_fails_open(
    path: str, service: StubService, client: httpx.AsyncClient
) -> None:
    service.timeout_rule = "allow"
    for service.failure in (ValueError(SECRET), RequestIdConflict(field="request_id")):
        response = await client.post(path, json=BODIES[path])
        assert "ALLOWED" not in response.text
        assert '"flagged":false' not in response.text
        assert '"NONE"' not in response.text


@pytest.mark.parametrize(
    ("path", "told"), [("/v2/guard", "message"), (CALL, "blocked_reason"), ("/presidio/analyze", "error")]
)
@pytest.mark.parametrize(
    ("failure", "status"), [(Overloaded(), 503), (DecisionTimeout(), 504), (ValueError(SECRET), 500)]
)
async def test_other_clients_get_an_error_and_do_what_they_are_told_to(
    path: str, told: str, failure: Exception, status: int, service: StubService, client: httpx.AsyncClient
) -> None:
    service.failure = failure
    response = await client.post(path, json=BODIES[path])
    assert response.status_code == status
    assert response.json()[told]
    assert SECRET not in response.text
    assert ("retry-after" in response.headers) == (status == 503)


@pytest.mark.parametrize("path", BODIES)
async def test_a_saturated_service_refuses_before_it_reads(
    path: str, service: StubService, client: httpx.AsyncClient
) -> None:
    service.busy = Overloaded(retry_after_s=9)
    response = await client.post(path, content=b"not read")
    assert service.asked == []
    if response.status_code == 200:
        assert response.json()["decision"] == "BLOCKED"
    else:
        assert response.headers["retry-after"] == "9"
        assert response.headers["content-type"] == "application/json"


async def test_a_conflict_is_an_error_also_to_clients_that_fail_open(
    service: StubService, client: httpx.AsyncClient
) -> None:
    service.failure = RequestIdConflict(field="request_id")
    response = await client.post("/v1/guard/input", json={"prompt": "x"}, headers={"Idempotency-Key": "k"})
    assert response.status_code == 409
    assert response.json()["code"] == "REQUEST_ID_CONFLICT"


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b'{"prompt": "kappa-omega-secret', {}, 400),
        (b"[]", {}, 422),
        (b'{"text": 5, "prompt": 5, "output": 5, "texts": 5, "messages": 5, "items": 5}', {}, 422),
        (b"{}", {"content-type": "text/plain"}, 415),
        (b"x" * 12_000_001, {}, 413),
    ],
)
async def test_bad_input_is_refused_in_the_contracts_shape_without_a_word_of_it(
    path: str, content: bytes, headers: dict[str, str], status: int, service: StubService, client: httpx.AsyncClient
) -> None:
    response = await client.post(path, content=content, headers={"content-type": "application/json", **headers})
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    told = response.json()
    assert told.get("error") or told.get("blocked_reason")
    assert "type" not in told
    assert SECRET not in response.text
    assert service.asked == []


@pytest.mark.parametrize("failure", [Overloaded(), MessagingUnavailable(), ValueError(SECRET)])
@pytest.mark.parametrize("busy", [None, Overloaded()])
async def test_contracts_keep_their_shape_under_a_prefix(
    failure: Exception, busy: Overloaded | None, service: StubService, built: tuple[StubService, FastAPI]
) -> None:
    service.failure, service.busy = failure, busy
    transport = httpx.ASGITransport(built[1], raise_app_exceptions=False, root_path="/vigil")
    async with httpx.AsyncClient(transport=transport, base_url="http://test/vigil") as client:
        response = await client.post("/v1/guard/input", json=BODIES["/v1/guard/input"])
        assert (response.status_code, response.json()["decision"]) == (200, "BLOCKED")
        response = await client.post("/presidio/analyze", json=BODIES["/presidio/analyze"])
        assert list(response.json()) == ["error"]
        foreign = await client.post("/v2/guard", json=BODIES["/v2/guard"], headers={"Origin": "https://evil.example"})
        assert (foreign.status_code, foreign.headers["content-type"]) == (403, "application/json")


@pytest.fixture
async def limited() -> AsyncIterator[tuple[StubService, httpx.AsyncClient]]:
    """Return a service, and a client with a key of it that has narrow limits."""
    peppers = Peppers([b"pepper-of-32-characters-or-more-1"])
    limits = {"requests_per_day": 10, "text_length": 5, "batch_size": 4, "rate_per_s": 0.001, "burst": 20}
    token, record = issue(KeyRequest.model_validate({"name": "x", "limits": limits}), peppers, created_by="test")
    access = AccessControl(AccessMode.KEYS, peppers, None)
    access.replace([record])
    service = StubService(access=access, metering=Metering("0" * 32, UNLIMITED, access.keyring.limits_of))
    transport = httpx.ASGITransport(application.build(service, Settings(), "0.1.0"))
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client:
        yield service, client


@pytest.fixture
def counted(limited: tuple[StubService, httpx.AsyncClient]) -> tuple[StubService, httpx.AsyncClient]:
    """Return the two, where the service counts what it judges, as the real one does."""
    service, _ = limited
    judge = service.guard

    async def guard(request: GuardRequest, caller: Principal) -> bytes:
        service.metering.count(caller)
        return await judge(request, caller)

    service.guard = guard  # type: ignore[method-assign]
    return limited


async def test_a_keys_quota_and_rate_count_each_text_that_presidios_clients_send(
    limited: tuple[StubService, httpx.AsyncClient],
) -> None:
    _, client = limited
    for texts, left in ((["Anna"] * 4, 6), (["Anna"] * 4, 2), ("Anna", 1)):
        answered = await client.post("/presidio/analyze", json={"text": texts})
        assert answered.status_code == 200
        assert f'"day";r={left};' in answered.headers["ratelimit"]
    refused = await client.post("/presidio/analyze", json={"text": ["Anna"] * 2})
    assert (refused.status_code, list(refused.json())) == (429, ["error"])
    anonymized = await client.post("/presidio/anonymize", json=BODIES["/presidio/anonymize"])
    assert anonymized.status_code == 200
    assert '"day";r=0;' in anonymized.headers["ratelimit"]
    assert '"rate";r=9;' in anonymized.headers["ratelimit"]  # 9 texts, the refused request and this one.
    for path in ("/presidio/analyze", "/presidio/anonymize"):
        assert (await client.post(path, json=BODIES[path])).status_code == 429


TEXT_BY_TEXT: dict[str, dict[str, Any]] = {
    "/v2/guard": {"messages": [{"role": "user", "content": text} for text in ("a", "b", "a", "c")] * 60},
    CALL: {"input_type": "response", "texts": ["a", "b", "a", "c"]},
    "/v1/guard/batch": {"items": [{"text": text} for text in "abc"]},
}


@pytest.mark.parametrize("path", TEXT_BY_TEXT)
async def test_what_takes_several_decisions_is_charged_for_each_and_refused_as_a_whole(
    path: str, counted: tuple[StubService, httpx.AsyncClient]
) -> None:
    service, client = counted
    for left in (7, 4, 1):
        answered = await client.post(path, json=TEXT_BY_TEXT[path])
        assert answered.status_code == 200
        assert f'"day";r={left};' in answered.headers["ratelimit"]
        assert f'"rate";r={left + 10};' in answered.headers["ratelimit"]
    judged = len(service.asked)
    refused = await client.post(path, json=TEXT_BY_TEXT[path])
    assert (refused.status_code, len(service.asked)) == (429, judged)
    assert "retry-after" in refused.headers
    assert '"day";r=1;' in refused.headers["ratelimit"]


async def test_another_call_of_the_key_does_not_take_the_room_of_one_that_takes_several_decisions(
    counted: tuple[StubService, httpx.AsyncClient],
) -> None:
    service, client = counted
    charged = service.guard
    others: list[httpx.Response] = []

    async def guard(request: GuardRequest, caller: Principal) -> bytes:
        if request.text in "abc":
            others.append(await client.post("/v1/guard/input", json={"prompt": "x"}))
        return await charged(request, caller)

    for _ in range(7):
        assert (await client.post("/v1/guard/input", json={"prompt": "x"})).status_code == 200
    service.guard = guard  # type: ignore[method-assign]
    answered = await client.post("/v1/guard/batch", json=TEXT_BY_TEXT["/v1/guard/batch"])
    assert [item["ok"] for item in answered.json()["items"]] == [True] * 3
    assert [other.status_code for other in others] == [429] * 3
    assert (await client.post("/v1/guard/input", json={"prompt": "x"})).status_code == 429


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("/presidio/analyze", {"text": "Annabel"}, "at most 5 characters"),
        ("/presidio/analyze", {"text": ["Anna", "Annabel"]}, "at most 5 characters"),
        ("/presidio/analyze", {"text": ["Anna"] * 5}, "at most 4 texts"),
        ("/presidio/anonymize", {"text": "Annabel", "analyzer_results": []}, "at most 5 characters"),
        ("/v1/guard/batch", {"items": [{"text": "Anna"}] * 5}, "at most 4 items"),
    ],
)
async def test_a_keys_limits_of_length_and_batch_hold_in_every_contract(
    path: str, body: dict[str, Any], told: str, limited: tuple[StubService, httpx.AsyncClient]
) -> None:
    service, client = limited
    refused = await client.post(path, json=body)
    assert (refused.status_code, told in refused.text) == (422, True)
    assert '"day";r=10;' in refused.headers["ratelimit"]
    assert service.asked == []


@pytest.mark.parametrize("path", ["/v1/guard/nowhere", "/v2/guard/nowhere", "/presidio/nowhere"])
async def test_what_is_not_there_is_told_in_the_contracts_shape(path: str, client: httpx.AsyncClient) -> None:
    response = await client.post(path, json={})
    assert (response.status_code, response.headers["content-type"]) == (404, "application/json")


async def test_presidios_lists(client: httpx.AsyncClient) -> None:
    assert (await client.get("/presidio/supportedentities", params={"language": "en"})).json() == ["PERSON"]
    assert (await client.get("/presidio/recognizers")).json() == ["NameRecognizer"]
    assert "mask" in (await client.get("/presidio/anonymizers")).json()
    assert (await client.get("/presidio/health")).status_code == 200
    refused = await client.get("/presidio/supportedentities", params={"language": "english"})
    assert (refused.status_code, list(refused.json())) == (422, ["error"])


async def test_the_openapi_document_describes_every_body(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    known = document["components"]["schemas"]
    for path in BODIES:
        schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert schema["$ref"].rpartition("/")[2] in known, path
    named = {
        reference.rpartition("/")[2] for reference in json.dumps(document).split('"') if "#/components" in reference
    }
    assert named <= set(known)
