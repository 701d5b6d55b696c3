"""Spans by OpenTelemetry's SDK, sent as OTLP over HTTP; imported only where tracing is on."""

from __future__ import annotations

import os
from typing import Final
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    format_span_id,
    format_trace_id,
    set_span_in_context,
)
from opentelemetry.trace import Span as SdkSpan

from app.settings import TracingSettings
from app.telemetry.tracing import AttributeValue, Kind

SERVICE_NAME: Final = "vigil-guard"
TRACES_PATH: Final = "/v1/traces"
"""Where a collector takes spans (OTLP specification, "OTLP/HTTP Request")."""
KINDS: Final = {Kind.SERVER: SpanKind.SERVER, Kind.CONSUMER: SpanKind.CONSUMER}


def tracer(settings: TracingSettings, version: str) -> SdkTracer:
    """Return the tracer of this process; the OTEL_* variables are heeded too (headers, time-outs, sampler)."""
    provider = TracerProvider(resource=_resource(version), sampler=_sampler(settings))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=_traces_url(settings.endpoint))))
    return SdkTracer(provider)


class SdkTracer:
    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("vigil")

    def start(self, name: str, kind: Kind, traceparent: str) -> RecordedSpan:
        return RecordedSpan(self._tracer.start_span(name, context=_context(traceparent), kind=KINDS[kind]))

    def shutdown(self) -> None:
        self._provider.shutdown()


class RecordedSpan:
    __slots__ = ("_span", "traceparent")

    def __init__(self, span: SdkSpan) -> None:
        self._span = span
        context = span.get_span_context()
        self.traceparent = (
            f"00-{format_trace_id(context.trace_id)}-{format_span_id(context.span_id)}-{context.trace_flags:02x}"
        )

    def note(self, attribute: str, value: AttributeValue) -> None:
        self._span.set_attribute(attribute, value)

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def fail(self, error: str) -> None:
        self._span.set_attribute("error.type", error)
        self._span.set_status(StatusCode.ERROR)

    def end(self) -> None:
        self._span.end()


def _context(traceparent: str) -> Context:
    """Return a context of its own, never the surrounding one: the message says what a stage continues."""
    if not traceparent:
        return Context()
    _, trace_id, span_id, flags = traceparent.split("-")
    parent = SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))
    return set_span_in_context(NonRecordingSpan(parent), Context())


def _resource(version: str) -> Resource:
    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": SERVICE_NAME}
    return Resource.create({"service.version": version, **named})


def _sampler(settings: TracingSettings) -> Sampler | None:
    """Return the sampler of our settings; None leaves it to OTEL_TRACES_SAMPLER where that is set."""
    if "sample_ratio" not in settings.model_fields_set and os.environ.get("OTEL_TRACES_SAMPLER"):
        return None
    return ParentBased(TraceIdRatioBased(settings.sample_ratio))


def _traces_url(endpoint: str | None) -> str | None:
    """Return where spans go; None leaves it to OpenTelemetry's own variables."""
    if endpoint is None or urlsplit(endpoint).path.endswith(TRACES_PATH):
        return endpoint
    return endpoint.rstrip("/") + TRACES_PATH
