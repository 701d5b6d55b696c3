"""What the process works on just now: the request and the trace that log lines and spans belong to.

A context variable carries it, so that code in between knows nothing of it. The trace is a W3C `traceparent`
(https://www.w3.org/TR/trace-context/), which travels through all stages even while nothing is traced here: log lines
can then be joined to the caller's own traces.
"""

from __future__ import annotations

import re
from contextvars import ContextVar, Token
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final
from uuid import UUID

if TYPE_CHECKING:
    from app.telemetry.tracing import AttributeValue, Span

TRACEPARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)
SAMPLED: Final = 0x01
"""Flag of a trace that is recorded."""


@dataclass(slots=True)
class Correlation:
    request_id: UUID | None = None
    """None until the request has been read, and for a batch of several."""
    traceparent: str = ""
    """Empty when neither the caller nor this process traces."""
    span: Span | None = None
    """The span of the work; None when it is not recorded."""

    @property
    def trace_id(self) -> str:
        return trace_id_of(self.traceparent)


_current: ContextVar[Correlation | None] = ContextVar("vigil_correlation", default=None)


def begin(correlation: Correlation) -> Token[Correlation | None]:
    return _current.set(correlation)


def end(token: Token[Correlation | None]) -> None:
    _current.reset(token)


def current() -> Correlation | None:
    return _current.get()


def traceparent() -> str:
    """Return the trace context that a message sent now continues; empty without one."""
    correlation = _current.get()
    return correlation.traceparent if correlation is not None else ""


def identify(request_id: UUID) -> None:
    """Say which request the work under way is for, now that it is known."""
    correlation = _current.get()
    if correlation is not None:
        correlation.request_id = request_id


def note(**attributes: AttributeValue) -> None:
    """Add attributes to the span of the work under way, if it is recorded; never a text."""
    correlation = _current.get()
    if correlation is not None and correlation.span is not None:
        for name, value in attributes.items():
            correlation.span.note(f"vigil.{name}", value)


def fork() -> None:
    """Begin work of its own in a task that one request started among several, within the same trace."""
    correlation = _current.get()
    if correlation is not None:
        _current.set(replace(correlation))


def usable(header: str | None) -> str:
    """Return a stranger's `traceparent` header, or nothing where it is none."""
    return header if header is not None and TRACEPARENT.fullmatch(header) else ""


def trace_id_of(traceparent: str) -> str:
    """Return the 32 hexadecimal digits of the trace; empty without one."""
    return traceparent[3:35]


def is_sampled(traceparent: str) -> bool:
    return bool(int(traceparent[-2:], 16) & SAMPLED)
