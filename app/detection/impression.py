"""What the light models make of a text, and how much of it counts in what the encoder judges.

The encoder understands more, and the light models, which see words and runs of letters as they are written, err
elsewhere: together they block fewer harmless documents at the same share of attacks found (stacked generalisation:
Wolpert, 1992).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self

from app.detection.features import PreparedFeatures

LIMIT: Final = 6.0
"""Log-odds beyond which a light model is not surer: a probability of 0.25 % or 99.75 %."""


class Judging(Protocol):
    """A light model, as far as an impression needs it."""

    def probability(self, features: PreparedFeatures) -> float: ...


@dataclass(frozen=True, slots=True)
class Impression:
    """Log-odds of an attack in a text and all that was hidden in it, at most LIMIT to either side."""

    wording: float
    """By the n-gram model."""
    meaning: float
    """By the semantic branch of fast mode."""

    @classmethod
    def of(cls, features: PreparedFeatures, lights: tuple[Judging, Judging]) -> Self:
        """Ask the n-gram model and the semantic branch of fast mode, in this order."""
        wording, meaning = (log_odds(light.probability(features)) for light in lights)
        return cls(wording, meaning)


NEUTRAL: Final = Impression(0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Share:
    """Weights of an impression in one judgement of the encoder."""

    wording: float
    meaning: float

    @classmethod
    def read(cls, described: Mapping[str, Any]) -> Self:
        """Read the weights from a model's metadata.

        Raises:
            KeyError, TypeError, ValueError: they are not there, or are no finite numbers from 0.
        """
        share = cls(float(described["wording"]), float(described["meaning"]))
        if not all(0 <= weight < math.inf for weight in (share.wording, share.meaning)):
            raise ValueError("a weight of the light models is no finite number from 0")
        return share

    def logit(self, impression: Impression) -> float:
        """Return what is added to the encoder's logit."""
        return self.wording * impression.wording + self.meaning * impression.meaning


NONE: Final = Share(0.0, 0.0)


def log_odds(probability: float) -> float:
    """Return the logit of a probability, at most LIMIT to either side."""
    if probability <= 0:
        return -LIMIT
    if probability >= 1:
        return LIMIT
    return max(-LIMIT, min(LIMIT, math.log(probability / (1 - probability))))
