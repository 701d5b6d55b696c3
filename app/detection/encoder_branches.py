"""The classifier and the semantic branch of full mode: two judgements of one pass of the encoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from app.contracts import BranchName, Category, Finding
from app.detection.encoder import Bounds, Encoder, SubWords, WindowReading
from app.detection.evidence import REPORT_AT, Calibration, Judgement, read_metadata, result_of
from app.detection.families import CATEGORY_OF, MEANING_OF, Family
from app.detection.features import PreparedFeatures
from app.detection.impression import NEUTRAL, NONE, Impression, Share
from app.detection.normalise import PreparedText
from app.detection.normalise.passages import PLACES
from app.detection.selection import LightModel, Once, Passages
from app.detection.unfolding import Unfolded, unfold
from app.errors import ModelUnavailable

SUB_WORDS_READ: Final = 1_280
"""Sub-words read of one text, counted as often as they are read: some 900 English words. A longer text costs no more:
it is read at its beginning, at its end, and in the passages that the light models suspect most."""
SELECTION_ALLOWANCE: Final = 1.2
"""Logit taken off a text of which hardly any was read: the passages most suspected of many look more like an attack
than a text does as a whole, and are read without what stands around them. Chosen so that as many harmless documents are
flagged as when five whole windows were read, 4 % of 90 composed ones."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A text as far as the encoder read it."""

    unfolded: Unfolded
    sub_words: SubWords
    windows: list[WindowReading]
    impression: Impression = NEUTRAL
    """What the light models make of it."""

    @property
    def logits(self) -> NDArray[np.float32]:
        return np.array([window.logit for window in self.windows], np.float32)

    @property
    def unread(self) -> float:
        """Share of the sub-words that no window holds, 0 to 1."""
        length, read, reached = len(self.sub_words.ids) + self.sub_words.left_out, 0, 0
        for window in self.windows:
            end = window.start + len(window.token_logits)
            read += max(0, end - max(window.start, reached))
            reached = max(reached, end)
        return 1 - read / length if length else 0.0


@dataclass(frozen=True, slots=True)
class Exit:
    """What decides after a judgement of the encoder whether a window is read on."""

    share: Share
    """Of the light models' impression that is added to the window's logit."""
    doubtful: Bounds
    """Sums from and up to which it is read on."""

    @classmethod
    def read(cls, described: Mapping[str, Any]) -> Self:
        """Read it from a model's metadata.

        Raises:
            KeyError, TypeError, ValueError: something is missing, or no number.
        """
        low, high = map(float, described["doubtful"])
        return cls(Share.read(described["share"]), (low, high))


