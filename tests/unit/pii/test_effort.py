"""How much work hostile texts make, counted in calls and characters: as much as their length, whatever they hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import phonenumbers
import pytest
from numpy.typing import NDArray

from app.pii import redaction
from app.pii.checksums import is_luhn
from app.pii.engine import PiiEngine
from app.pii.looks import _LETTERS_AT_FIRST, _MARGIN, _first
from app.pii.reading import Reading
from app.pii.recognizers import nrp, phone, zip_code
from app.pii.recognizers.base import ContextWords
from app.pii.recognizers.nrp import GroupRecognizer
from app.pii.recognizers.phone import PhoneRecognizer
from app.pii.recognizers.us_ssn import SsnRecognizer
from app.pii.recognizers.zip_code import PostcodeRecognizer
from app.pii.redaction import Span, resolve_overlaps
from app.subwords import SubWordTable, shipped

REGIONS = ("US", "GB", "PL", "DE", "FR", "IE", "NL", "BE", "AT", "AU")


class Counted:
    """Stands for a function or a compiled pattern, and counts its calls."""

    def __init__(self, original: Any) -> None:
        self.original, self.calls = original, 0

    def __call__(self, *given: Any) -> Any:
        self.calls += 1
        return self.original(*given)

    def match(self, *given: Any) -> Any:
        self.calls += 1
        return self.original.match(*given)

    def search(self, *given: Any) -> Any:
        self.calls += 1
        return self.original.search(*given)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, str], Counted]:
    def count(owner: Any, name: str) -> Counted:
        counter = Counted(getattr(owner, name))
        monkeypatch.setattr(owner, name, counter)
        return counter

    return count


@pytest.mark.parametrize("unit", ["1 2-3.", "4111 1111 1111 1112 ", "%25", "12:30 ", "[1] "])
def test_digits_that_have_no_shape_of_a_phone_number_are_not_cut_into_groups(
    counted: Callable[[Any, str], Counted], unit: str
) -> None:
    bodies = counted(phone, "_BODY")
    assert list(PhoneRecognizer("en", REGIONS).candidates(Reading(unit * 1_000))) == []
    assert bodies.calls <= 2


def test_what_begins_with_no_country_code_is_not_parsed(counted: Callable[[Any, str], Counted]) -> None:
    parse = counted(phonenumbers, "parse")
    text = "0000 1712 1981 287 and 00 2101 5500 12 and +0 123 456 789. " * 50
    assert list(PhoneRecognizer("en", REGIONS).candidates(Reading(text))) == []
    assert parse.calls == 0
    assert list(PhoneRecognizer("en", REGIONS).candidates(Reading("0048 512 345 678")))
    assert parse.calls > 0


def test_the_words_before_a_number_are_read_where_one_may_name_a_postcode(
    counted: Callable[[Any, str], Counted],
) -> None:
    named = counted(zip_code, "_NAMED_BEFORE")
    assert list(PostcodeRecognizer("en").candidates(Reading(f"zip {'12345 ' * 1_000}"))) != []
    assert named.calls <= zip_code._LOOK_BACK


@pytest.mark.parametrize(("word", "looked"), [("", 0), ("SSN ", 100)])
def test_words_near_numbers_are_looked_for_where_the_text_has_some(
    monkeypatch: pytest.MonkeyPatch, word: str, looked: int
) -> None:
    near: list[int] = []
    monkeypatch.setattr(ContextWords, "near", lambda _, text, start, end: near.append(start))
    SsnRecognizer("en", ["ssn", "social sec$"]).analyze(word + "603221187 " * 100, [])
    assert len(near) == looked


def test_what_lies_inside_a_surer_value_is_not_gone_through(counted: Callable[[Any, str], Counted]) -> None:
    merged = counted(redaction, "_merge_all")
    text = "Anna " * 500
    places = range(0, len(text), 5)
    persons = [Span("PERSON", at, at + 4, score) for at in places for score in (0.9, 0.7)]
    cards = [Span(kind, at, at + 4, score) for at in places for kind, score in (("IMEI", 0.9), ("PERSON", 0.7))]
    assert [span.score for span in resolve_overlaps(text, persons)] == [0.9] * 500
    assert {span.entity for span in resolve_overlaps(text, cards)} == {"IMEI"}
    assert merged.calls == 0


def test_so_many_words_for_peoples_are_looked_at_and_no_more() -> None:
    found = list(GroupRecognizer("en").candidates(Reading("I am Polish, " * (2 * nrp.MOST))))
    assert len(found) == nrp.MOST


@pytest.mark.parametrize("text", ["word " * 20_000, "a" * 100_000, "[" * 100_000, "żółw\n" * 20_000])
def test_no_more_of_a_text_is_cut_into_sub_words_than_the_budget_needs(text: str) -> None:
    cut: list[int] = []
    table = shipped()

    class Table(SubWordTable):
        def cut(self, text: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
            cut.append(len(text))
            return table.cut(text)

    ids, spans = _first(text, Table(table.tokenizer, table.rows), 1_000)
    whole_ids, whole_spans = table.cut(text)
    assert ids.tolist() == whole_ids[:1_000].tolist()
    assert spans.tolist() == whole_spans[:1_000].tolist()
    assert sum(cut) <= 2 * max(_LETTERS_AT_FIRST * 1_000, 2 * int(spans[-1, 1]) + _MARGIN * 40)


def test_a_text_without_words_is_not_given_to_the_tagger(engine: PiiEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        pytest.fail("there is nothing to tag")

    monkeypatch.setattr("app.pii.tagger.Tagger._probabilities", refuse)
    assert engine.scan("[" * 5_000 + "!?", "en", []).report.count == 0


def test_results_are_not_gone_through_once_for_each_recognizer(
    engine: PiiEngine, counted: Callable[[Any, str], Counted]
) -> None:
    enhanced = counted(PhoneRecognizer, "enhance_using_context")
    assert engine.scan("call +48 512 345 678", "en", []).report.count == 1
    assert enhanced.calls == 0


@pytest.mark.parametrize(
    ("digits", "right"), [("79927398713", True), ("79927398710", False), ("0", True), ("18", True)]
)
def test_the_luhn_digit(digits: str, right: bool) -> None:
    assert is_luhn(digits) is right


@pytest.mark.parametrize("address", ["ul. 3-Maja 12", "ul. 11 Listopada 4", "ul. 22-go Lipca 5", "ul. 12-a 3"])
def test_a_street_that_begins_with_a_number_fails_no_scan(engine: PiiEngine, address: str) -> None:
    assert engine.scan(f"Mieszkam przy {address}, Warszawa", "pl", []).report.count >= 1


@pytest.mark.parametrize("address", ["ul. ²_55 12", "ul. ²ab 5", "ul. ³ 7"])
def test_a_street_of_superscripts_fails_no_scan(engine: PiiEngine, address: str) -> None:
    assert "<PL_PESEL_1>" in engine.scan(f"Mieszkam przy {address}, PESEL 44051401359", "pl", []).redacted_text
