"""A detector whose judgement stands in the text, and rows as short as they can be."""

from __future__ import annotations

from app.contracts import BranchName, BranchResult, DetectionReport, Mode, Source
from app.evaluation.figures import Sample
from app.evaluation.judge import Decision, Judged
from app.evaluation.rows import Row


class StubDetector:
    """Gives every branch the score that the text ends with: `any words 40`."""

    model_version = "stub-1"

    def __init__(self, *, degraded: bool = False) -> None:
        self.degraded = degraded
        self.seen: list[tuple[str, Source, Mode]] = []

    def inspect(self, text: str, source: Source, mode: Mode) -> DetectionReport:
        self.seen.append((text, source, mode))
        last = text.split()[-1]
        score = float(last) if last.isdigit() else 0.0
        branch = BranchResult(score=score, confidence=0.5, degraded=self.degraded)
        return DetectionReport(branches=dict.fromkeys(BranchName, branch), model_version=self.model_version)


def row(text: str = "text", *, attack: bool, file: str = "file", kind: str | None = None, lang: str = "en") -> Row:
    return Row(text, attack, Source.INPUT, kind, lang, file, line=1)


def judged(score: int, *, blocked: bool, cpu_ms: float = 1.0, words: int = 60, failed: bool = False) -> Judged:
    return Judged((Decision(blocked, score),), cpu_ms, words, failed)


def sample(*pairs: tuple[Row, Judged]) -> Sample:
    return Sample(tuple(each for each, _ in pairs), tuple(each for _, each in pairs), 0)
