"""The engine as the worker uses it: report, redaction, allow list, languages, hostile texts, failures, no network."""

from __future__ import annotations

import json
import random
import re
import socket
import subprocess
import sys
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from app.contracts import MAX_LISTED_SPANS
from app.pii.engine import PiiEngine
from app.pii.redaction import Span, resolve_overlaps
from app.pii.restoration import restore
from app.pii.tagger import Tagger, Tagging

DATA = Path(__file__).parents[3] / "data" / "pii"
NEAR_MISSES = [
    "12 Main St, ", "apt 1 ", "1 a apt ", "ul. A a ", "12-345 Aa ", "SE15 4QL ", "-----BEGIN PRIVATE KEY-----",
    "token: a", "password: a ", "postgres://a:", "AAAA1111-", "born 1.1.",
]  # fmt: skip
"""Beginnings of addresses, secrets and dates that come to nothing."""
CHECKED = {"PL_PESEL", "PL_NIP", "PL_REGON", "PL_ID_CARD", "IBAN_CODE", "CREDIT_CARD"}


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


def test_values_are_replaced_by_numbered_placeholders(engine: PiiEngine) -> None:
    text = "My PESEL is 44051401359, call Anna Nowak at anna@example.com"
    scan = engine.scan(text, None, [])
    assert scan.redacted_text == "My PESEL is <PL_PESEL_1>, call <PERSON_1> at <EMAIL_ADDRESS_1>"
    assert [(each.type, text[each.start : each.end]) for each in scan.report.entities] == [
        ("PL_PESEL", "44051401359"),
        ("PERSON", "Anna Nowak"),
        ("EMAIL_ADDRESS", "anna@example.com"),
    ]
    assert scan.report.scanned
    assert scan.report.count == 3
    assert scan.report.language == "en"


@pytest.mark.parametrize(
    "text",
    [
        "Nazywam się Małgorzata Wójcik i mieszkam przy ul. Żółkiewskiego 12/3, 31-539 Kraków.",
        "Dear Zoë Brontë, Siân Ó Súilleabháin called from +48 601 234 567. 😀 Café",
        "login: józef.kowalski",
    ],
)
def test_accents_that_stand_apart_leave_no_part_of_a_value(engine: PiiEngine, text: str) -> None:
    apart = unicodedata.normalize("NFD", text)
    scan = engine.scan(apart, None, [])
    assert scan.report.language == engine.scan(text, None, []).report.language
    assert scan.redacted_text == unicodedata.normalize("NFD", engine.scan(text, None, []).redacted_text)
    values = [(each.type, apart[each.start : each.end]) for each in scan.report.entities]
    assert values == [
        (each.type, unicodedata.normalize("NFD", text[each.start : each.end]))
        for each in engine.scan(text, None, []).report.entities
    ]
    allowed = [value for _, value in values]
    assert engine.scan(apart, None, allowed).redacted_text == apart
    assert engine.scan(text, None, allowed).redacted_text == text


def test_signs_that_are_not_seen_leave_no_part_of_a_value(engine: PiiEngine) -> None:
    text = "\ufeffWrite to an\u00adna.no\u00adwak@exam\u2060ple.com, or to Jan Kowal\u00adski."
    scan = engine.scan(text, None, [])
    assert scan.redacted_text == "\ufeffWrite to <EMAIL_ADDRESS_1>, or to <PERSON_1>."
    assert restore(scan.redacted_text, scan.redaction.placeholders).text == text


def test_one_walk_over_the_recognizers_finds_what_presidios_does(engine: PiiEngine) -> None:
    analyzer = engine._analyzers.everything
    for language, name in (("en", "english_chat.jsonl"), ("pl", "polish_chat.jsonl"), ("en", "traps.jsonl")):
        for text in (row["text"] for row in rows(name)[::9]):
            own = {(each.entity_type, each.start, each.end, each.score) for each in analyzer.found_in(text, language)}
            presidios = analyzer.analyze(text=text, language=language)
            kept = {(each.entity_type, each.start, each.end, each.score) for each in presidios}
            assert kept <= own
            for entity, start, end, score in own - kept:
                assert any(kind == entity and a <= start and end <= b and score <= s for kind, a, b, s in kept)


