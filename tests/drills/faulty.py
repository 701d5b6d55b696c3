"""The service with a detector that fails on marked texts, for drills: `uvicorn tests.drills.faulty:app`."""

from __future__ import annotations

import os
import signal
from collections import Counter
from typing import Final

from app import service
from app.contracts import ALL_BRANCHES, BranchName, DetectionReport, Mode, Source
from app.detection.detector import Detector

FAILS_TWICE: Final = "[drill: fails twice]"
ALWAYS_FAILS: Final = "[drill: always fails]"
KILLS: Final = "[drill: kills its worker]"

_seen: Counter[str] = Counter()


class FaultyDetector(Detector):
    def inspect(
        self,
        text: str,
        source: Source,
        mode: Mode = Mode.FULL,
        branches: frozenset[BranchName] = ALL_BRANCHES,
    ) -> DetectionReport:
        if KILLS in text:
            os.kill(os.getpid(), signal.SIGKILL)
        if ALWAYS_FAILS in text:
            raise RuntimeError("told to fail")
        if FAILS_TWICE in text:
            _seen[text] += 1
            if _seen[text] <= 2:
                raise RuntimeError("told to fail")
        return super().inspect(text, source, mode, branches)


service.Detector = FaultyDetector  # type: ignore[misc]
app = service.create_app()
