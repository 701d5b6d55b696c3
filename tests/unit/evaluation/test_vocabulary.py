"""The command that writes the list of words does it when it is asked to, and not otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.evaluation import vocabulary


def test_help_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = tmp_path / "words.txt"
    monkeypatch.setattr(vocabulary, "WORDS_FILE", written)
    monkeypatch.setattr(vocabulary, "words", lambda: ["word"])
    for arguments in (["--help"], ["words.txt"]):
        with pytest.raises(SystemExit):
            vocabulary.main(arguments)
    assert not written.exists()
    vocabulary.main([])
    assert written.read_text() == "word\n"
