"""A service with tracing and JSON lines on: one trace a request through all stages, ids in every line, no text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from uuid import uuid4

import httpx
import nats
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.integration.otlp_receiver import Collector, attributes_of, collecting
from tests.running_service import RunningService
from tests.spans import CALLER, TRACE_ID

pytestmark = pytest.mark.integration

STAGES = ["detection-worker", "pii-worker", "arbiter-worker", "logging-worker"]
SECRET = "kappa-omega"
TEXT = f"My PESEL is 44051401359, call Anna Nowak about {SECRET}"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as running:
        yield running


@pytest.fixture(scope="module")
def traced(collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    service = RunningService(
        tmp_path_factory.mktemp("traced"),
        environment={
            "VIGIL_TRACING__ENDPOINT": f"http://127.0.0.1:{collector.port}",
            "VIGIL_LOG__JSON_LINES": "true",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        },
    )
    try:
        yield service.start()
    finally:
        service.end()


def parents(spans: dict[str, Span], names: list[str]) -> list[bool]:
    """Return for each stage whether it continues the one before."""
    return [spans[name].parent_span_id == spans[before].span_id for before, name in pairwise(names)]


def test_one_post_is_one_trace_through_all_stages(traced: RunningService, collector: Collector) -> None:
    request_id = str(uuid4())
    with httpx.Client(base_url=traced.url, timeout=30) as client:
        answer = client.post(
            f"/guard?q={SECRET}", json={"text": TEXT, "request_id": request_id}, headers={"traceparent": CALLER}
        ).json()
    names = ["POST /guard", *STAGES]
    traced.wait_for(lambda _: collector.trace(TRACE_ID).keys() == set(names))
    spans = collector.trace(TRACE_ID)
    assert spans["POST /guard"].parent_span_id.hex() == "b7ad6b7169203331"
    assert parents(spans, names) == [True] * len(STAGES)
    root, decided = attributes_of(spans["POST /guard"]), attributes_of(spans["arbiter-worker"])
    assert root["vigil.request_id"] == request_id
    assert (root["http.response.status_code"], root["vigil.mode"], root["vigil.source"]) == (200, "full", "input")
    assert (decided["vigil.decision"], decided["vigil.score"]) == (answer["decision"], answer["score"])
    assert collector.services == {"vigil-guard"}
    sent = b"".join(collector.bodies)
    for secret in (SECRET, "44051401359", "Nowak"):
        assert secret.encode() not in sent


async def test_one_request_over_nats_is_one_trace_through_all_stages(
    traced: RunningService, collector: Collector
) -> None:
    trace_id = uuid4().hex
    connection = await nats.connect(traced.nats_url)
    body = json.dumps({"text": TEXT, "source": "tool"}).encode()
    headers = {"traceparent": CALLER.replace(TRACE_ID, trace_id)}
    await connection.request("vigil.api.guard", body, headers=headers, timeout=30)
    await connection.close()
    names = ["vigil.api.guard", *STAGES]
    traced.wait_for(lambda _: collector.trace(trace_id).keys() == set(names))
    spans = collector.trace(trace_id)
    assert parents(spans, names) == [True] * len(STAGES)
    assert attributes_of(spans["vigil.api.guard"])["vigil.source"] == "tool"


async def test_every_line_is_json_and_those_of_a_request_carry_its_ids(traced: RunningService) -> None:
    request_id, trace_id = str(uuid4()), uuid4().hex
    connection = await nats.connect(traced.nats_url)
    poison = json.dumps({"text": TEXT, "mode": SECRET, "request_id": request_id}).encode()
    headers = {"traceparent": CALLER.replace(TRACE_ID, trace_id), "correlation_id": request_id}
    await connection.jetstream().publish("vigil.guard.input", poison, headers=headers)
    await connection.close()
    traced.wait_for(lambda _: request_id in traced.log)
    lines = [json.loads(line) for line in traced.log.splitlines()]
    assert {line["logger"] for line in lines} >= {"uvicorn.error", "vigil.service", "vigil.dead_letters"}
    [buried] = [line for line in lines if line.get("request_id") == request_id]
    assert buried["trace_id"] == trace_id
    assert buried["consumer"] == "detection-worker"
    assert SECRET not in traced.log


def test_a_stop_sends_what_is_left(traced: RunningService, collector: Collector) -> None:
    """The last test of this service."""
    trace_id = TRACE_ID[::-1]
    with httpx.Client(base_url=traced.url, timeout=30) as client:
        body, headers = {"text": "hello", "mode": "fast"}, {"traceparent": CALLER.replace(TRACE_ID, trace_id)}
        client.post("/guard", json=body, headers=headers)
    assert traced.stop() == 0
    assert collector.trace(trace_id).keys() == {"POST /guard", *STAGES} - {"pii-worker"}
