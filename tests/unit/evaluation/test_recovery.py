"""Shows what is measured: which texts are taken, and how much of them is read again."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.detection.heuristics import Heuristics
from app.detection.patterns import load_patterns
from app.evaluation.recovery import PER_LABEL, Recovery, overlap, sample, words_of
from app.settings import default_config_dir

DATA = Path(__file__).parents[3] / "data" / "detection"
ROWS = sample(DATA)
RULES = Heuristics(load_patterns(default_config_dir() / "patterns"))


def test_the_sample_is_always_the_same_and_balanced() -> None:
    assert sample(DATA) == ROWS
    for attack in (True, False):
        for lang, count in PER_LABEL.items():
            assert sum(row.attack is attack and row.lang == lang for row in ROWS) == count


def test_overlap_is_intersection_over_union() -> None:
    assert overlap(words_of("a b c"), words_of("b c d")) == pytest.approx(0.5)
    assert overlap(words_of(""), words_of("...")) == 1.0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("zero_width", 0.99),
        ("invisible", 0.99),
        ("homoglyphs", 0.97),
        ("styled", 0.99),
        ("leetspeak", 0.88),
        ("spaced", 0.85),
        ("dotted", 0.93),
        ("base64", 0.99),
        ("hex", 0.99),
        ("rot13", 0.93),
        ("reversed", 0.93),
        ("escapes", 0.99),
    ],
)
def test_most_of_a_disguised_text_is_read_again_and_the_disguise_alone_accuses_nobody(
    name: str, expected: float
) -> None:
    found = Recovery.of(ROWS[200::3], name, RULES)
    assert found.overlap >= expected
    assert found.layers < 2.5
    assert found.accused <= found.plainly_accused + 0.02
