"""All detection branches over one text: prepared once, hashed once, judged by each; a branch that fails is named."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from app.contracts import (
    ALL_BRANCHES,
    MAX_LISTED_SPANS,
    BranchName,
    BranchResult,
    Category,
    DetectionReport,
    Finding,
    Mode,
    Source,
)
from app.detection import brevity
from app.detection.brevity import softened
from app.detection.classifier import Classifier
from app.detection.encoder_branches import SUB_WORDS_READ, EncoderBranches
from app.detection.evidence import Judgement
from app.detection.features import featurise
from app.detection.heuristics import Heuristics, HeuristicsResult
from app.detection.normalise import PreparedText, prepare
from app.detection.patterns import load_patterns
from app.detection.semantic import Semantic
from app.subwords import MODELS_DIR
from app.telemetry import metrics

logger: Final = logging.getLogger("vigil.detection")

ENCODER_FAILED: Final = "The encoder failed; the light models of fast mode judged in its place."
MODEL_BRANCHES: Final = frozenset({BranchName.SEMANTIC, BranchName.CLASSIFIER})
DEGRADED: Final = BranchResult(score=0, confidence=0, degraded=True)


@dataclass(frozen=True, slots=True)
class Detector:
    """Holds nothing that changes but a memory of sub-words that threads may share (`pooling.Projection`), so one
    instance serves all."""

    heuristics: Heuristics
    semantic: Semantic
    classifier: Classifier
    encoder: EncoderBranches
    model_version: str

    @classmethod
    def load(cls, config_dir: Path, models_dir: Path = MODELS_DIR, sub_words_read: int = SUB_WORDS_READ) -> Self:
        """Read rules and models; of one text, the encoder reads at most `sub_words_read` sub-words.

        Raises:
            ConfigurationError: a file of rules cannot be used.
            ModelUnavailable: a model file cannot be used.
        """
        patterns = load_patterns(config_dir / "patterns")
        classifier = Classifier.load(models_dir)
        encoder = EncoderBranches.load(models_dir, sub_words_read)
        semantic = Semantic.load(models_dir, classifier.window_logits)
        return cls(Heuristics(patterns), semantic, classifier, encoder, classifier.model_version)

    @property
    def lights(self) -> tuple[Classifier, Semantic]:
        """The models of fast mode, which show the encoder where to look in a long text."""
        return self.classifier, self.semantic

    def suspicion(self, prepared: PreparedText, source: Source) -> float:
        """Return the heuristics' score (0 to 100) of a text: a hint, at a hundredth of an inspection's cost."""
        return self.heuristics.judge(prepared, source).result.score

    def inspect(
        self,
        text: str,
        source: Source,
        mode: Mode = Mode.FULL,
        branches: frozenset[BranchName] = ALL_BRANCHES,
    ) -> DetectionReport:
        """Judge a text by the given branches: in fast mode by the light models, in full mode by the encoder.

        A branch that fails is reported as degraded; what was seen by the others still counts. An encoder that fails is
        replaced by the light models. Nothing is raised.
        """
        report = _Collected(branches)
        try:
            prepared = prepare(text)
        except Exception as error:  # noqa: BLE001 - a text that cannot be prepared degrades all branches, and is blocked
            for name in BranchName:
                report.degrade(name, error)
            return report.finish(self.model_version)
        report.add(BranchName.HEURISTICS, lambda: self.heuristics.judge(prepared, source))
        if report.branches.isdisjoint(MODEL_BRANCHES):
            return report.finish(self.model_version)
        started = time.perf_counter()
        weight = brevity.weight(prepared)
        try:
            features = featurise(prepared)
        except Exception as error:  # noqa: BLE001 - see above
            report.degrade(BranchName.SEMANTIC, error)
            report.degrade(BranchName.CLASSIFIER, error)
            return report.finish(self.model_version)
        shared_ms = (time.perf_counter() - started) * 1000 / 2
        stands_in = False
        if mode is Mode.FULL:
            try:
                reading = self.encoder.read(prepared, features, self.lights)
            except Exception as error:  # noqa: BLE001 - the light models still stand, and say that they spoke
                metrics.BRANCH_DEGRADED.labels("encoder").inc()
                logger.error("the encoder failed: %s", type(error).__name__)
                stands_in = True
            else:
                shared_ms = (time.perf_counter() - started) * 1000 / 2
                report.add(BranchName.SEMANTIC, lambda: softened(self.encoder.compare(reading), weight), shared_ms)
                report.add(BranchName.CLASSIFIER, lambda: softened(self.encoder.classify(reading), weight), shared_ms)
                return report.finish(self.model_version)
        report.add(
            BranchName.SEMANTIC, lambda: softened(self.semantic.judge(features, prepared), weight), shared_ms, stands_in
        )
        report.add(
            BranchName.CLASSIFIER,
            lambda: softened(self.classifier.judge(features, prepared), weight),
            shared_ms,
            stands_in,
        )
        return report.finish(self.model_version)


class _Collected:
    """The report while it is being put together."""

    def __init__(self, branches: frozenset[BranchName]) -> None:
        self.branches = branches
        """Those that are asked; what another one says is not collected."""
        self._branches: dict[BranchName, BranchResult] = {}
        self._categories: dict[Category, None] = {}
        self._findings: list[Finding] = []

    def add(
        self,
        name: BranchName,
        judge: Callable[[], Judgement | HeuristicsResult],
        shared_ms: float = 0.0,
        stands_in: bool = False,
    ) -> None:
        """Take a branch's judgement; `stands_in` says that a light model spoke where the encoder should have."""
        if name not in self.branches:
            return
        started = time.perf_counter()
        try:
            judgement = judge()
        except Exception as error:  # noqa: BLE001 - one failed branch must not take the others along
            self.degrade(name, error)
            return
        latency_ms = (time.perf_counter() - started) * 1000 + shared_ms
        result = judgement.result
        # Made anew: a copy of a pydantic model costs four times as much.
        self._branches[name] = BranchResult(
            score=round(result.score, 1),
            confidence=round(result.confidence, 3),
            signals=[*result.signals, "encoder:failed"] if stands_in else result.signals,
            explanations=[*result.explanations, ENCODER_FAILED] if stands_in else result.explanations,
            latency_ms=round(latency_ms, 3),
        )
        self._categories.update(dict.fromkeys(judgement.categories))
        self._findings += judgement.findings

    def degrade(self, name: BranchName, error: Exception) -> None:
        if name not in self.branches:
            return
        metrics.BRANCH_DEGRADED.labels(name).inc()
        logger.error("the %s branch failed: %s", name, type(error).__name__)
        self._branches[name] = DEGRADED

    def finish(self, model_version: str) -> DetectionReport:
        return DetectionReport(
            branches=self._branches,
            categories=list(self._categories),
            findings=self._findings[:MAX_LISTED_SPANS],
            model_version=model_version,
        )
