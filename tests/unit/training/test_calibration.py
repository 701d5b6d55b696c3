"""From logits to probabilities: as many false alarms as asked for, and evidence that keeps its sign."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from app.detection.classifier import Classifier
from app.detection.evidence import Calibration
from app.detection.features import extract
from app.detection.impression import Impression, Share
from app.training import calibration, windows
from app.training.calibration import Logits

TEXTS = 4_000


def drawn(seed: int, gap: float, most: int = 6) -> tuple[Logits, NDArray[np.bool_]]:
    """Return logits of texts of one or more windows; one window of each attack is higher by `gap`."""
    chance = np.random.default_rng(seed)
    attack = np.arange(TEXTS) % 2 == 0
    logits = []
    for is_attack in attack:
        values = chance.standard_normal(chance.integers(1, most + 1)).astype(np.float32)
        values[0] += gap * is_attack
        logits.append(values)
    return logits, attack


@pytest.mark.parametrize("rate", [calibration.FALSE_POSITIVE_RATE, 0.01, 0.2])
def test_false_alarms_are_as_frequent_as_asked(rate: float) -> None:
    logits, attack = drawn(2, 2.0)
    fitted = calibration.fit(logits, attack, rate)
    probability = calibration.probabilities(logits, fitted.calibration)
    assert (probability[~attack] >= 0.5).mean() == pytest.approx(rate, abs=0.002)
    assert (probability[attack] >= 0.5).mean() > 2 * rate


def test_few_false_alarms_mean_a_small_assumed_share_of_attacks() -> None:
    logits, attack = drawn(2, 1.0, most=1)
    fitted = calibration.fit(logits, attack)
    assert fitted.attack_share < 0.5
    probability = calibration.probabilities(logits, fitted.calibration)
    assert calibration.expected_calibration_error(probability, attack, fitted.attack_share) < 0.03
    assert calibration.expected_calibration_error(1 - probability, attack, fitted.attack_share) > 0.3


@pytest.mark.parametrize("gap", [3.0, -3.0, 0.0])
def test_a_higher_window_never_lowers_the_probability_and_more_windows_never_raise_it(gap: float) -> None:
    # With a gap below zero the free fit would turn the signs round.
    logits, attack = drawn(3, gap)
    longer = [np.tile(values, 1 + is_attack) for values, is_attack in zip(logits, attack, strict=True)]
    found = calibration.fit(longer, attack).calibration
    assert found.peak >= 0
    assert found.mean >= 0
    assert found.breadth <= 0
    low, high = (found.probability(np.array([0, top], np.float32)) for top in (1, 2))
    assert low <= high
    few, many = (found.probability(np.full(count, 1, np.float32)) for count in (2, 9))
    assert many <= few


def test_much_harmless_text_cannot_talk_an_attack_away() -> None:
    # Attacks that are loud throughout: the free fit would go by the mean alone.
    chance = np.random.default_rng(5)
    attack = np.arange(TEXTS) % 2 == 0
    logits = [(chance.normal(0, 3, 5) + is_attack).astype(np.float32) for is_attack in attack]
    found = calibration.fit(logits, attack).calibration
    assert 0 < found.mean <= calibration.MEAN_SHARE * found.peak + 1e-6


def test_a_text_without_windows_is_no_attack() -> None:
    logits, attack = drawn(4, 2.0)
    fitted = calibration.fit([*logits, np.empty(0, np.float32)], np.append(attack, False))
    assert calibration.probabilities([np.empty(0, np.float32)], fitted.calibration).tolist() == [0.0]
    assert np.isfinite([fitted.calibration.peak, fitted.calibration.bias, fitted.attack_share]).all()


def test_logits_far_apart_do_not_overflow() -> None:
    logits: Logits = [np.array([value], np.float32) for value in (900, 800, -900, -800)]
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        fitted = calibration.fit(logits, np.array([True, True, False, False]), 0.5)
        probability = calibration.probabilities(logits, fitted.calibration)
    assert probability[0] > 0.9 > probability[2]


def test_training_sees_the_windows_that_the_light_branches_judge() -> None:
    texts = [extract(text) for text in ("", "one two", "word " * 30, "some words in a row " * 50)]
    stacked = windows.build(texts)
    assert stacked.per_text().tolist() == [features.windows for features in texts]
    weights = np.random.default_rng(1).integers(-127, 127, stacked.matrix.shape[1]).astype(np.int8)
    served = Classifier("test", weights, 0.5, 0.25, Calibration(1, 0, 0, 0))
    expected = np.concatenate([served.window_logits(features) for features in texts])
    assert stacked.matrix @ (weights * np.float32(0.5)) + 0.25 == pytest.approx(expected, rel=1e-4, abs=1e-3)


def test_light_models_count_as_far_as_they_know_better() -> None:
    logits, attack = drawn(6, 1.0)
    chance = np.random.default_rng(7)
    seen = [Impression(float(chance.normal()), 3.0 * is_attack - 1.5 + float(chance.normal())) for is_attack in attack]
    fitted = calibration.fit(logits, attack, impressions=seen)
    assert fitted.share.meaning > 10 * fitted.share.wording
    pairs = zip(logits, seen, strict=True)
    together = np.array([fitted.calibration.probability(each, -fitted.share.logit(light)) for each, light in pairs])
    assert (together[~attack] >= 0.5).mean() == pytest.approx(calibration.FALSE_POSITIVE_RATE, abs=0.002)
    alone = calibration.fit(logits, attack)
    by_encoder = calibration.probabilities(logits, alone.calibration)
    assert (together[attack] >= 0.5).mean() > (by_encoder[attack] >= 0.5).mean() + 0.2
    assert alone.share == Share(0.0, 0.0)


def test_light_models_never_speak_for_an_attack_the_other_way_round() -> None:
    logits, attack = drawn(6, 1.0)
    turned = [Impression(-3.0 * is_attack, -3.0 * is_attack) for is_attack in attack]
    fitted = calibration.fit(logits, attack, impressions=turned)
    assert fitted.share == Share(0.0, 0.0)
