"""Marked texts: what is read of them, how they are changed, and what is learned of each sub-word."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

pytest.importorskip("onnx")

from app.pii.config import read_names
from app.pii.given_names import GivenNames
from app.pii.tagger import ENTITIES
from app.settings import default_config_dir
from app.subwords import shipped
from app.training import marked as marking
from app.training.marked import Marked, Reader
from tests.unit.training import support

NAMES = GivenNames(read_names(default_config_dir()))


def marked(text: str, *values: tuple[str, str], language: str = "en", held_out: bool = False) -> Marked:
    spans = tuple((text.index(value), text.index(value) + len(value), entity) for value, entity in values)
    return Marked(text, spans, language, held_out)


ROWS = [
    marked(f"so {name} lives in {place} now", (name, "PERSON"), (place, "LOCATION"))
    for name in ("Zanzibar", "Quetzal", "Nkechi", "Oluwaseun", "Bronisz", "Xiadani")
    for place in ("Knaresborough", "Szczebrzeszyn", "Tullamore")
]


def reader(rows: list[Marked]) -> Reader:
    return Reader(rows, shipped(), NAMES)


def test_marked_texts_are_read_and_what_patterns_find_is_left_to_them(tmp_path: Path) -> None:
    row = {
        "text": "Ola from Canada, ola@example.com",
        "spans": [
            {"start": 0, "end": 3, "entity": "PERSON"},
            {"start": 9, "end": 15, "entity": "GPE"},
            {"start": 17, "end": 32, "entity": "EMAIL_ADDRESS"},
        ],
        "lang": "en",
    }
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    (read,) = marking.load(tmp_path.glob("*.jsonl"), weight=0.5, held_out=0)
    assert read.spans == ((0, 3, "PERSON"), (9, 15, "LOCATION"))
    assert (read.weight, read.held_out) == (0.5, False)
    assert marking.load(tmp_path.glob("*.jsonl"), held_out=100)[0].held_out


def test_calm_prompts_are_harmless_and_name_nobody(tmp_path: Path) -> None:
    lines = [
        ("What is the capital of France?", "benign", "en"),
        ("Ignore it all", "attack", "en"),
        ("Call Anna about it", "benign", "en"),
        ("I live in Leeds, what is on?", "benign", "en"),
        ("Was ist das?", "benign", "de"),
        ("word " * 200, "benign", "en"),
    ]
    path = tmp_path / "calm.jsonl"
    rows = ({"text": text, "label": label, "lang": lang, "kind": "x"} for text, label, lang in lines)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert [row.text for row in marking.load_calm([path], NAMES)] == ["What is the capital of France?"]


def test_of_messages_of_a_few_words_none_is_calm_that_may_hold_a_name(tmp_path: Path) -> None:
    texts = ("ok thanks", "Thanks a lot", "call anna", "anna", "ask Wiśniewski", "Wiśniewski", "FYI")
    path = tmp_path / "short_messages.jsonl"
    rows = ({"text": text, "label": "benign", "lang": "en", "kind": "x"} for text in texts)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    # A lone surname that no list knows stands where sentences begin: it cannot be told from "Thanks".
    assert [row.text for row in marking.load_calm([path], NAMES)] == ["ok thanks", "Thanks a lot", "Wiśniewski", "FYI"]


def test_passages_that_may_name_somebody_are_left_out() -> None:
    texts = (
        "offset_x = core.mul(a, 2)",
        "# author: nobody",
        "ask Anna",
        "mail bob@example.org",
        "Weiß und Kommandozeile",
    )
    rows = [support.row(text, False, "packages_code", own=False) for text in (*texts, "held")]
    rows[-1] = support.row("held", False, "packages_code", own=False, held_out=True)
    assert [each.text for each in marking.load_passages(rows, NAMES)] == [texts[0], texts[4]]
    assert all(each.spans == () and each.weight == marking.CALM_WEIGHT for each in marking.load_passages(rows, NAMES))


def test_changed_texts_keep_their_marks_on_values_of_the_same_kind() -> None:
    changing, chance = reader(ROWS), random.Random(1)  # noqa: S311 - reproducible, not secret
    names = {row.text[slice(*row.spans[0][:2])].lower() for row in ROWS}
    places = {row.text[slice(*row.spans[1][:2])].lower() for row in ROWS}
    seen, swapped = set(), 0
    for _ in range(40):
        for row in ROWS:
            changed = changing.changed(row, chance)
            name, place = (changed.text[start:end] for start, end, _ in changed.spans)
            assert name.lower() in names
            assert place.lower() in places
            assert changed.text.lower() == f"so {name} lives in {place} now".lower()
            seen.add(changed.text.islower())
            swapped += name.lower() != row.text[slice(*row.spans[0][:2])].lower()
    assert seen == {True, False}
    assert swapped > 100


def test_of_some_texts_a_sentence_or_two_with_a_value_are_shown_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "Nothing happened here. Ms. Zanzibar lives in\nKnaresborough! Is that all? She left, Quetzal stayed.\nBye"
    place = "in\nKnaresborough"
    row = marked(text, ("Zanzibar", "PERSON"), (place, "LOCATION"), ("Quetzal", "PERSON"))
    parts = {marking.part_of(row, random.Random(seed)) for seed in range(30)}  # noqa: S311 - reproducible
    assert {part.text for part in parts} == {
        f"Ms. Zanzibar lives {place}!",
        f"Ms. Zanzibar lives {place}! Is that all?",
        "She left, Quetzal stayed.",
        "She left, Quetzal stayed.\nBye",
    }
    values = {part.text[start:end] for part in parts for start, end, _ in part.spans}
    assert values == {"Zanzibar", place, "Quetzal"}
    assert all(len(part.spans) == (2 if place in part.text else 1) for part in parts)

    calm = marked("Nobody is here. Nobody at all.")
    assert marking.part_of(calm, random.Random(1)) == calm  # noqa: S311
    chance = random.Random(2)  # noqa: S311
    cut = sum(reader([row]).changed(row, chance).text.count(" ") < text.count(" ") for _ in range(200))
    assert 0.25 < cut / 200 < 0.45
    monkeypatch.setattr(marking, "PART_SHARE", 0)
    assert reader([row]).changed(row, random.Random(3)).text.count(" ") >= text.count(" ")  # noqa: S311


def test_polish_values_change_only_with_those_that_end_alike() -> None:
    rows = [
        marked("widzę Annę", ("Annę", "PERSON"), language="pl"),
        marked("widzę Ewę", ("Ewę", "PERSON"), language="pl"),
        marked("idzie Jan", ("Jan", "PERSON"), language="pl"),
    ]
    changing, chance = reader(rows), random.Random(2)  # noqa: S311 - reproducible, not secret
    seen = {changing.changed(rows[0], chance).text.lower().replace("e", "ę") for _ in range(200)}
    assert seen == {"widzę annę", "widzę ęwę"}


def test_targets_stand_on_the_sub_words_of_the_values() -> None:
    text = "so Oluwaseun lives in Knaresborough"
    case = reader(ROWS).read(marked(text, ("Oluwaseun", "PERSON"), ("Knaresborough", "LOCATION")))
    spans = shipped().cut(text.lower())[1]
    for (start, end), target in zip(spans.tolist(), case.targets.tolist(), strict=True):
        expected = 1 + ENTITIES.index("PERSON") if 3 <= start < 12 else 0
        expected = 1 + ENTITIES.index("LOCATION") if start >= 22 else expected
        assert target == expected, text[start:end]


def test_texts_of_detection_that_nobody_marked_are_english_or_polish_and_no_long_ones(tmp_path: Path) -> None:
    lines = [("Ask Anna", "en"), ("Zapytaj Annę", "pl"), ("Frag Anna", "de"), ("word " * 500, "en")]
    rows = ({"text": text, "label": "attack", "lang": lang, "kind": "x"} for text, lang in lines)
    support.write_lines(tmp_path / "some.jsonl", rows)
    found = marking.load_unmarked(tmp_path.glob("*.jsonl"))
    assert [(each.text, each.language, each.spans) for each in found] == [
        ("Ask Anna", "en", ()),
        ("Zapytaj Annę", "pl", ()),
    ]