def test_a_value_inside_another_of_its_kind_changes_nothing() -> None:
    chance = random.Random(3)  # noqa: S311 - reproducible, not secret
    text = "Ann, O'Neil-7 " * 8
    for _ in range(2_000):
        spans = [
            Span(chance.choice(("PERSON", "LOCATION", "URL", "ZIP_CODE")), *word_edges(text, chance), score / 10)
            for score in (chance.randrange(5, 10) for _ in range(chance.randrange(2, 7)))
        ]
        inside = [
            each
            for each in spans
            if any(
                each != other
                and each.entity == other.entity
                and each.score <= other.score
                and other.start <= each.start
                and each.end <= other.end
                for other in spans
            )
        ]
        assert resolve_overlaps(text, spans) == resolve_overlaps(text, [each for each in spans if each not in inside])


def word_edges(text: str, chance: random.Random) -> tuple[int, int]:
    """Return where a stretch begins and ends that has a letter or digit at both ends."""
    words = [match.span() for match in re.finditer(r"\w+", text)]
    first, last = sorted((chance.randrange(12), chance.randrange(12)))
    return words[first][0], words[last][1]


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("Call Anna Nowak about the invoice", "Call <PERSON_1> about the invoice"),
        ("Ask Maria Lopez to join", "Ask <PERSON_1> to join"),
        ("Contact Susan Clark", "Contact <PERSON_1>"),
        ("Zapytaj Annę Nowak", "Zapytaj <PERSON_1>"),
    ],
)
def test_a_verb_before_a_name_is_left_standing(engine: PiiEngine, text: str, redacted: str) -> None:
    assert engine.scan(text, None, []).redacted_text == redacted


@pytest.mark.parametrize(
    "text",
    [
        "What is the capital of France?",
        "Compare the 1966, 1998 and 2018 world cup finals in three sentences.",
        "Napisz wiersz o jesieni w Krakowie",
        "see https://example.com/docs and RFC 2606",
    ],
)
def test_harmless_text_stays_as_it_is(engine: PiiEngine, text: str) -> None:
    scan = engine.scan(text, None, [])
    assert (scan.report.count, scan.redacted_text) == (0, text)


@pytest.mark.parametrize(
    ("given", "text", "used"),
    [
        (None, "Jaka jest stolica Francji?", "pl"),
        (None, "What is it?", "en"),
        ("pl", "What is it?", "pl"),
        ("de", "Was ist das?", "en"),
    ],
)
def test_report_says_which_language_was_used(engine: PiiEngine, given: str | None, text: str, used: str) -> None:
    assert engine.scan(text, given, []).report.language == used


def test_other_language_still_gets_patterns(engine: PiiEngine) -> None:
    scan = engine.scan("Schreib an anna@example.com", "de", [])
    assert scan.redacted_text == "Schreib an <EMAIL_ADDRESS_1>"


def test_allow_list_is_exact_and_blind_to_case(engine: PiiEngine) -> None:
    text = "call Anna Nowak at anna@example.com or joanna@example.com"
    scan = engine.scan(text, "en", ["ANNA NOWAK", "Anna@Example.com"])
    assert scan.redacted_text == "call Anna Nowak at anna@example.com or <EMAIL_ADDRESS_1>"


def test_allowed_value_keeps_its_place_after_letters_that_grow(engine: PiiEngine) -> None:
    scan = engine.scan("İİİ anna@example.com", "en", ["anna@example.com"])
    assert scan.report.count == 0


def test_own_placeholders_are_not_taken_for_names(engine: PiiEngine) -> None:
    text = "<PERSON_1> wrote to bob@example.com as <EMAIL_ADDRESS_1>"
    assert engine.scan(text, "en", []).redacted_text == ("<PERSON_1> wrote to <EMAIL_ADDRESS_2> as <EMAIL_ADDRESS_1>")


def test_an_ending_behind_an_own_placeholder_is_not_taken_for_a_name(engine: PiiEngine) -> None:
    for text in ("Dziękuję, <PERSON_1>owi też.", "<PERSON_1>owi i <PERSON_2>em"):
        assert engine.scan(text, "pl", []).redacted_text == text
        assert engine.for_parts().scan(text, "pl", []).redacted_text == text
    assert "Kowalskiemu" not in engine.scan("Powiedz <PERSON_1> Kowalskiemu o tym.", "pl", []).redacted_text


