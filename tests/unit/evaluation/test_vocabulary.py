"""The command makes the words that ship, and writes a list only to a file that is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.detection.normalise.vocabulary import WORDS_FILE
from app.evaluation import vocabulary
from app.evaluation.recovery import sample

DATA = Path(__file__).parents[3] / "data" / "detection"


def test_the_words_that_ship_are_made_anew() -> None:
    assert sorted(vocabulary.words(DATA)) == sorted(WORDS_FILE.read_text(encoding="utf-8").split())


def test_no_text_that_recovery_is_measured_on_is_read() -> None:
    listed = {row.text for row in vocabulary.read(DATA, vocabulary.FILES)}
    measured = {row.text for row in sample(DATA)} & listed
    assert measured
    assert measured <= {row.text for row in sample(DATA, vocabulary.FILES)}


@pytest.mark.parametrize("option", [[], ["--all"]])
def test_a_list_is_written_only_to_a_file_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], option: list[str]
) -> None:
    shipped, named = tmp_path / "words.txt", tmp_path / "named.txt"
    shipped.write_text("word\nother\n")
    monkeypatch.setattr(vocabulary, "WORDS_FILE", shipped)
    monkeypatch.setattr(vocabulary, "words", lambda files: ["word", "all" if files is None else "some"])
    for refused in (["--help"], ["words.txt"]):
        with pytest.raises(SystemExit):
            vocabulary.main(refused)
    capsys.readouterr()
    vocabulary.main(option)
    assert shipped.read_text() == "word\nother\n"
    assert capsys.readouterr().out == "2 words; of the 2 that ship 1 are among them.\n"
    vocabulary.main([*option, "-o", str(named)])
    assert named.read_text() == f"word\n{'all' if option else 'some'}\n"
    assert shipped.read_text() == "word\nother\n"
