"""When spans are made, by whose settings, and what may stand in them."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from app.settings import TracingSettings
from app.telemetry import correlation, otlp, tracing
from app.telemetry.tracing import Kind
from tests.spans import CALLER, TRACE_ID, UNRECORDED, id_of, parent_of, recording, trace_of

ON = TracingSettings(endpoint="http://127.0.0.1:4318")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*tracing.STANDARD_ENDPOINTS, "OTEL_SDK_DISABLED", "OTEL_TRACES_SAMPLER"):
        monkeypatch.delenv(name, raising=False)


def test_nothing_is_traced_by_default() -> None:
    assert not tracing.is_wanted(TracingSettings())
    assert tracing.start("stage", Kind.CONSUMER, CALLER) is None


@pytest.mark.parametrize(
    ("settings", "environment", "wanted"),
    [
        (ON, {}, True),
        (TracingSettings(), {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True),
        (TracingSettings(), {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        (ON, {"OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_an_endpoint_of_ours_or_of_opentelemetry_turns_it_on(
    settings: TracingSettings, environment: dict[str, str], wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert tracing.is_wanted(settings) is wanted


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        (None, None),
        ("http://collector:4318", "http://collector:4318/v1/traces"),
        ("http://collector:4318/", "http://collector:4318/v1/traces"),
        ("https://collector/otel/v1/traces", "https://collector/otel/v1/traces"),
    ],
)
def test_spans_go_below_the_endpoint(endpoint: str | None, url: str | None) -> None:
    assert otlp._traces_url(endpoint) == url


def test_opentelemetry_is_not_imported_while_tracing_is_off() -> None:
    check = (
        "import sys, app.service\n"
        "from app.settings import TracingSettings\n"
        "from app.telemetry import tracing\n"
        "tracing.configure(TracingSettings(), '0')\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry.sdk')]\n"
    )
    subprocess.run([sys.executable, "-c", check], check=True, env={"PATH": ""})


def test_a_span_continues_the_trace_it_is_given() -> None:
    with recording() as recorded:
        first = tracing.start("first", Kind.SERVER, CALLER)
        assert first is not None
        second = tracing.start("second", Kind.CONSUMER, first.traceparent)
        assert second is not None
        second.end()
        first.end()
    assert {trace_of(span) for span in recorded.spans} == {TRACE_ID}
    assert parent_of(recorded.named("first")) == "b7ad6b7169203331"
    assert parent_of(recorded.named("second")) == id_of(recorded.named("first"))


def test_a_trace_that_its_caller_does_not_record_is_not_recorded_here() -> None:
    with recording() as recorded:
        assert tracing.start("stage", Kind.CONSUMER, UNRECORDED) is None
    assert recorded.names == []


def test_what_the_root_leaves_out_no_stage_takes_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.spans.Recorded.sampler", ALWAYS_OFF)
    with recording() as recorded:
        root = tracing.start("root", Kind.SERVER)
        assert root is not None
        assert not correlation.is_sampled(root.traceparent)
        assert tracing.start("stage", Kind.CONSUMER, root.traceparent) is None
        root.end()
    assert recorded.names == []


@pytest.mark.parametrize(
    ("settings", "variable", "sampler"),
    [
        (TracingSettings(), None, "TraceIdRatioBased{1.0}"),
        (TracingSettings(sample_ratio=0.01), "always_on", "TraceIdRatioBased{0.01}"),
    ],
)
def test_our_setting_decides_how_much_is_recorded(
    settings: TracingSettings, variable: str | None, sampler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable:
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", variable)
    chosen = otlp._sampler(settings)
    assert chosen is not None
    assert f"root:{sampler}" in chosen.get_description()


def test_opentelemetrys_sampler_counts_where_ours_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    assert otlp._sampler(TracingSettings()) is None


async def test_a_collector_that_hangs_does_not_hold_up_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "CLOSE_WAIT_S", 0.05)

    class Hanging:
        def start(self, name: str, kind: Kind, traceparent: str) -> tracing.Span:
            raise AssertionError

        def shutdown(self) -> None:
            time.sleep(2)

    tracing.use(Hanging())
    started = time.monotonic()
    await tracing.close()
    assert time.monotonic() - started < 1
    assert not tracing.is_on()
