"""The rules that may raise a weighted mean: their parameters and the condition under which each applies.

A mean of three branches drowns one branch that is sure of itself; a boost gives it back its say. The five rules and
their starting values are those of the system's public predecessor (DESIGN section 9); the values live in the policy
files. "Over" is exclusive, "at" and "at least" are inclusive. A degraded branch never triggers a boost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from app.arbiter.scale import CLASSIFIER, HEURISTICS, SEMANTIC, Section, ThreatLevels, rounded
from app.contracts import BranchName, BranchResult

Healthy = Mapping[BranchName, BranchResult]
"""The results of the branches that did not fail."""
Points = Annotated[int, Field(ge=0, le=100)]
Confidence = Annotated[float, Field(ge=0, le=1)]


class BoostBase(Section):
    """What every boost has: a switch and the score it lifts to when it applies; it never lowers one."""

    enabled: bool = True
    raise_to: Annotated[int, Field(ge=1, le=100)]


class ConservativeOverride(BoostBase):
    """The classifier is all but certain of an attack that the mean would let pass."""

    name: Literal["conservative_override"]
    attack_at: Points
    """Classifier score from which it says "attack"."""
    confidence_over: Confidence
    below: Points
    """Applies only while the score is under this."""

    def applies(self, score: int, healthy: Healthy, levels: ThreatLevels) -> bool:
        return score < self.below and classifier_is_sure(healthy, self.attack_at, self.confidence_over)

    def reason(self) -> str:
        return (
            f"The classifier is over {self.confidence_over:.0%} sure of an attack that the other branches would let "
            f"pass: score raised to {self.raise_to}."
        )


class SemanticSimilarity(BoostBase):
    """The text is very close in meaning to known attacks."""

    name: Literal["semantic_similarity"]
    at_least: Points
    """Semantic score from which the likeness counts as high."""

    def applies(self, score: int, healthy: Healthy, levels: ThreatLevels) -> bool:
        semantic = healthy.get(SEMANTIC)
        return semantic is not None and semantic.score >= self.at_least

    def reason(self) -> str:
        return f"The text is very close in meaning to known attacks: score raised to {self.raise_to}."


class CriticalHeuristics(BoostBase):
    """The heuristics are alarmed and the text hides what it says."""

    name: Literal["critical_heuristics"]
    at_least: Points
    """Heuristics score from which the alarm counts as critical."""
    signal: Annotated[str, Field(min_length=1)]
    """The heuristics branch's signal that must be present too."""

    def applies(self, score: int, healthy: Healthy, levels: ThreatLevels) -> bool:
        heuristics = healthy.get(HEURISTICS)
        return heuristics is not None and heuristics.score >= self.at_least and self.signal in heuristics.signals

    def reason(self) -> str:
        return f"Strong attack patterns come together with {self.signal}: score raised to {self.raise_to}."


class ClassifierConfidence(BoostBase):
    """The classifier says "attack" and is confident of it."""

    name: Literal["classifier_confidence"]
    attack_at: Points
    """Classifier score from which it says "attack"."""
    confidence_over: Confidence

    def applies(self, score: int, healthy: Healthy, levels: ThreatLevels) -> bool:
        return classifier_is_sure(healthy, self.attack_at, self.confidence_over)

    def reason(self) -> str:
        return f"The classifier is over {self.confidence_over:.0%} sure of an attack: score raised to {self.raise_to}."


class UnanimousHigh(BoostBase):
    """Every branch that did not fail rates the text HIGH (one survivor is enough)."""

    name: Literal["unanimous_high"]

    def applies(self, score: int, healthy: Healthy, levels: ThreatLevels) -> bool:
        return bool(healthy) and all(rounded(result.score) > levels.medium_up_to for result in healthy.values())

    def reason(self) -> str:
        return f"Every branch that could judge rates the threat HIGH: score raised to {self.raise_to}."


Boost = Annotated[
    ConservativeOverride | SemanticSimilarity | CriticalHeuristics | ClassifierConfidence | UnanimousHigh,
    Field(discriminator="name"),
]


def classifier_is_sure(healthy: Healthy, attack_at: int, confidence_over: float) -> bool:
    """Return whether the classifier says "attack" with more than the given confidence (0 to 1)."""
    classifier = healthy.get(CLASSIFIER)
    return classifier is not None and classifier.score >= attack_at and classifier.confidence > confidence_over
