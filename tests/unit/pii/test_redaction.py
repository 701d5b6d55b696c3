"""Overlaps are decided once, nothing of a value is left, and placeholders stay unambiguous."""

from __future__ import annotations

from itertools import pairwise

from app.pii.redaction import Span, redact, resolve_overlaps


def span_of(text: str, value: str, entity: str, score: float = 0.9) -> Span:
    start = text.index(value)
    return Span(entity, start, start + len(value), score)


def test_same_value_gets_the_same_placeholder_and_others_count_up() -> None:
    text = "Ann, Bob, ANN"
    spans = [Span("PERSON", 0, 3, 0.9), Span("PERSON", 5, 8, 0.9), Span("PERSON", 10, 13, 0.9)]
    assert redact(text, spans) == "<PERSON_1>, <PERSON_2>, <PERSON_1>"


def test_separators_between_digits_do_not_make_another_value() -> None:
    text = "605-118-902 or 605 118 902"
    spans = [Span("PHONE_NUMBER", 0, 11, 0.9), Span("PHONE_NUMBER", 15, 26, 0.9)]
    assert redact(text, spans) == "<PHONE_NUMBER_1> or <PHONE_NUMBER_1>"


def test_numbers_already_in_the_text_are_skipped() -> None:
    text = "<PERSON_1> and <person_3> met Ann, Bob"
    spans = [span_of(text, "Ann", "PERSON"), span_of(text, "Bob", "PERSON")]
    assert redact(text, spans) == "<PERSON_1> and <person_3> met <PERSON_2>, <PERSON_4>"


def test_offsets_are_code_points() -> None:
    text = "😀 Zażółć Ann"
    assert redact(text, [span_of(text, "Ann", "PERSON")]) == "😀 Zażółć <PERSON_1>"


def test_higher_score_wins_and_swallows_the_part_that_sticks_out() -> None:
    text = "605 118 902 4405"
    spans = [Span("PHONE_NUMBER", 0, 11, 0.6), Span("PL_REGON", 8, 16, 0.9)]
    assert resolve_overlaps(text, spans) == [Span("PL_REGON", 0, 16, 0.9)]


def test_longer_span_wins_at_equal_score() -> None:
    assert resolve_overlaps("0123456789", [Span("A", 0, 4, 0.9), Span("B", 0, 10, 0.9)]) == [Span("B", 0, 10, 0.9)]


def test_name_around_an_address_keeps_its_own_part() -> None:
    text = "Ann Fox ann@example.com"
    spans = [Span("PERSON", 0, len(text), 0.6), span_of(text, "ann@example.com", "EMAIL_ADDRESS")]
    assert [(span.entity, text[span.start : span.end]) for span in resolve_overlaps(text, spans)] == [
        ("PERSON", "Ann Fox"),
        ("EMAIL_ADDRESS", "ann@example.com"),
    ]


def test_chain_of_overlaps_leaves_no_letter_or_digit_uncovered() -> None:
    text = "abcdefghijklmnop"
    spans = [Span("A", 0, 6, 0.5), Span("B", 4, 10, 0.9), Span("C", 9, 16, 0.7)]
    resolved = resolve_overlaps(text, spans)
    covered = {position for span in resolved for position in range(span.start, span.end)}
    assert covered == set(range(16))
    assert all(first.end <= second.start for first, second in pairwise(resolved))


def test_touching_spans_stay_two() -> None:
    spans = [Span("A", 0, 3, 0.9), Span("B", 3, 6, 0.9)]
    assert resolve_overlaps("abcdef", spans) == spans
