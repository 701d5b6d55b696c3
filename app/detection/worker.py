"""The detection stage: judge a text and say what comes next."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from dataclasses import dataclass

from app.contracts import DecideJob, Envelope, GuardedText, GuardRequest, Mode, PiiReport, ScanJob
from app.detection.recent import Inspector
from app.identity import text_digest


@dataclass(frozen=True, slots=True)
class DetectionWorker:
    detector: Inspector
    threads: Executor
    inline_text_limit: int
    """Texts up to this many code points are judged on the event loop in fast mode, where a hand-over would cost more;
    the encoder of full mode takes milliseconds and always runs in a thread."""
    hash_key: bytes
    scans_fast_mode: bool = False
    """Whether texts of fast mode go to the scan for personal data too."""

    async def __call__(self, request: GuardRequest, envelope: Envelope) -> ScanJob | DecideJob:
        text = request.text
        if request.mode is Mode.FAST and len(text) <= self.inline_text_limit:
            report = self.detector.inspect(text, request.source, request.mode)
        else:
            loop = asyncio.get_running_loop()
            report = await loop.run_in_executor(self.threads, self.detector.inspect, text, request.source, request.mode)
        subject = GuardedText(
            digest=text_digest(text, self.hash_key),
            length=len(text),
            mode=request.mode,
            source=request.source,
            policy=request.policy,
            metadata=request.metadata,
        )
        if request.mode is Mode.FULL or self.scans_fast_mode:
            return ScanJob(
                text=text,
                language=request.language,
                allow_list=request.allow_list,
                restorable=request.restorable,
                subject=subject,
                detection=report,
            )
        return DecideJob(subject=subject, detection=report, pii=PiiReport(), redacted_text=None)
