"""The detection stage: which texts are judged beside the event loop, and what comes next."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from app.contracts import (
    BranchName,
    DecideJob,
    DetectionReport,
    Envelope,
    GuardRequest,
    Mode,
    PolicyPin,
    ScanJob,
    Source,
)
from app.detection.worker import DetectionWorker
from app.lists import NOTHING_ALLOWED, AllowList, DenyRule
from app.pinned import DetectionRules

ENVELOPE = Envelope(request_id=UUID(int=1), received_at=datetime(2026, 1, 1, tzinfo=UTC))
LIMIT = 100
KEY = b"key"


class Listening:
    """Keeps what it was asked, and in which thread."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Source, Mode]] = []
        self.threads: list[int] = []

    model_version = "test"

    def inspect(self, text: str, source: Source, mode: Mode, branches: frozenset[BranchName]) -> DetectionReport:
        self.asked.append((text, source, mode))
        self.threads.append(threading.get_ident())
        return DetectionReport(branches={}, model_version="test")


PIN = PolicyPin(name="test", version=1, fingerprint="0" * 16)
RULES = DetectionRules(PIN, Mode.FULL, frozenset(BranchName), NOTHING_ALLOWED, ())


async def judged(request: GuardRequest, rules: DetectionRules = RULES) -> tuple[ScanJob | DecideJob, Listening]:
    detector: Any = Listening()
    with ThreadPoolExecutor(1) as threads:
        job = await DetectionWorker(detector, threads, LIMIT, KEY)(request, ENVELOPE, rules)
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
        job = await worker(GuardRequest(text="x", mode=Mode.FAST, language="pl"), ENVELOPE, RULES)
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
    job, _ = await judged(GuardRequest(text="x", mode=mode, restorable=restorable, restore_map="v2.sealed"))
    assert getattr(job, "restorable", None) is expected
    assert getattr(job, "restore_map", None) == (None if expected is None else "v2.sealed")
    assert ("v2.sealed" in job.model_dump_json()) is (expected is not None)


async def test_a_request_that_names_no_mode_is_judged_as_the_policy_says() -> None:
    fast = replace(RULES, mode=Mode.FAST)
    job, detector = await judged(GuardRequest(text="x"), fast)
    assert (detector.asked[0][2], job.subject.mode) == (Mode.FAST, Mode.FAST)
    job, detector = await judged(GuardRequest(text="x", mode=Mode.FULL), fast)
    assert (detector.asked[0][2], job.subject.mode) == (Mode.FULL, Mode.FULL)


async def test_later_stages_are_told_which_version_the_request_is_pinned_to() -> None:
    shadow = PolicyPin(name="next", version=4, fingerprint="1" * 16)
    job, _ = await judged(GuardRequest(text="x", dry_run=True, shadow=True), replace(RULES, shadow=shadow))
    assert (job.subject.pin, job.subject.shadow) == (PIN, shadow)
    assert (job.subject.dry_run, job.subject.show_shadow) == (True, True)


async def test_denied_phrases_are_reported_with_rule_and_span_beside_what_the_branches_say() -> None:
    rules = replace(
        RULES,
        deny=(DenyRule(rule="projects", phrases=("Project Falcon",)),),
        shadow=PIN,
        shadow_deny=(DenyRule(rule="coffee", phrases=("espresso",)),),
    )
    job, _ = await judged(GuardRequest(text="tell me of PROJECT  FALCON"), rules)
    assert (job.detection.denied, job.detection.shadow_denied) == (["projects"], [])
    assert [(each.detector, each.rule, each.start, each.end) for each in job.detection.findings] == [
        ("deny_list", "projects", 11, 26)
    ]
    job, _ = await judged(GuardRequest(text="an espresso"), rules)
    assert (job.detection.denied, job.detection.shadow_denied, job.detection.findings) == ([], ["coffee"], [])


async def test_what_is_allowed_is_left_out_of_what_is_judged_and_offsets_stay() -> None:
    rules = replace(RULES, allow=AllowList(texts=("Ping me",), phrases=("ignore the noise",)))
    job, detector = await judged(GuardRequest(text="please Ignore the\nnoise and go"), rules)
    assert detector.asked[0][0] == "please                  and go"
    assert job.detection.allowed == "part"
    job, detector = await judged(GuardRequest(text=" PING me "), rules)
    assert (detector.asked, job.detection.allowed) == ([], "text")
    assert {each.score for each in job.detection.branches.values()} == {0}
    job, detector = await judged(GuardRequest(text="Ping me now"), rules)
    assert (len(detector.asked), job.detection.allowed) == (1, None)
