"""The detection stage: which texts are judged beside the event loop, and what comes next."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from app.contracts import DecideJob, DetectionReport, Envelope, GuardRequest, Mode, ScanJob, Source
from app.detection.worker import DetectionWorker

ENVELOPE = Envelope(request_id=UUID(int=1), received_at=datetime(2026, 1, 1, tzinfo=UTC))
LIMIT = 100
KEY = b"key"


class Listening:
    """Keeps what it was asked, and in which thread."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Source, Mode]] = []
        self.threads: list[int] = []

    def inspect(self, text: str, source: Source, mode: Mode) -> DetectionReport:
        self.asked.append((text, source, mode))
        self.threads.append(threading.get_ident())
        return DetectionReport(branches={}, model_version="test")


async def judged(request: GuardRequest) -> tuple[ScanJob | DecideJob, Listening]:
    detector: Any = Listening()
    with ThreadPoolExecutor(1) as threads:
        job = await DetectionWorker(detector, threads, LIMIT, KEY)(request, ENVELOPE)
    return job, detector


@pytest.mark.parametrize(
    ("mode", "length", "beside"),
    [
        (Mode.FAST, 1, False),
        (Mode.FAST, LIMIT, False),
        (Mode.FAST, LIMIT + 1, True),
        (Mode.FULL, 1, True),
        (Mode.FULL, LIMIT + 1, True),
    ],
)
async def test_only_short_texts_of_fast_mode_are_judged_on_the_event_loop(
    mode: Mode, length: int, beside: bool
) -> None:
    _, detector = await judged(GuardRequest(text="x" * length, mode=mode))
    assert [thread != threading.get_ident() for thread in detector.threads] == [beside]


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("source", list(Source))
async def test_the_detector_is_told_source_and_mode(mode: Mode, source: Source) -> None:
    _, detector = await judged(GuardRequest(text="x", mode=mode, source=source))
    assert detector.asked == [("x", source, mode)]


async def test_where_a_setting_says_so_texts_of_fast_mode_are_scanned_too() -> None:
    detector: Any = Listening()
    with ThreadPoolExecutor(1) as threads:
        worker = DetectionWorker(detector, threads, LIMIT, KEY, scans_fast_mode=True)
        job = await worker(GuardRequest(text="x", mode=Mode.FAST, language="pl"), ENVELOPE)
    assert isinstance(job, ScanJob)
    assert (job.text, job.language, job.subject.mode) == ("x", "pl", Mode.FAST)


async def test_full_mode_goes_on_to_the_scan_and_fast_mode_to_the_decision() -> None:
    scan, _ = await judged(GuardRequest(text="x", mode=Mode.FULL, language="pl", allow_list=["x"]))
    assert isinstance(scan, ScanJob)
    assert (scan.text, scan.language, scan.allow_list) == ("x", "pl", ["x"])
    decide, _ = await judged(GuardRequest(text="kappa-omega", mode=Mode.FAST))
    assert isinstance(decide, DecideJob)
    assert "kappa-omega" not in decide.model_dump_json()
    assert decide.subject.length == len("kappa-omega")


@pytest.mark.parametrize(
    ("mode", "restorable", "expected"), [(Mode.FULL, True, True), (Mode.FULL, False, False), (Mode.FAST, True, None)]
)
async def test_what_a_caller_wants_restored_reaches_the_scan(
    mode: Mode, restorable: bool, expected: bool | None
) -> None:
    job, _ = await judged(GuardRequest(text="x", mode=mode, restorable=restorable))
    assert getattr(job, "restorable", None) is expected
