"""Training of the tagger: what is read of marked texts, how they are changed, and that the graph is the network."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from app.pii.config import read_names  # noqa: E402
from app.pii.given_names import GivenNames  # noqa: E402
from app.pii.tagger import ENTITIES, LOOKS, Tagger  # noqa: E402
from app.settings import default_config_dir  # noqa: E402
from app.subwords import WIDTH, shipped  # noqa: E402
from app.training import tagger  # noqa: E402
from app.training.tagger import Marked, Network  # noqa: E402
from tests.unit.training import support  # noqa: E402

NAMES = GivenNames(read_names(default_config_dir()))


def marked(text: str, *values: tuple[str, str], language: str = "en", held_out: bool = False) -> Marked:
    spans = tuple((text.index(value), text.index(value) + len(value), entity) for value, entity in values)
    return Marked(text, spans, language, held_out)


ROWS = [
    marked(f"so {name} lives in {place} now", (name, "PERSON"), (place, "LOCATION"))
    for name in ("Zanzibar", "Quetzal", "Nkechi", "Oluwaseun", "Bronisz", "Xiadani")
    for place in ("Knaresborough", "Szczebrzeszyn", "Tullamore")
]


def reader(rows: list[Marked]) -> tagger._Reader:
    return tagger._Reader(rows, shipped(), NAMES)


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
    (read,) = tagger.load(tmp_path.glob("*.jsonl"), weight=0.5, held_out=0)
    assert read.spans == ((0, 3, "PERSON"), (9, 15, "LOCATION"))
    assert (read.weight, read.held_out) == (0.5, False)
    assert tagger.load(tmp_path.glob("*.jsonl"), held_out=100)[0].held_out


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
    assert [row.text for row in tagger.load_calm([path], NAMES)] == ["What is the capital of France?"]


def test_of_messages_of_a_few_words_none_is_calm_that_may_hold_a_name(tmp_path: Path) -> None:
    texts = ("ok thanks", "Thanks a lot", "call anna", "anna", "ask Wiśniewski", "Wiśniewski", "FYI")
    path = tmp_path / "short_messages.jsonl"
    rows = ({"text": text, "label": "benign", "lang": "en", "kind": "x"} for text in texts)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    # A lone surname that no list knows stands where sentences begin: it cannot be told from "Thanks".
    assert [row.text for row in tagger.load_calm([path], NAMES)] == ["ok thanks", "Thanks a lot", "Wiśniewski", "FYI"]


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
    assert [each.text for each in tagger.load_passages(rows, NAMES)] == [texts[0], texts[4]]
    assert all(each.spans == () and each.weight == tagger.CALM_WEIGHT for each in tagger.load_passages(rows, NAMES))


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


def test_a_few_texts_teach_it_and_the_same_seed_gives_the_same_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tagger, "EPOCHS", 12)
    monkeypatch.setattr(tagger, "BATCH", 6)
    told: list[str] = []
    held = marked("so Zzyx lives in Qqq now", ("so", "LOCATION"), held_out=True)
    calm = [Marked(f"{word} it", (), "en", held_out=False) for word in ("open", "close", "move")]
    first, again = (tagger.teach([*ROWS, held], [(calm, 2)], shipped(), NAMES, 5, told.append) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first.parameters(), again.parameters(), strict=True))
    assert len(told) == 24
    tagger.write(first, tmp_path)
    text = "so Wenceslas lives in Brno now"
    found = Tagger.load(shipped(), NAMES, tmp_path).tag(text, 100).values
    assert [(each.entity, text[each.start : each.end]) for each in found] == [
        ("PERSON", "Wenceslas"),
        ("LOCATION", "Brno"),
    ]


def test_the_graph_computes_what_the_network_does(tmp_path: Path) -> None:
    torch.manual_seed(3)
    network = Network().eval()
    tagger.write(network, tmp_path)
    served = Tagger.load(shipped(), NAMES, tmp_path)
    inputs = np.random.default_rng(1).standard_normal((1, 17, WIDTH + LOOKS)).astype(np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(inputs), torch.ones(1, 17, 1)).softmax(-1).numpy()
    assert served.session.run(None, {"looks": inputs})[0] == pytest.approx(expected, abs=1e-5)


def test_texts_without_marks_are_needed(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        tagger.train(tmp_path, None, tmp_path, tmp_path, 1, lambda message: None)
