"""Shows how figures are made of decisions: for a file, for its parts, and in all."""

from __future__ import annotations

import pytest

from app.evaluation.figures import By, Figures, PolicyFigures
from tests.unit.evaluation.stubs import judged, row, sample

ATTACKS = [
    (row(attack=True, file="a", kind="x"), judged(90, blocked=True, cpu_ms=2)),
    (row(attack=True, file="a", kind="y"), judged(10, blocked=False, cpu_ms=4)),
]
MIXED = [
    (row(attack=True, file="b", lang="pl"), judged(80, blocked=True, cpu_ms=1, words=30)),
    (row(attack=False, file="b"), judged(60, blocked=True, cpu_ms=2, words=30)),
    (row(attack=False, file="b"), judged(20, blocked=False, cpu_ms=3, words=0, failed=True)),
    (row(attack=False, file="b"), judged(0, blocked=False, cpu_ms=10, words=60)),
]


def test_rates_are_of_their_own_label() -> None:
    found = Figures.of(sample(*MIXED))
    assert (found.rows, found.attacks, found.failed) == (4, 1, 1)
    assert found.recall is not None
    assert (found.recall.hits, found.recall.of) == (1, 1)
    assert found.false_positive_rate is not None
    assert (found.false_positive_rate.hits, found.false_positive_rate.of) == (1, 3)
    assert found.accuracy is not None
    assert (found.accuracy.hits, found.accuracy.of) == (3, 4)
    assert found.area == 1.0
    assert found.calibration_error == pytest.approx((0.2 + 0.6 + 0.2 + 0.0) / 4)


def test_one_label_alone_has_neither_the_other_rate_nor_an_area() -> None:
    attacks, harmless = Figures.of(sample(*ATTACKS)), Figures.of(sample(*MIXED[1:]))
    assert (attacks.false_positive_rate, attacks.area, harmless.recall, harmless.area) == (None, None, None, None)


def test_cpu_time_is_told_for_a_text_and_for_sixty_words() -> None:
    found = Figures.of(sample(*MIXED))
    assert found.cpu_ms_median == pytest.approx(2.5)
    assert found.cpu_ms_p95 == pytest.approx(8.95)
    assert found.cpu_ms_per_60_words == pytest.approx(16 / 120 * 60)
    assert Figures.of(sample((row(attack=True), judged(0, blocked=False, words=0)))).cpu_ms_per_60_words is None


def test_every_file_counts_the_same_in_the_means() -> None:
    totals = PolicyFigures.of("balanced", 1, sample(*ATTACKS, *MIXED)).totals
    assert (totals.files_with_attacks, totals.files_with_benign) == (2, 1)
    assert totals.mean_recall == pytest.approx((0.5 + 1) / 2)
    assert totals.mean_false_positive_rate == pytest.approx(1 / 3)
    assert totals.all_rows.rows == 6
    assert totals.all_rows.recall is not None
    assert totals.all_rows.recall.value == pytest.approx(2 / 3)


def test_without_a_label_in_any_file_there_is_no_mean() -> None:
    totals = PolicyFigures.of("balanced", 1, sample(*ATTACKS)).totals
    assert (totals.files_with_benign, totals.mean_false_positive_rate) == (0, None)


def test_parts_are_told_apart_by_kind_and_language_within_their_file() -> None:
    found = PolicyFigures.of("balanced", 1, sample(*ATTACKS, *MIXED), (By.KIND, By.LANG))
    assert [part.file for part in found.files] == ["a", "b"]
    assert [(part.file, part.kind, part.lang, part.figures.rows) for part in found.parts] == [
        ("a", "x", "en", 1),
        ("a", "y", "en", 1),
        ("b", None, "en", 3),
        ("b", None, "pl", 1),
    ]
    assert PolicyFigures.of("balanced", 1, sample(*ATTACKS)).parts == []
