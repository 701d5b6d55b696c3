"""How a test sees spans: kept in memory, by name and attribute."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, Sampler
from opentelemetry.trace import format_span_id, format_trace_id

from app.telemetry import tracing
from app.telemetry.otlp import SdkTracer

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
CALLER = f"00-{TRACE_ID}-b7ad6b7169203331-01"
"""The example of the W3C recommendation."""
UNRECORDED = f"00-{TRACE_ID}-b7ad6b7169203331-00"


class Recorded:
    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._provider = TracerProvider(sampler=self.sampler)
        self._provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = SdkTracer(self._provider)

    sampler: Sampler = ParentBased(ALWAYS_ON)

    @property
    def spans(self) -> list[ReadableSpan]:
        """Ended spans in order of their start."""
        return sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.spans]

    def named(self, name: str) -> ReadableSpan:
        [span] = [span for span in self.spans if span.name == name]
        return span


def trace_of(span: ReadableSpan) -> str:
    return format_trace_id(span.context.trace_id)


def id_of(span: ReadableSpan) -> str:
    return format_span_id(span.context.span_id)


def parent_of(span: ReadableSpan) -> str | None:
    return format_span_id(span.parent.span_id) if span.parent is not None else None


@contextmanager
def recording() -> Iterator[Recorded]:
    """Record the spans of this process."""
    recorded = Recorded()
    tracing.use(recorded.tracer)
    try:
        yield recorded
    finally:
        tracing.use(None)
