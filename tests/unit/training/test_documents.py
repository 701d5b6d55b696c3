"""Harmless documents from folders and installed packages: what is read of them, and that it is always the same."""

from __future__ import annotations

import gzip
import re
from importlib import metadata
from pathlib import Path

import pytest

from app.detection.families import Family
from app.evaluation.documents import PER_COLLECTION, PER_FILE
from app.training import documents, packages

CHECKOUT = Path(__file__).parents[3]
PROSE = "\n".join(
    f"This is line {name} of the guide, and it tells you what to do with the pump." for name in "abcdefghi"
)
WITHOUT_LOCK = {"torch"}
"""Installed beside the lock file for training, at a version of their own."""


def collection(folder: Path, **files: str) -> Path:
    """Write the files of one collection; `__` in a name stands for a dot."""
    kept = folder / "manuals"
    kept.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (kept / name.replace("__", ".")).write_text(text, encoding="utf-8")
    return folder


def texts(folder: Path) -> list[str]:
    return [row.text for row in documents.rows(folder)]


def test_a_passage_of_plain_text_is_harmless_and_third_party(tmp_path: Path) -> None:
    (row,) = documents.rows(collection(tmp_path, pump__txt=PROSE))
    assert row.text in PROSE
    assert not row.attack
    assert not row.own
    assert row.family is Family.BENIGN_DOCUMENT
    assert (row.file, row.source) == (documents.ENGLISH_FILE, "documents manuals")


def test_text_in_another_language_is_kept_apart(tmp_path: Path) -> None:
    polish = "\n".join(f"Wiersz {name} tej instrukcji mówi, co zrobić z pompą, kiedy stanie." for name in "abcdefghi")
    (row,) = documents.rows(collection(tmp_path, pompa__txt=polish))
    assert row.file == documents.OTHER_FILE
    assert not row.english


def test_pages_are_read_without_markup_and_scripts(tmp_path: Path) -> None:
    lines = "".join(f"<p>{line} &amp; more</p>" for line in PROSE.splitlines())
    page = f"<!DOCTYPE html><html><head><title>no</title></head><script>var x;</script><body>{lines}</body></html>"
    (text,) = texts(collection(tmp_path, index__html=page))
    assert "the pump. & more" in text
    assert not re.search(r"[<>]|var x|title", text)


def test_manual_pages_are_read_as_man_shows_them(tmp_path: Path) -> None:
    page = '.TH PUMP 1\n.SH NAME\n.B pump "a b"\n' + "\n".join(
        rf"This \fBline\fR {name} is about \-\-force and \(lqquotes\(rq.\n.PP" for name in "abcdefghi"
    ).replace("\\n", "\n")
    (text,) = texts(collection(tmp_path, pump__1=page))
    assert re.search(r'This line \w is about --force and "quotes"', text)
    assert not re.search(r"\\|^\.", text, re.MULTILINE)


def test_sayings_are_taken_one_by_one(tmp_path: Path) -> None:
    sayings = [f"Saying {number}: " + "nothing is as it seems to be, and that is that. " * 3 for number in range(20)]
    found = texts(collection(tmp_path, wisdom="\n%\n".join(sayings)))
    assert len(found) == 2 * PER_FILE
    assert set(found) <= {saying.strip() for saying in sayings}


def test_compressed_files_are_read_and_others_left_out(tmp_path: Path) -> None:
    folder = collection(tmp_path, changelog__txt=PROSE, picture__png=PROSE, numbers__txt="1 2 3 4 5 6 7 8\n" * 90)
    assert texts(folder) == []
    (folder / "manuals" / "pump.txt.gz").write_bytes(gzip.compress(PROSE.encode()))
    (folder / "manuals" / "broken.gz").write_bytes(b"\x1f\x8b no")
    (folder / "manuals" / "bytes.txt").write_bytes(b"\xff\xfe" * 400)
    assert len(texts(folder)) == 1


def test_the_same_files_give_the_same_passages(tmp_path: Path) -> None:
    files = {f"part_{number}": PROSE.replace("pump", f"pump {number}") for number in range(2 * PER_COLLECTION)}
    first, second = texts(collection(tmp_path / "one", **files)), texts(collection(tmp_path / "two", **files))
    assert first == second
    assert len(first) == PER_COLLECTION


def test_a_collection_is_held_out_as_a_whole(tmp_path: Path) -> None:
    for number in range(60):
        part = tmp_path / f"manual {number}"
        part.mkdir()
        for name in "ab":
            (part / name).write_text(PROSE.replace("pump", f"pump {name}"), encoding="utf-8")
    held = {row.source: row.held_out for row in documents.rows(tmp_path)}
    assert len({(row.source, row.held_out) for row in documents.rows(tmp_path)}) == len(held)
    assert 0 < sum(held.values()) < len(held) / 3


def test_a_folder_without_collections_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        documents.rows(tmp_path)
    with pytest.raises(FileNotFoundError):
        documents.rows(tmp_path / "absent")


def test_packages_give_code_and_prose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "PACKAGES", ("click", "not-installed-anywhere"))
    rows = packages.rows()
    assert rows == packages.rows()
    assert {row.file for row in rows} == {packages.CODE_FILE, packages.PROSE_FILE}
    assert {row.family for row in rows} == {Family.BENIGN_CODE, Family.BENIGN_DOCUMENT}
    assert not any(row.attack or row.own for row in rows)
    assert {row.source for row in rows} == {"package click"}
    shown = {row.text for row in rows if row.file == packages.CODE_FILE}
    sources = [file.read_text() for file in metadata.files("click") or () if file.suffix == ".py"]
    assert all(any(text in source for source in sources) for text in shown)


def test_every_package_is_pinned() -> None:
    locked = set(re.findall(r"^([\w.-]+)==", (CHECKOUT / "requirements-dev.lock").read_text(), re.MULTILINE))
    pinned = {re.sub(r"[-_.]+", "-", name).lower() for name in locked | WITHOUT_LOCK}
    assert {re.sub(r"[-_.]+", "-", name).lower() for name in packages.PACKAGES} <= pinned
