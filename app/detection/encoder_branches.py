"""The classifier and the semantic branch of full mode: two judgements of one pass of the encoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from app.contracts import BranchName, Category, Finding
from app.detection.classifier import Classifier
from app.detection.encoder import Encoder, SubWords, WindowReading
from app.detection.evidence import REPORT_AT, Calibration, Judgement, read_metadata, result_of
from app.detection.families import CATEGORY_OF, MEANING_OF, Family
from app.detection.features import PreparedFeatures, TextFeatures, extract
from app.detection.normalise import PreparedText
from app.detection.unfolding import Unfolded, unfold
from app.errors import ModelUnavailable

MAX_WINDOWS: Final = 5
"""Windows read of one text: about 1,000 sub-words, 700 English words. A longer text is read at its beginning, its end
and where the light classifier sees most, so it costs no more."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A text as far as the encoder read it."""

    unfolded: Unfolded
    sub_words: SubWords
    windows: list[WindowReading]

    @property
    def logits(self) -> NDArray[np.float32]:
        return np.array([window.logit for window in self.windows], np.float32)


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

    @classmethod
    def load(cls, models_dir: Path) -> Self:
        """Read the model from a folder.

        Raises:
            ModelUnavailable: a file is missing or damaged.
        """
        metadata = read_metadata(models_dir)
        encoder = Encoder.load(models_dir)
        try:
            described = metadata["encoder"]
            families = tuple(Family(name) for name in described["families"])
            loaded = cls(
                encoder,
                str(metadata["model_version"]),
                families,
                np.array([family.is_attack for family in families]),
                Calibration(**described["classifier_calibration"]),
                Calibration(**described["semantic_calibration"]),
            )
        except (KeyError, TypeError, ValueError):
            raise ModelUnavailable("the metadata of the encoder is incomplete") from None
        if len(families) != encoder.families:
            raise ModelUnavailable("the metadata of the encoder names other families than it tells apart")
        return loaded

    def read(self, prepared: PreparedText, features: PreparedFeatures, light: Classifier) -> Reading:
        """Read a text, with what was hidden in it in its place; at most MAX_WINDOWS windows of it."""
        unfolded = unfold(prepared)
        sub_words = self.encoder.read(unfolded.text)
        hashed = features.text if unfolded.text is prepared.canonical else None
        return Reading(unfolded, sub_words, self.encoder.judge(sub_words, choose(sub_words, unfolded, hashed, light)))

    def classify(self, reading: Reading) -> Judgement:
        """Return the classifier's judgement."""
        probability = self.classifier_calibration.probability(reading.logits)
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
        probability = self.semantic_calibration.probability(margins)
        if 100 * probability < REPORT_AT:
            return Judgement(result_of(probability, (), ()), [], [])
        window = reading.windows[int(margins.argmax())]
        family = self.families[int(np.where(self.is_attack, window.family_logits, -np.inf).argmax())]
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

    def _margins(self, reading: Reading) -> NDArray[np.float32]:
        logits = np.array([window.family_logits for window in reading.windows], np.float32)
        logits = logits.reshape(-1, len(self.families))
        attacks = np.logaddexp.reduce(logits[:, self.is_attack], axis=1)
        margins: NDArray[np.float32] = attacks - np.logaddexp.reduce(logits[:, ~self.is_attack], axis=1)
        return margins


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
        explanation += f", once {layer.kind} is undone"
        categories = list(dict.fromkeys([category, Category.OBFUSCATION]))
    start, stop = reading.unfolded.original_span(begin, end)
    finding = Finding(detector=detector, rule=rule, start=start, end=stop, score=100 * probability)
    return Judgement(result_of(probability, signals, [f"{explanation}."]), [finding], categories)


def choose(sub_words: SubWords, unfolded: Unfolded, hashed: TextFeatures | None, light: Classifier) -> list[int]:
    """Return the windows to read, at most MAX_WINDOWS, ascending: all where that is enough, else the first, the last,
    and those in which the light classifier sees most.

    `hashed` are the n-grams of the unfolded text where they are known already.
    """
    if sub_words.windows <= MAX_WINDOWS:
        return list(range(sub_words.windows))
    hashed = hashed if hashed is not None else extract(unfolded.text)
    loudness = _loudness(sub_words, hashed, light.window_logits(hashed))
    loudness[[0, -1]] = np.inf
    return sorted(np.argsort(-loudness, kind="stable")[:MAX_WINDOWS].tolist())


def _loudness(sub_words: SubWords, hashed: TextFeatures, logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the highest logit that the light classifier gives inside each window; shape (windows,)."""
    loudest = np.full(sub_words.windows, -np.inf, np.float32)
    middles = np.array([sum(hashed.window_span(window)) // 2 for window in range(len(logits))], np.int64)
    nearest = sub_words.spans[:, 0].searchsorted(middles, "right") - 1
    for window in range(sub_words.windows):
        begin, end = sub_words.window(window)
        inside = (nearest >= begin) & (nearest < end)
        if inside.any():
            loudest[window] = logits[inside].max()
    return loudest


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
