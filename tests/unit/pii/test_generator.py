"""Made-up messages: their marks, and what the engine makes of right and of wrong checksums in them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from app.errors import VigilError
from app.pii import generator
from app.pii.engine import PiiEngine
from app.pii.generator import ENTITIES, SENTENCES, made_up

CHECKED = {
    "CREDIT_CARD", "IBAN_CODE", "UK_NHS", "PL_NIP", "PL_REGON", "PL_PESEL", "PL_ID_CARD", "PL_LAND_REGISTER",
}  # fmt: skip
LANGUAGES = sorted(SENTENCES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_seed_gives_the_same_texts_and_another_one_others(language: str) -> None:
    assert list(made_up(language, 20, 7)) == list(made_up(language, 20, 7)) != list(made_up(language, 20, 8))


@pytest.mark.parametrize("language", LANGUAGES)
def test_marks_stand_where_the_values_do(language: str) -> None:
    rows = list(made_up(language, 400, 3))
    seen = {span["entity"] for row in rows for span in row["spans"]}
    slots = {slot[2] for sentence in SENTENCES[language] for slot in generator._SLOT.finditer(sentence) if not slot[1]}
    assert seen == {ENTITIES[slot] for slot in slots}
    assert {row["note"] for row in rows} == {"", "wrong_checksum"}
    for row in rows:
        assert "{" not in row["text"]
        for span in row["spans"]:
            value = row["text"][span["start"] : span["end"]]
            assert value == value.strip() != ""


@pytest.mark.parametrize("language", LANGUAGES)
def test_right_checksums_are_all_found_and_wrong_ones_never_flagged(
    engine: PiiEngine, language: str, generated: int
) -> None:
    missed, flagged = [], []
    for row in made_up(language, generated // 4, 11):
        found = engine.scan(row["text"], None, []).report.entities
        for span in row["spans"]:
            covered = (each.start <= span["start"] and each.end >= span["end"] for each in found)
            if span["entity"] in CHECKED and not any(covered):
                missed.append(row["text"])
        if row["note"]:
            flagged += [(each.type, row["text"]) for each in found if each.type in CHECKED]
    assert missed == []
    assert flagged == []


def test_the_command_writes_json_lines() -> None:
    command = [sys.executable, "-m", "app.pii.generator", "--language", "pl", "--count", "3", "--seed", "5"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [json.loads(line) for line in lines] == list(made_up("pl", 3, 5))


def test_without_faker_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator, "find_spec", lambda name: None)
    with pytest.raises(VigilError, match="Faker"):
        next(made_up("en", 1, 1))