def test_own_placeholders_are_not_taken_for_logins_and_logins_in_brackets_are(engine: PiiEngine) -> None:
    for text in ("Dear <PERSON_1>,", "Hello <PERSON_2>!", "Hi <USERNAME_1>"):
        assert engine.scan(text, "en", []).redacted_text == text
    assert "kowal_anna" not in engine.scan("login: <kowal_anna_99> is taken", "en", []).redacted_text


def test_list_is_capped_while_count_and_redaction_are_complete(engine: PiiEngine) -> None:
    number_of_values = MAX_LISTED_SPANS + 100
    text = " ".join(f"user{index}@example.com" for index in range(number_of_values))
    scan = engine.scan(text, "en", [])
    assert len(scan.report.entities) == MAX_LISTED_SPANS
    assert scan.report.count == number_of_values
    assert "@" not in scan.redacted_text


@pytest.mark.parametrize(
    "unit", ["1", "@", "a.a.", "([{", "\0", "1 ", "A-A", "(1)", "ab:", "https://x.y/?a=b&", "😀", *NEAR_MISSES]
)
def test_hostile_text_of_full_length_is_still_redacted_at_its_end(engine: PiiEngine, unit: str) -> None:
    ending = " mail anna@example.com"
    text = (unit * 100_000)[: 100_000 - len(ending)] + ending
    assert engine.scan(text, None, []).redacted_text.endswith(" mail <EMAIL_ADDRESS_1>")


def test_known_names_are_found_beyond_the_models_budget(engine: PiiEngine) -> None:
    text = "word " * 10_000 + "Anna Nowak"
    assert engine.scan(text, "en", []).redacted_text.endswith("<PERSON_1>")


def test_failing_recognizer_is_not_reported_as_nothing_found(
    engine: PiiEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Tagger, text: str, budget: int, kinds: object = None) -> Tagging:
        raise RuntimeError("the model failed")

    monkeypatch.setattr(Tagger, "tag", fail)
    with pytest.raises(RuntimeError, match="the model failed"):
        engine.scan("hello", "en", [])


def test_threads_get_the_answers_of_one_thread(engine: PiiEngine) -> None:
    texts = [row["text"] for row in rows("english.jsonl")[:60]]
    alone = [engine.scan(text, None, []).redacted_text for text in texts]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda text: engine.scan(text, None, []).redacted_text, texts))
    assert together == alone


def test_importing_the_engine_loads_neither_presidio_nor_spacy() -> None:
    script = "import sys, app.pii.engine; sys.exit(bool({'presidio_analyzer', 'spacy'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_nothing_asks_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    from app.pii.recognizers.email_address import suffix_list

    suffix_list.cache_clear()
    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    scan = PiiEngine.load().scan("anna@example.co.uk https://example.com", None, [])
    assert scan.redacted_text == "<EMAIL_ADDRESS_1> https://example.com"


@pytest.mark.parametrize("name", ["english.jsonl", "polish.jsonl"])
def test_every_identifier_with_a_right_checksum_is_found(engine: PiiEngine, name: str) -> None:
    missed = []
    for number, row in enumerate(rows(name)):
        found = engine.scan(row["text"], None, []).report.entities
        missed += [
            (number, span["entity"])
            for span in row["spans"]
            if span["entity"] in CHECKED
            and not any(
                each.type == span["entity"] and each.start <= span["start"] and each.end >= span["end"]
                for each in found
            )
        ]
    assert missed == []


@pytest.mark.parametrize("name", ["english.jsonl", "polish.jsonl"])
def test_no_number_with_a_wrong_checksum_is_flagged(engine: PiiEngine, name: str) -> None:
    flagged = []
    for number, row in enumerate(rows(name)):
        if row["note"] != "wrong_checksum":
            continue
        allowed = {span["entity"] for span in row["spans"]} | {"PERSON", "NRP"}
        found = engine.scan(row["text"], None, []).report.entities
        flagged += [(number, each.type) for each in found if each.type not in allowed]
    assert flagged == []


@pytest.mark.parametrize("text", ["Explain how Isaac Newton discovered gravity.", "Who was Marie Curie?"])
def test_in_a_text_that_goes_on_a_name_counts_before_more_of_it_is_known(engine: PiiEngine, text: str) -> None:
    assert engine.find(text, "en", [])[0] == []
    (span,) = engine.for_parts().find(text, "en", [])[0]
    assert (span.entity, text[span.start : span.end]) in [("PERSON", "Isaac Newton"), ("PERSON", "Marie Curie")]
