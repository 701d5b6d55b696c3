"""The personal-data stage: find and redact, or say that the scan failed."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final

from app.contracts import DecideJob, PiiReport, ScanJob
from app.pii.engine import PiiEngine
from app.telemetry import metrics

logger: Final = logging.getLogger("vigil.pii")


@dataclass(frozen=True, slots=True)
class PiiWorker:
    engine: PiiEngine
    threads: Executor

    async def __call__(self, job: ScanJob) -> DecideJob:
        """Return the job for the arbiter; a scan that fails is named in it, and the policy decides what that "
        "means."""
        loop = asyncio.get_running_loop()
        try:
            scan = await loop.run_in_executor(self.threads, self.engine.scan, job.text, job.language, job.allow_list)
        except Exception as error:  # noqa: BLE001 - any failure of the scan degrades it, and its text may quote the prompt
            metrics.BRANCH_DEGRADED.labels("pii").inc()
            logger.error("scan for personal data failed: %s", type(error).__name__)
            report = PiiReport(scanned=False, degraded=True, language=job.language)
            return DecideJob(subject=job.subject, detection=job.detection, pii=report, redacted_text=None)
        return DecideJob(
            subject=job.subject, detection=job.detection, pii=scan.report, redacted_text=scan.redacted_text
        )
