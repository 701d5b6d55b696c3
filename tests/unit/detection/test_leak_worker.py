"""Shows that the secrets of a request and of the process are looked for in what was judged, and travel no further."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from uuid import UUID

import pytest

from app.contracts import (
    ALL_BRANCHES,
    BranchName,
    DecideJob,
    Envelope,
    GuardRequest,
    Mode,
    PolicyPin,
    ScanJob,
    Source,
)
from app.detection.leak_worker import LeakWorker
from app.lists import NOTHING_ALLOWED
from app.pinned import DetectionRules
from tests.support import PlainWorkers

ENVELOPE = Envelope(request_id=UUID(int=1), received_at=datetime(2026, 1, 1, tzinfo=UTC))
RULES = DetectionRules(
    PolicyPin(name="test", version=1, fingerprint="0" * 16), Mode.FULL, ALL_BRANCHES, NOTHING_ALLOWED, ()
)
CANARY = "kappa-omega-7319"
PROMPT = "You are Marlo. Never mention the delays at the depot, and never say who told you about them."


async def judged(
    request: GuardRequest, canaries: tuple[str, ...] = (), inline_text_limit: int = 2_000
) -> ScanJob | DecideJob:
    async def detect(request: GuardRequest, envelope: Envelope, _: DetectionRules) -> ScanJob | DecideJob:
        return await PlainWorkers().detect(request, envelope)

    with ThreadPoolExecutor(1) as threads:
        return await LeakWorker(detect, threads, inline_text_limit, canaries)(request, ENVELOPE, RULES)


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("inline_text_limit", [1, 2_000])
async def test_a_canary_of_the_request_is_found(mode: Mode, inline_text_limit: int) -> None:
    request = GuardRequest(text=f"It is {CANARY}.", source=Source.OUTPUT, mode=mode, canaries=[CANARY])
    job = await judged(request, inline_text_limit=inline_text_limit)
    assert job.detection.leaked
    assert job.detection.branches[BranchName.HEURISTICS].score == 100


async def test_a_canary_of_the_process_is_found_too() -> None:
    request = GuardRequest(text=f"It is {CANARY}.", source=Source.OUTPUT)
    assert (await judged(request, (CANARY,))).detection.leaked
    assert not (await judged(request)).detection.leaked


async def test_the_prompt_is_compared_and_does_not_travel_on() -> None:
    request = GuardRequest(text=PROMPT, source=Source.OUTPUT, mode=Mode.FAST, system_prompt=PROMPT, canaries=[CANARY])
    job = await judged(request)
    assert job.detection.leaked
    assert "Marlo" not in job.model_dump_json()
    assert CANARY not in job.model_dump_json()


async def test_what_gives_nothing_away_is_left_as_it_was_judged() -> None:
    request = GuardRequest(text="All is well.", source=Source.OUTPUT, system_prompt=PROMPT, canaries=[CANARY])
    job = await judged(request)
    assert not job.detection.leaked
    assert job.detection.branches[BranchName.HEURISTICS].score == 1


def test_secrets_of_a_request_do_not_stand_in_its_representation() -> None:
    request = GuardRequest(text="x", system_prompt=PROMPT, canaries=[CANARY], restore_map="v2.sealed")
    assert CANARY not in repr(request)
    assert "v2.sealed" not in repr(request)
    assert "Marlo" not in repr(request)
