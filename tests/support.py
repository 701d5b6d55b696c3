"""What several test folders need: free ports, workers without models, waiting for an event."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any, Final
from uuid import UUID

from app.access.control import AccessControl, AccessMode
from app.access.limits import UNLIMITED
from app.access.metering import Metering
from app.arbiter.expiry import ExpiryWorker
from app.contracts import (
    BranchName,
    BranchResult,
    DecideJob,
    DecisionRecord,
    DetectionReport,
    Envelope,
    GuardAnswer,
    GuardedText,
    GuardRequest,
    Mode,
    PiiReport,
    RestoreAnswer,
    RestoreRequest,
    ScanJob,
    Source,
    ThreatLevel,
    Verdict,
)
from app.errors import InvalidRequest, RestoreMapRefused
from app.identity import new_request_id, now, text_digest
from app.messaging.subscribers import Workers

MOST_PROCESSES: Final = 16
PORTS: Final = range(10_000, 32_768)
"""Below those of outgoing connections: while a service restarts, one of these could take its port."""


def own_ports(process: str) -> range:
    """Return the ports of one of the processes that share the tests, by its name in pytest-xdist."""
    return PORTS[int(process.removeprefix("gw")) % MOST_PROCESSES :: MOST_PROCESSES]


_own = own_ports(os.environ.get("PYTEST_XDIST_WORKER", "gw0"))
# In an order of chance, since other checkouts run their tests too.
_ports = cycle(random.SystemRandom().sample(_own, len(_own)))


def open_access() -> AccessControl:
    """Return an access control that lets everyone in."""
    return AccessControl(AccessMode.OPEN, None, None)


def no_metering() -> Metering:
    """Return a metering that limits nobody."""
    return Metering("0" * 32, UNLIMITED, lambda _: None)


def free_port() -> int:
    """Return a port that nobody listens on, and that no other test is given."""
    while True:
        port = next(_ports)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


async def only_strict(request: GuardRequest) -> None:
    """Stand in for the policies: there is one, `strict`."""
    if request.policy != "strict":
        raise InvalidRequest("there is no such policy", field="policy")


async def eventually(condition: Callable[[], Awaitable[bool]], *, within_s: float = 10.0) -> None:
    """Return once the condition holds; fail when it does not within the time."""
    until = time.monotonic() + within_s
    while not await condition():
        if time.monotonic() > until:
            raise AssertionError(f"not within {within_s} s")
        await asyncio.sleep(0.02)


@dataclass
class PlainWorkers:
    """Workers that decide at once without any model, and note what they were given."""

    stages: list[str] = field(default_factory=list)
    requests: list[GuardRequest] = field(default_factory=list)
    envelopes: list[Envelope] = field(default_factory=list)
    records: list[DecisionRecord] = field(default_factory=list)
    before_detect: Callable[[GuardRequest], Awaitable[None]] | None = None

    def workers(self) -> Workers:
        return Workers(self.detect, self.scan, self.arbitrate, ExpiryWorker(b""), self.record, self.restore)

    async def detect(self, request: GuardRequest, envelope: Envelope) -> ScanJob | DecideJob:
        self.stages.append("detect")
        self.requests.append(request)
        if self.before_detect is not None:
            await self.before_detect(request)
        subject = GuardedText(
            digest=text_digest(request.text),
            length=len(request.text),
            mode=request.mode,
            source=request.source,
            dry_run=request.dry_run,
            metadata=request.metadata,
        )
        report = DetectionReport(
            branches={BranchName.HEURISTICS: BranchResult(score=1, confidence=1)}, model_version="test"
        )
        if request.mode is Mode.FULL:
            return ScanJob(
                text=request.text, language=None, allow_list=request.allow_list, subject=subject, detection=report
            )
        return DecideJob(subject=subject, detection=report, pii=PiiReport(), redacted_text=None)

    async def scan(self, job: ScanJob, envelope: Envelope) -> DecideJob:
        self.stages.append("scan")
        return DecideJob(
            subject=job.subject, detection=job.detection, pii=PiiReport(scanned=True), redacted_text=job.text
        )

    async def arbitrate(self, job: DecideJob, envelope: Envelope) -> DecisionRecord:
        self.stages.append("arbitrate")
        self.envelopes.append(envelope)
        return decision_record(job, envelope)

    async def record(self, records: list[DecisionRecord]) -> None:
        self.stages.append("record")
        self.records.extend(records)

    async def restore(self, request: RestoreRequest, tenant: str) -> RestoreAnswer:
        if request.restore_map != "v1.plain":
            raise RestoreMapRefused
        return RestoreAnswer(request_id=UUID(int=1), text=request.text * 10, restored=0, missing=[])


def plain_answer(**fields: Any) -> GuardAnswer:
    """Return the answer to a harmless text, in full mode; fields take the place of its own."""
    plain = {
        "request_id": new_request_id(),
        "decision": Verdict.ALLOWED,
        "score": 1,
        "threat_level": ThreatLevel.LOW,
        "categories": [],
        "explanations": [],
        "branches": {},
        "findings": [],
        "boosts": [],
        "pii": PiiReport(),
        "sanitized_text": None,
        "mode": Mode.FULL,
        "source": Source.INPUT,
        "policy": "test",
        "latency_ms": 1,
        "model_version": "test",
    }
    return GuardAnswer(**plain | fields)


def decision_record(job: DecideJob, envelope: Envelope) -> DecisionRecord:
    return DecisionRecord(
        answer=plain_answer(
            request_id=envelope.request_id,
            branches=job.detection.branches,
            pii=job.pii,
            mode=job.subject.mode,
            source=job.subject.source,
            dry_run=job.subject.dry_run,
            model_version=job.detection.model_version,
        ),
        received_at=envelope.received_at,
        decided_at=now(),
        text_digest=job.subject.digest,
        text_length=job.subject.length,
        redacted_text=job.redacted_text,
        metadata=job.subject.metadata,
        tenant=envelope.tenant,
        key_id=envelope.key_id,
    )
