"""Shows which texts make the obfuscation set, and how a disguise is compared with the plain texts."""

from __future__ import annotations

import pytest

from app.contracts import Source
from app.evaluation.disguises import PER_LABEL, PLAIN, Disguised, chosen, disguised
from app.evaluation.figures import Sample
from app.evaluation.judge import Text
from app.evaluation.obfuscate import transform
from tests.unit.evaluation.stubs import judged, row, sample


def test_the_set_is_the_same_in_whatever_order_the_rows_come() -> None:
    rows = [row(f"this is text number {number}", attack=number % 2 == 0) for number in range(1000)]
    taken = chosen(rows)
    assert chosen(rows[::-1]) == taken
    assert taken[:2] != rows[:4:2]
    assert [each.attack for each in taken] == [True] * PER_LABEL + [False] * PER_LABEL


def test_short_and_long_texts_and_repeats_are_left_out() -> None:
    fitting = row("a text of more than twenty characters", attack=True)
    assert chosen([fitting, fitting, row("short", attack=True), row("x " * 300, attack=False)]) == [fitting]


def test_each_text_is_disguised_with_its_place_as_seed() -> None:
    rows = [row("the first of the texts", attack=True), row("the second of the texts", attack=False)]
    assert disguised(rows, PLAIN) == [Text(each.text, Source.INPUT) for each in rows]
    expected = [transform("leetspeak", each.text, seed) for seed, each in enumerate(rows)]
    assert [each.text for each in disguised(rows, "leetspeak")] == expected


def test_drop_and_rise_are_against_the_plain_texts() -> None:
    def decided(found: int, accused: int) -> Sample:
        attacks = ((row(attack=True), judged(0, blocked=place < found)) for place in range(4))
        harmless = ((row(attack=False), judged(0, blocked=place < accused)) for place in range(4))
        return sample(*attacks, *harmless)

    told = Disguised.of("hex", decided(1, 2), plain=decided(3, 1))
    assert told.recall is not None
    assert (told.disguise, told.recall.value) == ("hex", 0.25)
    assert told.recall_drop == pytest.approx(0.5)
    assert told.false_positive_rise == pytest.approx(0.25)


def test_without_a_label_there_is_no_drop() -> None:
    attacks = sample((row(attack=True), judged(90, blocked=True)))
    told = Disguised.of("hex", attacks, attacks)
    assert (told.recall_drop, told.false_positive_rate, told.false_positive_rise) == (0.0, None, None)