@dataclass(frozen=True, slots=True)
class EncoderBranches:
    """Holds nothing that changes, so one instance serves all threads."""

    encoder: Encoder
    model_version: str
    families: tuple[Family, ...]
    """Family of each of the encoder's family logits."""
    is_attack: NDArray[np.bool_]
    """Whether each of those families is one of attacks; shape (families,)."""
    classifier_calibration: Calibration
    semantic_calibration: Calibration
    budget: int = SUB_WORDS_READ
    """Most sub-words that are read of one text."""
    doubt_shares: tuple[Share, ...] = ()
    """Of the light models' impression in what leaves each judgement of the encoder but the last doubtful."""
    classifier_share: Share = NONE
    """The same in what the classifier says."""
    semantic_share: Share = NONE
    """The same in what the semantic branch says."""

    @classmethod
    def load(cls, models_dir: Path, budget: int = SUB_WORDS_READ) -> Self:
        """Read the model from a folder.

        Raises:
            ModelUnavailable: a file is missing or damaged.
        """
        metadata = read_metadata(models_dir)
        try:
            described = metadata["encoder"]
            exits = [Exit.read(each) for each in described["exits"]]
            encoder = Encoder.load(models_dir, tuple(each.doubtful for each in exits))
            families = tuple(Family(name) for name in described["families"])
            loaded = cls(
                encoder,
                str(metadata["model_version"]),
                families,
                np.array([family.is_attack for family in families]),
                Calibration(**described["classifier_calibration"]),
                Calibration(**described["semantic_calibration"]),
                budget,
                tuple(each.share for each in exits),
                Share.read(described["classifier_share"]),
                Share.read(described["semantic_share"]),
            )
        except (KeyError, TypeError, ValueError):
            raise ModelUnavailable("the metadata of the encoder is incomplete") from None
        if len(families) != encoder.families:
            raise ModelUnavailable("the metadata of the encoder names other families than it tells apart")
        if len(exits) != len(encoder.parts) - 1:
            raise ModelUnavailable("the metadata of the encoder describes other judgements than it makes")
        return loaded

    def read(
        self, prepared: PreparedText, features: PreparedFeatures, lights: tuple[LightModel, LightModel]
    ) -> Reading:
        """Read a text, with what was hidden in it in its place; at most `budget` sub-words of it.

        `lights` are the n-gram model and the semantic branch of fast mode.
        """
        heard = Once(lights[0]), Once(lights[1])
        impression = Impression.of(features, heard)
        unfolded = unfold(prepared)
        hashed = features.text if unfolded.text is prepared.canonical else None
        passages = Passages(unfolded.text, hashed, heard, self.budget)
        sub_words = self.encoder.read(unfolded.text, passages.worth_cutting())
        windows = passages.choose(sub_words)
        priors = [share.logit(impression) for share in self.doubt_shares]
        judged = self.encoder.judge(sub_words, windows, priors)
        return Reading(unfolded, sub_words, judged, impression)

    def classify(self, reading: Reading) -> Judgement:
        """Return the classifier's judgement."""
        probability = _probability(self.classifier_calibration, reading.logits, reading, self.classifier_share)
        if 100 * probability < REPORT_AT:
            return Judgement(result_of(probability, (), ()), [], [])
        explanation = f"Read as a whole, the text tries to steer the assistant (probability {probability:.0%})"
        return _judgement(
            reading,
            reading.logits,
            probability,
            BranchName.CLASSIFIER,
            rule="encoder",
            signal="encoder:attack",
            explanation=explanation,
            category=Category.PROMPT_INJECTION,
        )

    def compare(self, reading: Reading) -> Judgement:
        """Return the semantic branch's judgement: how near the text's embedding is to families of attacks."""
        margins = self._margins(reading)
        probability = _probability(self.semantic_calibration, margins, reading, self.semantic_share)
        if 100 * probability < REPORT_AT:
            return Judgement(result_of(probability, (), ()), [], [])
        window = reading.windows[int(margins.argmax())]
        family = self.families[int(np.where(self._nameable(reading), window.family_logits, -np.inf).argmax())]
        return _judgement(
            reading,
            margins,
            probability,
            BranchName.SEMANTIC,
            rule=f"family:{family}",
            signal=f"family:{family}",
            explanation=f"Closest in meaning to {MEANING_OF[family]}",
            category=CATEGORY_OF[family],
        )

    def _nameable(self, reading: Reading) -> NDArray[np.bool_]:
        """Tell which families may be named: one that hides its wording only where something was undone."""
        prepared = reading.unfolded.prepared
        if prepared.signals or prepared.layers:
            return self.is_attack
        openly = self.is_attack & np.array([family is not Family.OBFUSCATION for family in self.families])
        return openly if openly.any() else self.is_attack

    def _margins(self, reading: Reading) -> NDArray[np.float32]:
        logits = np.array([window.family_logits for window in reading.windows], np.float32)
        logits = logits.reshape(-1, len(self.families))
        attacks = np.logaddexp.reduce(logits[:, self.is_attack], axis=1)
        margins: NDArray[np.float32] = attacks - np.logaddexp.reduce(logits[:, ~self.is_attack], axis=1)
        return margins


def _probability(calibration: Calibration, logits: NDArray[np.float32], reading: Reading, share: Share) -> float:
    return calibration.probability(logits, SELECTION_ALLOWANCE * reading.unread - share.logit(reading.impression))


def _judgement(
    reading: Reading,
    strength: NDArray[np.float32],
    probability: float,
    detector: str,
    *,
    rule: str,
    signal: str,
    explanation: str,
    category: Category,
) -> Judgement:
    """Report an attack at the loudest passage of the strongest window, and whether it was disguised."""
    signals, categories = [signal], [category]
    first, last = loudest_passage(reading.windows[int(strength.argmax())])
    begin, end = int(reading.sub_words.spans[first, 0]), int(reading.sub_words.spans[last - 1, 1])
    end = max(end, begin + 1)
    layer = reading.unfolded.layer_in(begin, end)
    if layer is not None:
        signals.append(f"layer:{layer.kind}")
        if place := PLACES.get(layer.kind):
            explanation += f", in {place}, which people do not see"
        else:
            explanation += f", once {layer.kind} is undone"
            categories = list(dict.fromkeys([category, Category.OBFUSCATION]))
    start, stop = reading.unfolded.original_span(begin, end)
    finding = Finding(detector=detector, rule=rule, start=start, end=stop, score=100 * probability)
    return Judgement(result_of(probability, signals, [f"{explanation}."]), [finding], categories)


def loudest_passage(window: WindowReading) -> tuple[int, int]:
    """Return the run of sub-words (first, one past the last) whose token logits add up highest (Kadane's algorithm)."""
    best, best_sum, begin, running = (0, 1), -np.inf, 0, 0.0
    for place, value in enumerate(window.token_logits.tolist()):
        if running <= 0:
            begin, running = place, 0.0
        running += value
        if running > best_sum:
            best, best_sum = (begin, place + 1), running
    return window.start + best[0], window.start + best[1]
