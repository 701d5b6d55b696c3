"""Shows what costs are measured on, and that the table tells every step of both modes."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.contracts import DEFAULT_TEXT_LIMIT
from app.evaluation.effort import HOSTILE, STEPS, WORDS, main, memory_line, nested_base64, prompts

DATA = Path(__file__).parents[3] / "data" / "detection"


@pytest.mark.parametrize("words", WORDS)
def test_prompts_are_different_and_have_so_many_words(words: int) -> None:
    found = prompts(words, DATA)
    assert {len(text.split()) for text in found} == {words}
    assert len(set(found)) == len(found) > 1
    assert all(len(text) <= DEFAULT_TEXT_LIMIT for text in found)


def test_the_own_text_does_not_make_a_prompt_of_any_length() -> None:
    with pytest.raises(ValueError, match="has only"):
        prompts(10_000_000, DATA)


@pytest.mark.parametrize("text", [*HOSTILE.values(), nested_base64()], ids=[*HOSTILE, "nested base64"])
def test_hostile_texts_are_as_long_as_a_text_may_be(text: str) -> None:
    assert DEFAULT_TEXT_LIMIT - 200 <= len(text) <= DEFAULT_TEXT_LIMIT
    assert not text.isspace()


def test_both_modes_are_told_step_by_step(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DATA.parents[1])
    main(["--rounds", "1", "--words", "5", "--no-hostile"])
    lines = capsys.readouterr().out.splitlines()
    head = next(line for line in lines if line.startswith("| text"))
    assert [cell.strip() for cell in head.split("|")[4:-1]] == list(STEPS)
    fast, full = (line.split("|") for line in lines if line.startswith("| 5 words"))
    assert [cell.strip() for cell in fast].count("-") == 1
    assert all(float(cell) >= 0 for cell in full[3:-1])
    assert lines[-1].startswith("Resident memory: ")


def test_memory_is_told_only_where_the_system_tells_it() -> None:
    assert "adds 50 MB to 100 MB" in memory_line(100.0, 150.0, 160.0)
    assert memory_line(None, None, None) == "Resident memory: not told by this system."
