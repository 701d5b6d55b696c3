"""`vigil evaluate-pii`: a table for people, JSON for programs, no text in either, and faults in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli.commands import vigil
from app.contracts import PiiEntity, PiiReport
from app.pii.engine import PiiEngine, PiiScan


class OneEmail:
    """An engine that finds the first ten characters of every text."""

    entities = frozenset({"EMAIL_ADDRESS"})

    def scan(self, text: str, language: str | None, allow_list: list[str]) -> PiiScan:
        entity = PiiEntity(type="EMAIL_ADDRESS", start=0, end=10, score=1.0)
        return PiiScan(PiiReport(scanned=True, entities=[entity], count=1, latency_ms=1.5), text)


@pytest.fixture
def marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(PiiEngine, "load", lambda **_: OneEmail())
    spans = [{"start": 0, "end": 10, "entity": "EMAIL_ADDRESS"}, {"start": 14, "end": 18, "entity": "LOCATION"}]
    path = tmp_path / "marked.jsonl"
    path.write_text(json.dumps({"text": "ann@ex.com in Oslo", "spans": spans}) + "\n", encoding="utf-8")
    return path


def test_table_has_figures_of_every_entity_and_no_text(marked: Path) -> None:
    result = CliRunner().invoke(vigil, ["evaluate-pii", str(marked)])
    assert result.exit_code == 0
    rows = {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines()}
    assert rows["EMAIL_ADDRESS"] == ["1", "1", "1", "1", "1.000", "1.000", "1.000"]
    assert rows["LOCATION"] == ["1", "0", "0", "0", "-", "0.000", "0.000"]
    assert rows["ANY"] == ["2", "1", "1", "1", "1.000", "0.500", "0.556"]
    assert "Not looked for, and missed in ANY: LOCATION." in result.stderr
    assert "1.50 ms in the mean" in result.stderr
    assert "Oslo" not in result.output


def test_json_has_the_same_figures(marked: Path) -> None:
    result = json.loads(CliRunner().invoke(vigil, ["evaluate-pii", str(marked), "-j"]).stdout)
    assert (result["texts"], result["mean_ms"]) == (1, 1.5)
    assert [(each["entity"], each["looked_for"], each["recall"]) for each in result["entities"]] == [
        ("EMAIL_ADDRESS", True, 1.0),
        ("LOCATION", False, 0.0),
        ("ANY", True, 0.5),
    ]


def test_file_that_does_not_fit_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    path = tmp_path / "marked.jsonl"
    path.write_text('{"text": "Ann Secret"}\n', encoding="utf-8")
    result = CliRunner().invoke(vigil, ["evaluate-pii", str(path)])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "vigil: marked.jsonl, line 1: spans: Field required\n"


def test_help_shows_examples() -> None:
    assert "vigil evaluate-pii data/pii/polish.jsonl" in CliRunner().invoke(vigil, ["evaluate-pii", "-h"]).stdout


def test_of_documents_it_tells_how_often_something_is_found(marked: Path, tmp_path: Path) -> None:
    handbook = tmp_path / "ours" / "handbook"
    handbook.mkdir(parents=True)
    text = "Turn the valve to the left until the pump stops, then wait and open the lid of the tank with both hands. "
    (handbook / "a.txt").write_text(text * 3, encoding="utf-8")
    result = CliRunner().invoke(vigil, ["evaluate-pii", "--documents", str(tmp_path / "ours")])
    assert result.exit_code == 0, result.output
    rows = {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines()}
    assert rows["EMAIL_ADDRESS"] == rows["ANY"] == ["1", "1.000", "1"]
    assert "1 passages." in result.stderr
    told = json.loads(CliRunner().invoke(vigil, ["evaluate-pii", "--documents", str(tmp_path / "ours"), "-j"]).stdout)
    assert told["texts"] == 1
    assert told["entities"][-1] == {"entity": "ANY", "texts": 1, "values": 1}


@pytest.mark.parametrize("both", [True, False])
def test_a_file_or_documents_are_named_not_both(marked: Path, both: bool) -> None:
    named = [str(marked), "--documents", str(marked.parent)] if both else []
    result = CliRunner().invoke(vigil, ["evaluate-pii", *named])
    assert result.exit_code == 2
    assert "one of the two" in result.stderr


def test_documents_without_a_collection_are_one_line_and_exit_code_2(marked: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = CliRunner().invoke(vigil, ["evaluate-pii", "--documents", str(tmp_path / "empty")])
    assert result.exit_code == 2
    assert "holds no folder with documents" in result.stderr
