"""The HTTP contract: answers, problems, bad input, health, metrics; nothing of a text in any error."""

from __future__ import annotations

import json
import re
import socket
from uuid import uuid4

import httpx
import pytest

from tests.monitoring import promql_questions, taken_apart
from tests.running_service import RunningService

pytestmark = pytest.mark.integration

PROBLEM = "application/problem+json"
SECRET = "kappa-omega-secret"
ANSWER_FIELDS = {
    "request_id",
    "decision",
    "score",
    "threat_level",
    "categories",
    "explanations",
    "branches",
    "findings",
    "boosts",
    "pii",
    "sanitized_text",
    "restore_map",
    "mode",
    "source",
    "policy",
    "policy_version",
    "dry_run",
    "would_decide",
    "shadow",
    "latency_ms",
    "model_version",
}


def assert_problem(response: httpx.Response, status: int, field: str | None = None) -> dict[str, object]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == PROBLEM
    problem: dict[str, object] = response.json()
    assert problem["status"] == status
    assert str(problem["type"]).startswith("urn:vigil-guard:problem:")
    assert problem["title"]
    assert problem["detail"]
    if field is not None:
        errors = problem["errors"]
        assert isinstance(errors, list)
        assert field in [each["field"] for each in errors]
    assert SECRET not in response.text
    return problem


def test_an_answer_has_the_fields_of_the_contract(client: httpx.Client) -> None:
    answer = client.post("/guard", json={"text": "hello", "mode": "fast"}).json()
    assert set(answer) == ANSWER_FIELDS
    assert set(answer["branches"]) == {"heuristics", "semantic", "classifier"}
    for branch in answer["branches"].values():
        assert set(branch) == {"score", "confidence", "degraded", "signals", "explanations", "latency_ms"}
        assert branch["degraded"] is False
    assert set(answer["pii"]) == {"scanned", "scope", "degraded", "language", "entities", "count", "latency_ms"}
    assert 0 <= answer["score"] <= 100
    assert answer["threat_level"] in {"LOW", "MEDIUM", "HIGH"}
    assert answer["latency_ms"] > 0


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b"", 400, "body"),
        (b"not json", 400, "body"),
        (b'{"text": "kappa-omega-secret', 400, "body"),
        (b'{"text": "\\ud800 kappa-omega-secret"}', 400, "body"),
        (b'{"text": "\xff kappa-omega-secret"}', 400, "body"),
        (b"[]", 422, "body"),
        (b"{}", 422, "text"),
        (b'{"text": 5}', 422, "text"),
        (b'{"text": ["kappa-omega-secret"]}', 422, "text"),
        (b'{"text": ""}', 422, "text"),
        (b'{"text": " \\n\\t\\u00a0"}', 422, "text"),
        (b'{"text": "x", "mode": "kappa-omega-secret"}', 422, "mode"),
        (b'{"text": "x", "source": "kappa-omega-secret"}', 422, "source"),
        (b'{"text": "x", "request_id": "kappa-omega-secret"}', 422, "request_id"),
        (b'{"text": "x", "metadata": {"a": ["kappa-omega-secret"]}}', 422, "metadata"),
        (b'{"text": "x", "kappa-omega-secret and more": 1}', 422, "(unnamed field)"),
        (b'{"text": "x", "policy": "unheard-of"}', 422, "policy"),
        (json.dumps({"text": "\u0301" * 100_001}).encode(), 422, "text"),
        (json.dumps({"text": "\u0301" * 1_000_000}, ensure_ascii=False).encode(), 413, "body"),
    ],
)
def test_bad_input_is_refused_with_field_and_reason(client: httpx.Client, body: bytes, status: int, field: str) -> None:
    response = client.post("/guard", content=body, headers={"content-type": "application/json"})
    assert_problem(response, status, field)


@pytest.mark.parametrize(
    "text",
    [
        "\x00",
        "before\x00after",
        "e" + "\u0301" * 99_999,
        "a" * 100_000,
        "🙂" * 100_000,
        "\x01" * 100_000,
        "[" * 100_000,
        "\u200b" * 1000,
        "a.b@c.de " * 11_000,
    ],
    ids=["nul", "nul inside", "combining", "one word", "astral", "controls", "brackets", "zero width", "addresses"],
)
@pytest.mark.parametrize("mode", ["fast", "full"])
def test_unusual_text_gets_a_decision_within_the_time_limit(client: httpx.Client, text: str, mode: str) -> None:
    response = client.post("/guard", json={"text": text, "mode": mode})
    assert response.status_code == 200, response.text
    assert response.json()["decision"] in {"ALLOWED", "SANITIZED", "BLOCKED"}
    assert client.get("/health").status_code == 200


