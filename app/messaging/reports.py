"""What an operator is told about streams, consumers, the server and the service: plain values, in units and UTC."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Difference:
    """One field in which the server differs from the topology, both sides as JetStream writes them (times in ns)."""

    field: str
    declared: Any
    present: Any


def differences(declared: dict[str, Any], present: dict[str, Any]) -> tuple[Difference, ...]:
    """Compare a declaration with the server's configuration; what a declaration leaves out is no difference.

    Args:
        declared: a configuration as JetStream's JSON API takes it.
        present: the one the server reports, where zero, false and absent are the same. Of metadata only the declared
            keys count: the server writes some of its own.
    """
    return tuple(
        Difference(name, value, present.get(name))
        for name, value in json.loads(json.dumps(declared)).items()
        if (value or present.get(name)) and not _same(value, present.get(name))
    )


def _same(declared: Any, present: Any) -> bool:
    if isinstance(declared, dict) and isinstance(present, dict):
        return declared.items() <= present.items()
    return bool(_ordered(declared) == _ordered(present))


def _ordered(value: Any) -> Any:
    return sorted(value) if isinstance(value, list) else value


@dataclass(frozen=True, slots=True)
class StreamReport:
    name: str
    subjects: tuple[str, ...]
    retention: str
    storage: str
    replicas: int
    messages: int
    bytes: int
    max_bytes: int | None
    """None: unlimited."""
    consumers: int
    first_sequence: int
    last_sequence: int
    deleted: int
    first_at: datetime | None
    last_at: datetime | None
    """When the last message was stored; None in an empty stream that never had one."""
    leader: str | None
    """None where the server is not part of a cluster."""
    declared: bool
    """Whether the topology names this stream."""
    differences: tuple[Difference, ...]
    config: dict[str, Any]
    """The full configuration as the server reports it."""
    newer: int | None = None
    """Version of the topology that wrote it, where that is later than this program's; then nothing is compared."""


@dataclass(frozen=True, slots=True)
class ConsumerReport:
    stream: str
    name: str
    filter_subjects: tuple[str, ...]
    pending: int
    """Messages that were never delivered."""
    ack_pending: int
    """Messages that were delivered and wait for their acknowledgement or the next delivery."""
    redelivered: int
    waiting: int
    """Pull requests that wait at the server: a connected worker that has room for more."""
    lag_s: float
    """Age of the oldest message that is not processed; 0 when none waits."""
    oldest_pending_s: float
    """Age of the oldest message that was never delivered; 0 when none waits."""
    max_ack_pending: int
    delivered_sequence: int
    """Consumer sequence: it grows by one with each delivery, repeated ones included."""
    ack_floor_sequence: int
    """Stream sequence up to which everything is acknowledged."""
    last_delivered_at: datetime | None
    last_acked_at: datetime | None
    declared: bool
    differences: tuple[Difference, ...]
    config: dict[str, Any]
    newer: int | None = None
    """As that of a stream."""

    @property
    def unprocessed(self) -> int:
        return self.pending + self.ack_pending


@dataclass(frozen=True, slots=True)
class ServerReport:
    url: str
    """Address without credentials."""
    name: str
    version: str
    round_trip_ms: float
    max_payload: int
    storage_bytes: int
    """What JetStream holds in files for this account."""
    storage_limit: int | None
    """None: the account has no limit of its own."""


@dataclass(frozen=True, slots=True)
class ServiceInstance:
    """One process that answers `$SRV.PING.vigil-guard`."""

    id: str
    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Change:
    """One step of a reconciliation, done or only planned."""

    action: str
    """create, update or delete."""
    kind: str
    """stream, consumer or bucket."""
    name: str
    differences: tuple[Difference, ...] = ()


@dataclass(frozen=True, slots=True)
class KeptReplicas:
    """A stream or bucket that has more copies than the settings say, and keeps them."""

    kind: str
    """stream or bucket."""
    name: str
    declared: int
    present: int


@dataclass(frozen=True, slots=True)
class KeptVersion:
    """A stream, consumer or bucket that a later version of the topology has written, and that stays so."""

    kind: str
    """stream, consumer or bucket."""
    name: str
    declared: int
    """This program's version."""
    present: int


@dataclass(frozen=True, slots=True)
class Left:
    """What a reconciliation leaves as it is."""

    replicas: list[KeptReplicas] = field(default_factory=list)
    newer: list[KeptVersion] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What a reconciliation changed, or would change, and what it left as it is."""

    changes: list[Change]
    left: Left


@dataclass(frozen=True, slots=True)
class WatchedMessage:
    """One message as a core subscription sees it."""

    at: datetime
    subject: str
    size_bytes: int
    request_id: str | None
    headers: dict[str, str] = field(default_factory=dict)
    payload: bytes = b""
