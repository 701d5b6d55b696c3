"""Judges texts as the guard does, detection alone: each detected once, decided under each policy, in many processes."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from app.arbiter.decide import decide
from app.arbiter.policy import Policy
from app.contracts import DecideJob, DetectionReport, GuardedText, Mode, PiiReport, Source, Verdict
from app.detection.detector import Detector
from app.errors import VigilError
from app.telemetry import metrics

NO_PERSONAL_DATA: Final = PiiReport(scanned=True)
"""The scan took place and found nothing: only detection decides."""
WARM_UP: Final = "What is the capital of France?"
"""Judged first and not counted: the first text loads what the later ones find loaded."""
CHUNK: Final = 16
"""Texts handed to a process at a time: few enough that the processes end together."""


class Inspector(Protocol):
    """The part of `Detector` that an evaluation uses."""

    @property
    def model_version(self) -> str: ...

    def inspect(self, text: str, source: Source, mode: Mode) -> DetectionReport: ...


class Text(NamedTuple):
    """A text and where it comes from."""

    text: str
    source: Source


class Decision(NamedTuple):
    """What one policy makes of a text."""

    blocked: bool
    score: int
    """0 to 100."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What the guard makes of one text."""

    decisions: tuple[Decision, ...]
    """One for each policy, in their order."""
    cpu_ms: float
    """CPU time of detection, of all threads."""
    words: int
    failed: bool
    """Whether a branch failed, the encoder included that light models stood in for."""


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges one text after the other."""

    detector: Inspector
    policies: tuple[Policy, ...]
    mode: Mode

    def warm_up(self) -> None:
        self.detector.inspect(WARM_UP, Source.INPUT, self.mode)

    def __call__(self, text: Text) -> Judged:
        failures = _failures()
        started = time.process_time()
        report = self.detector.inspect(text.text, text.source, self.mode)
        cpu_ms = (time.process_time() - started) * 1000
        failed = _failures() > failures or any(branch.degraded for branch in report.branches.values())
        return Judged(self._decisions(text, report), cpu_ms, len(text.text.split()), failed)

    def _decisions(self, text: Text, report: DetectionReport) -> tuple[Decision, ...]:
        subject = GuardedText(digest="", length=len(text.text), mode=self.mode, source=text.source)
        job = DecideJob(subject=subject, detection=report, pii=NO_PERSONAL_DATA, redacted_text=None)
        judgements = [decide(job, policy) for policy in self.policies]
        return tuple(Decision(each.verdict is Verdict.BLOCKED, each.score) for each in judgements)


def _failures() -> float:
    """Return how often a branch has failed in this process."""
    return sum(
        sample.value
        for family in metrics.BRANCH_DEGRADED.collect()
        for sample in family.samples
        if sample.name.endswith("_total")
    )


@dataclass(frozen=True, slots=True)
class Setup:
    """All that a process needs to become a judge."""

    config_dir: Path
    models_dir: Path
    policies: tuple[Policy, ...]
    mode: Mode

    def judge(self) -> Judge:
        """Load rules and models.

        Raises:
            ConfigurationError: a file of rules cannot be used.
            ModelUnavailable: a model file cannot be used.
        """
        return Judge(Detector.load(self.config_dir, self.models_dir), self.policies, self.mode)


def judge_all(
    judge: Judge, texts: Sequence[Text], setup: Setup, jobs: int, step: Callable[[], None] = lambda: None
) -> list[Judged]:
    """Return what becomes of each text, in their order.

    Args:
        judge: used where one process is enough.
        texts: any number.
        setup: makes each further process a judge like the first.
        jobs: most processes.
        step: called after each text.

    Raises:
        VigilError: a further process ended before its work did.
    """
    judged = []
    jobs = min(jobs, -(-len(texts) // CHUNK))
    if jobs <= 1:
        judge.warm_up()
        for text in texts:
            judged.append(judge(text))
            step()
        return judged
    # Forked processes could inherit locks that a thread of onnxruntime holds.
    context = get_context("spawn")
    with ProcessPoolExecutor(jobs, context, initializer=_become_judge, initargs=(setup,)) as processes:
        try:
            for each in processes.map(_judge, texts, chunksize=CHUNK):
                judged.append(each)
                step()
        except BrokenProcessPool:
            raise VigilError("a process of the evaluation was killed: fewer of them need less memory") from None
        except BaseException:
            processes.shutdown(wait=False, cancel_futures=True)
            raise
    return judged


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_judges: Final[list[Judge]] = []
"""The judge of this process, where it is one of many."""


def _become_judge(setup: Setup) -> None:
    # A terminal sends Ctrl-C to every process; the first one hears it and ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_first_process, daemon=True).start()
    _judges.append(setup.judge())
    _judges[0].warm_up()


def _end_with_the_first_process() -> None:
    """End this process once the first one is gone, however that ended: a signal leaves it no time to end the others,
    and they would wait for texts for good."""
    first = parent_process()
    if first is not None:
        first.join()
        os._exit(1)


def _judge(text: Text) -> Judged:
    return _judges[0](text)