def test_the_longest_text_is_accepted_however_its_client_escapes_it(client: httpx.Client) -> None:
    body = json.dumps({"text": "🙂" * 100_000, "mode": "fast"}, ensure_ascii=True).encode()
    assert len(body) > 1_200_000
    response = client.post("/guard", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 200, response.text


def test_another_media_type_is_refused(client: httpx.Client) -> None:
    response = client.post("/guard", content=b'{"text": "x"}', headers={"content-type": "text/plain"})
    assert_problem(response, 415, "content-type")


def test_a_body_longer_than_announced_limits_is_cut_off_while_it_comes(client: httpx.Client) -> None:
    response = client.post("/guard", content=(b"x" * 100_000 for _ in range(20)))
    assert_problem(response, 413, "body")


def test_a_repeated_request_id_gets_the_first_answer(client: httpx.Client) -> None:
    body = {"text": "hello again", "request_id": str(uuid4())}
    first = client.post("/guard", json=body)
    second = client.post("/guard", json=body)
    assert first.status_code == second.status_code == 200
    assert first.content == second.content


def test_a_request_id_of_another_text_is_a_conflict(client: httpx.Client) -> None:
    request_id = str(uuid4())
    client.post("/guard", json={"text": "hello", "request_id": request_id})
    response = client.post("/guard", json={"text": SECRET, "request_id": request_id})
    assert_problem(response, 409, "request_id")


def test_a_decision_can_be_read_again(client: httpx.Client) -> None:
    answer = client.post("/guard", json={"text": "hello"})
    assert client.get(f"/guard/{answer.json()['request_id']}").content == answer.content


def test_an_unknown_request_id_is_not_found(client: httpx.Client) -> None:
    assert_problem(client.get(f"/guard/{uuid4()}"), 404, "request_id")


@pytest.mark.parametrize("request_id", ["kappa-omega-secret", "1", "%00", "..%2Fhealth"])
def test_a_request_id_that_is_no_uuid_is_refused(client: httpx.Client, request_id: str) -> None:
    assert client.get(f"/guard/{request_id}").status_code in {404, 422}
    assert SECRET not in client.get(f"/guard/{request_id}").text


def test_no_decision_in_time_is_a_504_that_names_the_request(client: httpx.Client) -> None:
    response = client.post("/guard", json={"text": "word " * 15_000, "deadline_ms": 1})
    problem = assert_problem(response, 504)
    assert problem["request_id"]


def test_a_batch_is_answered_in_order(client: httpx.Client) -> None:
    texts = [f"question number {number}" for number in range(100)]
    response = client.post("/guard/batch", json={"requests": [{"text": text, "mode": "fast"} for text in texts]})
    assert response.status_code == 200, response.text
    results = response.json()["results"]
    assert len(results) == 100
    assert {result["status"] for result in results} == {200}


def test_one_bad_request_of_a_batch_is_named_by_its_place(client: httpx.Client) -> None:
    response = client.post("/guard/batch", json={"requests": [{"text": "fine"}, {"text": ""}]})
    assert_problem(response, 422, "requests.1.text")


def test_a_failure_inside_a_batch_does_not_take_the_others_along(client: httpx.Client) -> None:
    body = {"requests": [{"text": "fine", "mode": "fast"}, {"text": "fine", "policy": "unheard-of", "mode": "fast"}]}
    first, second = client.post("/guard/batch", json=body).json()["results"]
    assert first["status"] == 200
    assert second["status"] == 422
    assert second["problem"]["errors"][0]["field"] == "policy"


def test_a_batch_nobody_waits_for_is_refused_as_a_whole(client: httpx.Client) -> None:
    requests = [{"text": "fine"}, {"text": "fine", "policy": "unheard-of"}]
    assert_problem(client.post("/guard/batch", json={"requests": requests, "wait": False}), 422, "requests.1.policy")


def test_a_batch_over_the_limit_is_refused(client: httpx.Client) -> None:
    response = client.post("/guard/batch", json={"requests": [{"text": "x"}] * 101})
    assert_problem(response, 422, "requests")


def test_a_batch_nobody_waits_for_is_decided_too(client: httpx.Client, service: RunningService) -> None:
    response = client.post("/guard/batch", json={"requests": [{"text": "one"}, {"text": "two"}], "wait": False})
    assert response.status_code == 202, response.text
    ids = response.json()["request_ids"]
    assert len(ids) == 2
    for request_id in ids:
        service.wait_for(lambda reader, wanted=request_id: reader.get(f"/guard/{wanted}").status_code == 200)


@pytest.mark.parametrize("path", ["/health", "/livez"])
def test_the_process_says_that_it_lives(client: httpx.Client, path: str) -> None:
    assert client.get(path).json() == {"status": "alive"}


@pytest.mark.parametrize("path", ["/health/ready", "/readyz"])
def test_readiness_names_each_part(client: httpx.Client, path: str) -> None:
    readiness = client.get(path).json()
    assert readiness["ready"] is True
    assert set(readiness["checks"]) == {"nats", "clickhouse", "models"}


def test_metrics_count_requests_stages_and_lag(client: httpx.Client) -> None:
    client.post("/guard", json={"text": "What is the capital of France?", "mode": "fast"})
    text = client.get("/metrics").text
    for name in (
        'vigil_requests_total{decision="ALLOWED",mode="fast",policy="balanced",source="input"}',
        'vigil_decision_seconds_count{mode="fast"}',
        'vigil_branch_score_count{branch="classifier"}',
        'vigil_queue_seconds_count{consumer="arbiter-worker"}',
        'vigil_model_info{model="detection",version="',
        'vigil_build_info{version="',
        'vigil_request_seconds_bucket{le="0.3",mode="fast"}',
        'vigil_stage_seconds_count{stage="detection-worker"}',
        'vigil_deliveries_total{consumer="arbiter-worker",outcome="ack"}',
        'vigil_consumer_pending{consumer="logging-worker"}',
        "vigil_nats_connected 1.0",
    ):
        assert name in text


def test_a_text_is_timed_whichever_way_it_comes_in(client: httpx.Client) -> None:
    def timed() -> float:
        counts = re.findall(r"^vigil_request_seconds_count\S* (\S+)$", client.get("/metrics").text, re.MULTILINE)
        return sum(map(float, counts))

    text = {"text": "What is the capital of France?"}
    before = timed()
    assert client.post("/guard", json=text).status_code == 200
    assert timed() - before == 1
    assert client.post("/guard/batch", json={"requests": [text, text | {"mode": "fast"}]}).status_code == 200
    assert timed() - before == 3
    assert client.post("/v2/guard", json={"messages": [{"role": "user", "content": text["text"]}]}).status_code == 200
    assert timed() - before == 4
    assert client.post("/guard", json={"text": ""}).status_code == 422
    assert timed() - before == 4


def test_every_metric_that_dashboards_and_alerts_ask_for_is_exposed(client: httpx.Client) -> None:
    text = client.get("/metrics").text
    exposed = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    asked = {name for question in promql_questions() for name in taken_apart(question.text).metrics} - {"up"}
    assert {re.sub(r"_(bucket|count|sum)$", "", name) for name in asked} - exposed == set()


@pytest.mark.parametrize(("method", "path"), [("GET", "/nothing"), ("DELETE", "/guard"), ("GET", "/guard")])
def test_what_does_not_exist_is_a_problem_too(client: httpx.Client, method: str, path: str) -> None:
    response = client.request(method, path)
    assert response.status_code in {404, 405}
    assert response.headers["content-type"] == PROBLEM


def test_openapi_describes_the_bodies_the_guard_reads_itself(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    body = document["paths"]["/guard"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/GuardRequest"}
    assert "text" in document["components"]["schemas"]["GuardRequest"]["properties"]
    assert "GuardBatch" in document["components"]["schemas"]


def test_asyncapi_lists_every_subject_with_its_message(client: httpx.Client) -> None:
    document = client.get("/asyncapi.json").json()
    addresses = {channel["address"] for channel in document["channels"].values()}
    assert {
        "vigil.guard.*",
        "vigil.detection.>",
        "vigil.pii.>",
        "vigil.pii.scan",
        "vigil.arbiter.>",
        "vigil.arbiter.decide",
        "vigil.logs.>",
        "vigil.logs.event",
        "vigil.dlq.*",
        "vigil.api.guard",
        "vigil.api.restore",
    } <= addresses
    assert {"GuardRequest", "ScanJob", "DecideJob", "DecisionRecord"} <= set(document["components"]["schemas"])


def test_a_client_that_hangs_up_does_not_disturb_the_others(client: httpx.Client, service: RunningService) -> None:
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.sendall(b"POST /guard HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
    assert client.post("/guard", json={"text": "hello", "mode": "fast"}).status_code == 200
