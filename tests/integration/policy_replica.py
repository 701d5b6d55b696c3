"""A process of the service without models: policies, redaction and decision are real, what is found is plain.

`python -m tests.integration.policy_replica NATS_URL STATE_DIR`; it prints a line when it is up, and ends with SIGTERM.
"""

from __future__ import annotations

import asyncio
import logging
import re
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

from app.arbiter.book import load_policies
from app.arbiter.expiry import ExpiryWorker
from app.arbiter.live import LivePolicies
from app.arbiter.worker import ArbiterWorker
from app.contracts import ALL_BRANCHES, BranchName, BranchResult, DetectionReport, Mode, PiiEntity, PiiReport, Source
from app.detection.chat_worker import ChatWorker
from app.detection.worker import DetectionWorker
from app.messaging.backbone import Backbone
from app.messaging.subscribers import Workers
from app.pii.engine import PiiScan
from app.pii.redaction import Redactor, Span
from app.pii.sealing import MapSealer
from app.pii.worker import PiiWorker, Redactors
from app.policy_checks import checks_of
from app.settings import Settings
from tests.support import PlainWorkers

ADDRESS = re.compile(r"[a-z]+@[a-z.]+")
SEALER = MapSealer((b"kappa-omega-secret-of-32-characters",), timedelta(hours=1))


class PlainDetector:
    """Every branch finds nothing."""

    model_version = "test"

    def inspect(
        self, text: str, source: Source, mode: Mode = Mode.FULL, branches: frozenset[BranchName] = ALL_BRANCHES
    ) -> DetectionReport:
        return DetectionReport(
            branches={name: BranchResult(score=20, confidence=0.5) for name in BranchName if name in branches},
            model_version=self.model_version,
        )


class PlainEngine:
    """Personal data is what looks like a mail address."""

    def scan(
        self,
        text: str,
        language: str | None,
        allow_list: Sequence[str],
        redactor: Redactor,
        *,
        patterns_only: bool,
        may_be_json: bool,
    ) -> PiiScan:
        spans = [Span("EMAIL_ADDRESS", *match.span(), 1.0) for match in ADDRESS.finditer(text)]
        report = PiiReport(
            scanned=True,
            entities=[PiiEntity(type=each.entity, start=each.start, end=each.end, score=1) for each in spans],
            count=len(spans),
        )
        return PiiScan(report, redactor.redact(text, spans))


def workers_of(policies: LivePolicies, redactors: Redactors, threads: ThreadPoolExecutor) -> Workers:
    plain = PlainWorkers()
    engine: Any = PlainEngine()
    detect = DetectionWorker(PlainDetector(), threads, 2000, b"")
    return Workers(
        detect=ChatWorker(policies.pin, detect, detect, b"", "test"),
        scan=PiiWorker(engine, threads, redactors, SEALER, policies.scanning),
        arbitrate=ArbiterWorker(policies),
        expire=ExpiryWorker(b""),
        record=plain.record,
        restore=plain.restore,
    )


async def serve(url: str, state_dir: Path) -> None:
    settings = Settings(nats_url=url, state_dir=state_dir, clickhouse_url=None)
    redactors = Redactors(b"")
    policies = LivePolicies(load_policies(settings.config_dir), checks_of(redactors))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    with ThreadPoolExecutor(2) as threads:
        backbone = Backbone(workers_of(policies, redactors, threads), settings, version="0.0.0", policies=policies)
        await backbone.start()
        await backbone.up.wait()
        print("up", flush=True)  # noqa: T201 - the line that the test waits for
        await stop.wait()
        await backbone.stop()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(serve(sys.argv[1], Path(sys.argv[2])))
