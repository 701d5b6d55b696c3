"""Spans of the stages, off by default: while nobody collects them no span is made and OpenTelemetry is not imported.

Our own spans in place of FastStream's and FastAPI's instrumentation, for three reasons. Both record an exception with
its message and stack, which may quote a text, and FastAPI's the whole URL. A request enters the queue through the
JetStream client and not through the broker, where FastStream's would not see it. And it makes two spans a message,
sampled or not.
"""

from __future__ import annotations

import asyncio
import os
import threading
from enum import StrEnum
from typing import Final, Protocol

from app.settings import TracingSettings
from app.telemetry.correlation import is_sampled

STANDARD_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""OpenTelemetry's own variables, which many platforms set for every process."""
ATTRIBUTES: Final = frozenset(
    f"vigil.{name}" for name in ("request_id", "mode", "source", "decision", "score", "policy", "deliveries", "outcome")
)
"""What we say of a request in a span: beside OpenTelemetry's own names nothing else, and never a text."""
CLOSE_WAIT_S: Final = 3.0
"""A stopping process waits this long for a collector to take the last spans."""

AttributeValue = str | int | float | bool


class Kind(StrEnum):
    SERVER = "server"
    """A caller waits for it."""
    CONSUMER = "consumer"
    """A message led to it."""


class Span(Protocol):
    """One piece of recorded work, or of work that belongs to a trace which is not recorded."""

    traceparent: str
    """What a message sent from within this span carries."""

    def note(self, attribute: str, value: AttributeValue) -> None:
        """Add an attribute; never a text of a request."""

    def rename(self, name: str) -> None: ...

    def fail(self, error: str) -> None:
        """Mark the work as failed; `error` is a class name or a stable code."""

    def end(self) -> None: ...


class Tracer(Protocol):
    def start(self, name: str, kind: Kind, traceparent: str) -> Span:
        """Start a span that continues a trace, or a new trace when there is none."""
        ...

    def shutdown(self) -> None:
        """Send what is left; may take as long as a collector lets it."""


_tracer: Tracer | None = None


def use(tracer: Tracer | None) -> None:
    """Make every span of this process with a tracer; None turns tracing off."""
    global _tracer
    _tracer = tracer


def configure(settings: TracingSettings, version: str) -> None:
    """Trace when an endpoint is configured, here or with OpenTelemetry's own variables."""
    if not is_wanted(settings):
        return
    from app.telemetry import otlp

    use(otlp.tracer(settings, version))


def is_wanted(settings: TracingSettings) -> bool:
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    return not disabled and (settings.endpoint is not None or any(os.environ.get(name) for name in STANDARD_ENDPOINTS))


def is_on() -> bool:
    return _tracer is not None


def start(name: str, kind: Kind, traceparent: str = "") -> Span | None:
    """Start a span, or none: while tracing is off, and in a trace that its root decided not to record."""
    if _tracer is None or (traceparent and not is_sampled(traceparent)):
        return None
    return _tracer.start(name, kind, traceparent)


async def close() -> None:
    """Send what is left within CLOSE_WAIT_S; a collector that hangs does not hold up the stop."""
    tracer = _tracer
    if tracer is None:
        return
    use(None)
    sent = asyncio.Event()
    loop = asyncio.get_running_loop()

    def shut_down() -> None:
        tracer.shutdown()
        if not loop.is_closed():
            loop.call_soon_threadsafe(sent.set)

    threading.Thread(target=shut_down, name="tracing-shutdown", daemon=True).start()
    try:
        await asyncio.wait_for(sent.wait(), CLOSE_WAIT_S)
    except TimeoutError:
        return
