"""The arbiter's scale: how a score is rounded and which threat level it stands for."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from app.contracts import BranchName, ThreatLevel

BRANCHES: Final = tuple(BranchName)
HEURISTICS: Final = BranchName.HEURISTICS
SEMANTIC: Final = BranchName.SEMANTIC
CLASSIFIER: Final = BranchName.CLASSIFIER
"""Plain names for the hot path: reaching a member through its enumeration takes 0.2 microseconds in Python 3.11."""

ROUNDING_SLACK: Final = 1e-9
"""Takes back what binary fractions lose: 0.30 * 4 + 0.35 * 24 + 0.35 * 14 gives 14.499999999999998."""


def rounded(score: float) -> int:
    """Return the score of 0 to 100 as a whole number, halves upwards (49.5 is 50, 49.4 is 49)."""
    return int(score + 0.5 + ROUNDING_SLACK)


class Section(BaseModel):
    """Base of everything a policy file holds: frozen, no unknown fields, no converted types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class ThreatLevels(Section):
    """Upper ends of LOW and MEDIUM, both inclusive, in whole points; HIGH is everything above."""

    low_up_to: int = Field(ge=0, lt=100)
    medium_up_to: int = Field(ge=0, lt=100)

    @field_validator("medium_up_to")
    @classmethod
    def medium_ends_above_low(cls, medium_up_to: int, info: ValidationInfo) -> int:
        low_up_to = info.data.get("low_up_to")
        if low_up_to is not None and medium_up_to <= low_up_to:
            raise PydanticCustomError("level_order", "must be above low_up_to ({low})", {"low": low_up_to})
        return medium_up_to

    def of(self, score: int) -> ThreatLevel:
        """Return the level of a rounded score."""
        if score <= self.low_up_to:
            return ThreatLevel.LOW
        return ThreatLevel.MEDIUM if score <= self.medium_up_to else ThreatLevel.HIGH
