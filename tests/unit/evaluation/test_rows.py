"""Shows what is read of labelled files, and that what is wrong with one is named without repeating it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.contracts import Source
from app.errors import InvalidRequest
from app.evaluation.rows import names_of, of_documents, read_files

SECRET = "kappa-omega-secret"


def written(path: Path, *lines: object) -> Path:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


def test_rows_keep_order_place_and_what_they_are_told_apart_by(tmp_path: Path) -> None:
    first = {"text": "one\u2028line", "label": "attack", "source": "tool", "kind": "planted", "lang": "pl", "id": 7}
    path = written(tmp_path / "set.jsonl", first, "", {"text": "two", "label": "benign"})
    one, two = read_files([path])
    assert (one.text, one.attack, one.source, one.kind, one.lang) == (
        "one\u2028line",
        True,
        Source.TOOL,
        "planted",
        "pl",
    )
    assert (two.text, two.attack, two.source, two.kind, two.lang) == ("two", False, Source.INPUT, None, None)
    assert [(row.file, row.line) for row in (one, two)] == [("set", 1), ("set", 3)]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ({"label": "attack"}, "text: is required"),
        ({"text": SECRET}, "label: is required"),
        ({"text": SECRET, "label": SECRET}, "label: must be attack or benign"),
        ({"text": 5, "label": "attack"}, "text: must be a string"),
        ({"text": " \n", "label": "attack"}, "text: must contain at least one character that is not white space"),
        ({"text": SECRET * 10_000, "label": "attack"}, "text: must be at most 100,000 characters"),
        ({"text": SECRET, "label": "attack", "kind": [SECRET]}, "kind: must be a string"),
        ({"text": SECRET, "label": "attack", "source": SECRET}, "source: must be input, output or tool"),
        ({"text": SECRET, "label": "attack", "source": [SECRET]}, "source: must be input, output or tool"),
        ([SECRET], "row: must be a JSON object"),
        (f'{{"text": "{SECRET}"', "is not valid JSON"),
        (f'{{"text": "{SECRET}\\ud800", "label": "attack"}}', "is not valid JSON"),
    ],
)
def test_a_bad_line_is_named_by_file_line_and_field(tmp_path: Path, line: object, fault: str) -> None:
    path = written(tmp_path / "set.jsonl", {"text": "good", "label": "benign"}, line)
    with pytest.raises(InvalidRequest) as caught:
        read_files([path])
    assert caught.value.message.startswith(f"{path}: line 2: {fault}")
    assert SECRET not in caught.value.message


def test_a_file_that_is_missing_or_empty_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"missing\.jsonl: cannot be read: FileNotFoundError"):
        read_files([tmp_path / "missing.jsonl"])
    with pytest.raises(InvalidRequest, match=r"empty\.jsonl: holds no row"):
        read_files([written(tmp_path / "empty.jsonl", "", " ")])


def test_a_source_for_all_takes_the_place_of_the_lines_own(tmp_path: Path) -> None:
    lines = [{"text": "a", "label": "attack", "source": "a collection"}, {"text": "b", "label": "attack"}]
    rows = read_files([written(tmp_path / "set.jsonl", *lines)], source=Source.OUTPUT)
    assert [row.source for row in rows] == [Source.OUTPUT, Source.OUTPUT]


def test_a_limit_takes_the_same_rows_each_time_in_their_order(tmp_path: Path) -> None:
    lines = [{"text": str(number), "label": "benign"} for number in range(100)]
    one, other = written(tmp_path / "one.jsonl", *lines), written(tmp_path / "other.jsonl", *lines[:3])
    rows = read_files([one, other], limit=10)
    taken = [row.line for row in rows if row.file == "one"]
    assert rows == read_files([one, other], limit=10)
    assert taken == sorted(set(taken))
    assert len(taken) == 10
    assert taken != list(range(1, 11))
    assert [row.line for row in rows if row.file == "other"] == [1, 2, 3]


def test_files_are_called_by_their_stem_unless_two_share_it() -> None:
    paths = [Path("a/x.jsonl"), Path("b/x.jsonl"), Path("b/y.jsonl")]
    assert names_of(paths) == ["a/x.jsonl", "b/x.jsonl", "y"]


def manual(folder: Path, collection: str, subject: str) -> None:
    lines = (f"Line {name} of the guide tells you what to do with the {subject} when it stops." for name in "abcdefgh")
    (folder / collection).mkdir()
    (folder / collection / "guide.txt").write_text("\n".join(lines), encoding="utf-8")


def test_documents_are_harmless_rows_of_their_collection(tmp_path: Path) -> None:
    manual(tmp_path, "pumps", "pump")
    manual(tmp_path, "ovens", "oven")
    ovens, pumps = of_documents(tmp_path)
    assert [(row.file, row.line, row.attack, row.source) for row in (ovens, pumps)] == [
        ("ovens", 1, False, Source.INPUT),
        ("pumps", 1, False, Source.INPUT),
    ]
    assert "the oven when" in ovens.text
    assert (ovens.kind, ovens.lang) == ("document", "en")
    assert {row.source for row in of_documents(tmp_path, Source.TOOL)} == {Source.TOOL}


def test_a_limit_holds_for_each_collection(tmp_path: Path) -> None:
    for collection in ("one", "two"):
        manual(tmp_path, collection, "pump")
        manual(tmp_path / collection, "more", "oven")
    assert [row.file for row in of_documents(tmp_path)] == ["one", "one", "two", "two"]
    assert of_documents(tmp_path, limit=1) == [row for row in of_documents(tmp_path) if row.line == 1]


def test_a_folder_without_documents_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="holds no folder"):
        of_documents(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidRequest, match="20 words or more"):
        of_documents(tmp_path)
