"""Overlaps are decided once, each kind is treated as its policy says, and placeholders stay unambiguous."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import Any

import pytest

from app.pii.redaction import Redactor, RunningNumbers, Span, resolve_overlaps, strictest
from app.redaction import RedactionTable


def span_of(text: str, value: str, entity: str, score: float = 0.9) -> Span:
    start = text.index(value)
    return Span(entity, start, start + len(value), score)


def redact(text: str, spans: list[Span], **table: Any) -> str:
    return Redactor(RedactionTable.model_validate(table), b"key").redact(text, spans).text


def test_same_value_gets_the_same_placeholder_and_others_count_up() -> None:
    text = "Ann, Bob, ANN"
    spans = [Span("PERSON", 0, 3, 0.9), Span("PERSON", 5, 8, 0.9), Span("PERSON", 10, 13, 0.9)]
    assert redact(text, spans) == "<PERSON_1>, <PERSON_2>, <PERSON_1>"


def test_separators_between_digits_do_not_make_another_value() -> None:
    text = "605-118-902 or 605 118 902"
    spans = [Span("PHONE_NUMBER", 0, 11, 0.9), Span("PHONE_NUMBER", 15, 26, 0.9)]
    assert redact(text, spans) == "<PHONE_NUMBER_1> or <PHONE_NUMBER_1>"


@pytest.mark.parametrize(
    ("entity", "first", "second"),
    [
        ("IP_ADDRESS", "10.1.1.12", "10.11.1.2"),
        ("DATE_OF_BIRTH", "1/11/1980", "11/1/1980"),
        ("STREET_ADDRESS", "1/12 Long Street", "11/2 Long Street"),
        ("EMAIL_ADDRESS", "ann.1@example.com", "ann1@example.com"),
        ("PASSWORD", "Hunter2x!", "hunter2x!"),
    ],
)
def test_separators_and_case_that_tell_values_apart_make_another_value(entity: str, first: str, second: str) -> None:
    text = f"{first} and {second}"
    spans = [span_of(text, first, entity), Span(entity, len(first) + 5, len(text), 0.9)]
    assert redact(text, spans) == f"<{entity}_1> and <{entity}_2>"
    one, other = (redact(value, [Span(entity, 0, len(value), 0.9)], default="hash") for value in (first, second))
    assert one != other
    numbers = RunningNumbers(Redactor())
    assert [numbers.substitute(entity, value) for value in (first, second)] == [f"<{entity}_1>", f"<{entity}_2>"]


def test_each_running_number_is_looked_for_where_the_last_one_was_given() -> None:
    class Counted(set[int]):
        asked = 0

        def __contains__(self, number: object) -> bool:
            Counted.asked += 1
            return super().__contains__(number)

    numbers = RunningNumbers(Redactor())
    numbers._taken = defaultdict(Counted)
    numbers.take([("PERSON", 2), ("PERSON", 500)])
    given = [numbers.substitute("PERSON", f"Person {number}") for number in range(1_000)]
    assert given[:2] == ["<PERSON_1>", "<PERSON_3>"]
    assert len(set(given)) == 1_000
    assert "<PERSON_500>" not in given
    assert Counted.asked < 3_000


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


@pytest.mark.parametrize(
    "written",
    [
        "PERSON_1",
        "person_1",
        "[PERSON_1]",
        "<person 1>",
        r"\<PERSON\_1\>",
        "<PERSON_01>",
        "&lt;Person-1&gt;",
        "PERSON 1st",
    ],
)
def test_a_number_that_the_text_could_be_taken_to_name_is_skipped(written: str) -> None:
    text = f"{written} met Ann"
    assert redact(text, [span_of(text, "Ann", "PERSON")]) == f"{written} met <PERSON_2>"


def test_a_name_that_redaction_itself_makes_up_is_skipped() -> None:
    """Removing 605 joins what then reads PERSON_1."""
    text = "PERSON_605-1 and Ann"
    spans = [Span("PHONE_NUMBER", 7, 11, 0.9), span_of(text, "Ann", "PERSON")]
    assert redact(text, spans, entities={"PHONE_NUMBER": "remove"}) == "PERSON_1 and <PERSON_2>"


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("replace", "card <CREDIT_CARD_1>, again <CREDIT_CARD_1>."),
        ("mask", "card **** **** **** ****, again ****-****-****-****."),
        ({"action": "mask", "keep_last": 4}, "card **** **** **** 1111, again ****-****-****-1111."),
        ({"action": "mask", "keep_last": 40}, "card **** **** 1111 1111, again ****-****-1111-1111."),
        ("remove", "card , again ."),
        ("keep", "card 4111 1111 1111 1111, again 4111-1111-1111-1111."),
    ],
)
def test_an_action_is_carried_out_on_every_value_of_its_kind(action: Any, expected: str) -> None:
    text = "card 4111 1111 1111 1111, again 4111-1111-1111-1111."
    spans = [Span("CREDIT_CARD", 5, 24, 0.9), Span("CREDIT_CARD", 32, 51, 0.9)]
    assert redact(text, spans, entities={"CREDIT_CARD": action}, default="remove") == expected
    assert redact(text, spans, default=action) == expected


def test_a_mask_hides_vowel_signs_and_accents_too() -> None:
    text = "अनीता e\u0301va"
    assert redact(text, [Span("PERSON", 0, len(text), 0.9)], default="mask") == "***** ****"


def test_a_hash_is_the_same_for_the_same_value_in_every_text_under_one_key() -> None:
    table = RedactionTable.model_validate({"default": "hash"})
    ann, again = (
        Redactor(table, b"key").redact("Ann", [Span("PERSON", 0, 3, 0.9)]).text,
        redact("x ANN", [Span("PERSON", 2, 5, 0.9)], default="hash"),
    )
    assert again == f"x {ann}"
    assert ann.startswith("<PERSON:")
    assert len(ann) == len("<PERSON:>") + 12
    assert Redactor(table, b"other").redact("Ann", [Span("PERSON", 0, 3, 0.9)]).text != ann
    assert Redactor(table, b"key").redact("Ann", [Span("CRYPTO", 0, 3, 0.9)]).text[8:] != ann[8:]


@pytest.mark.parametrize(
    ("link", "mail", "expected"),
    [
        ("keep", "replace", ("EMAIL_ADDRESS", "<EMAIL_ADDRESS_1>")),
        ({"action": "mask", "keep_last": 9}, "mask", ("EMAIL_ADDRESS", "*****://*.*/***@****.***")),
        ("hash", "remove", ("EMAIL_ADDRESS", "")),
        ("remove", "replace", ("URL", "")),
        ("keep", "keep", ("URL", "https://x.y/ann@mail.com")),
    ],
)
def test_of_overlapping_kinds_the_strictest_action_holds_for_all_of_it(
    link: Any, mail: Any, expected: tuple[str, str]
) -> None:
    text = "https://x.y/ann@mail.com"
    found = [Span("URL", 0, len(text), 0.9), span_of(text, "ann@mail.com", "EMAIL_ADDRESS", 0.6)]
    table = RedactionTable.model_validate({"entities": {"URL": link, "EMAIL_ADDRESS": mail}})
    spans = strictest(resolve_overlaps(text, found), found, table)
    assert ([span.entity for span in spans], Redactor(table).redact(text, spans).text) == ([expected[0]], expected[1])


def test_values_beside_each_other_are_decided_each_by_its_own_kind() -> None:
    text = "Ann Fox ann@mail.com Bob"
    found = [Span("PERSON", 0, 20, 0.6), span_of(text, "ann@mail.com", "EMAIL_ADDRESS"), span_of(text, "Bob", "PERSON")]
    table = RedactionTable.model_validate({"entities": {"PERSON": "keep"}})
    spans = strictest(resolve_overlaps(text, found), found, table)
    assert Redactor(table).redact(text, spans).text == "Ann Fox <EMAIL_ADDRESS_1> Bob"
    assert Redactor(table).keeping_nothing().redact(text, spans).text == "<PERSON_1> <EMAIL_ADDRESS_1> <PERSON_2>"


def test_no_value_stands_in_the_representation_of_a_redaction() -> None:
    redaction = Redactor().redact("Ann", [Span("PERSON", 0, 3, 0.9)])
    assert "Ann" not in repr(redaction)
    assert redaction.placeholders[0].spellings == ("Ann",)
