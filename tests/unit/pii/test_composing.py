"""How a text is read: signs of other scripts and typesetters' blanks as in ASCII, and every offset kept."""

from __future__ import annotations

import random
import unicodedata

import pytest

from app.pii.composing import composed, in_ascii
from app.pii.engine import PiiEngine

FULL_WIDTH = {ord(str(digit)): 0xFF10 + digit for digit in range(10)}
ARABIC = {ord(str(digit)): 0x0660 + digit for digit in range(10)}
HYPHENS = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"
SPACES = "\u00a0\u2007\u2009\u202f"
NUMBERS = [
    ("CREDIT_CARD", "card {}", "4111 1111 1111 1111"),
    ("CREDIT_CARD", "karta {}", "4111-1111-1111-1111"),
    ("IBAN_CODE", "konto {}", "PL61 1090 1014 0000 0712 1981 2874"),
    ("IBAN_CODE", "pay to {}", "GB29-NWBK-6016-1331-9268-19"),
    ("PHONE_NUMBER", "tel. {}", "+48 512 345 678"),
    ("PHONE_NUMBER", "tel. {}", "512-345-678"),
    ("PHONE_NUMBER", "call {} now", "(212) 555-0143"),
    ("PL_PESEL", "PESEL {}", "44051401359"),
    ("PL_PESEL", "PESEL {}", "440514 01359"),
    ("PL_NIP", "NIP {}", "526-104-08-28"),
    ("PL_NIP", "NIP {}", "526 104 08 28"),
    ("US_SSN", "SSN {}", "536-22-1234"),
    ("UK_NHS", "NHS number {}", "943 476 5919"),
    ("DATE_OF_BIRTH", "born {}", "1980-05-14"),
]


def spellings(number: str) -> list[str]:
    """Return a number in digits of other scripts, and with other hyphens and blanks."""
    parted = [number.replace("-", hyphen) for hyphen in HYPHENS if "-" in number]
    parted += [number.replace(" ", space) for space in SPACES if " " in number]
    return [
        number.translate(FULL_WIDTH),
        number.translate(ARABIC),
        *parted,
        *(each.translate(ARABIC) for each in parted),
    ]


@pytest.mark.parametrize("language", ["en", "pl"])
@pytest.mark.parametrize(("entity", "sentence", "number"), NUMBERS)
def test_a_number_in_other_signs_is_found_whole(
    engine: PiiEngine, entity: str, sentence: str, number: str, language: str
) -> None:
    for spelling in spellings(number):
        text = f"Ł – {sentence.format(spelling)} – ok"
        found = engine.scan(text, language, []).report.entities
        assert [text[each.start : each.end] for each in found if each.type == entity] == [spelling]


def test_a_number_has_one_placeholder_however_it_is_written(engine: PiiEngine) -> None:
    number = "4111-1111-1111-1111"
    scan = engine.scan("\n".join(f"card {each}" for each in [number, *spellings(number)]), "en", [])
    assert set(scan.redacted_text.split("\n")) == {"card <CREDIT_CARD_1>"}


@pytest.mark.parametrize(
    "text",
    [
        "w dniach 12–15 maja, lata 2021–2024, str. 40–66",
        "Anna – ta z Gdańska – ma 3 koty",
        "w\u00a0Gdańsku, 5\u00a0zł, nr\u00a0A",
        "A–Z, 5–Z",
        "価格：１",
    ],
)
def test_a_dash_between_two_numbers_and_a_blank_in_a_sentence_stay(text: str) -> None:
    read, places = composed(text)
    assert places is None
    assert read == text.replace("１", "1")


def test_offsets_stay_where_accents_stand_apart_too(engine: PiiEngine) -> None:
    text = unicodedata.normalize("NFD", "Łódź, Żółć,") + " tel. ５１２\u202f３４５\u202f６７８ to Anny"
    found = engine.scan(text, "pl", []).report.entities
    assert "５１２\u202f３４５\u202f６７８" in [text[each.start : each.end] for each in found]


def test_what_is_looked_for_first_hides_nothing() -> None:
    chance = random.Random(3)  # noqa: S311 - reproducible, not secret
    signs = "aA1)( -–—‑\u202f\u00a0１٣Ａ\u0301\u00ad.\n"
    for _ in range(20_000):
        text = "".join(chance.choices(signs, k=chance.randrange(1, 14)))
        assert in_ascii(text) == text or composed(text)[0] != text
