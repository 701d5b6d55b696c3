"""`vigil evaluate`: what it prints and writes, and which arguments it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from app.cli.commands import vigil
from app.evaluation import judge as judge_module
from app.evaluation import report as report_module
from app.evaluation.obfuscate import TRANSFORMATIONS
from app.evaluation.report import PAGE
from tests.unit.evaluation.stubs import StubDetector

ROOT = Path(__file__).parents[3]
SECRET = "kappa-omega-secret"


class StubLoader:
    """Stands in for the class Detector."""

    loaded: Any = None
    detector = StubDetector()

    @classmethod
    def load(cls, *folders: Path) -> StubDetector:
        cls.loaded = folders
        return cls.detector


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> StubDetector:
    StubLoader.detector = StubDetector()
    monkeypatch.setattr(judge_module, "Detector", StubLoader)
    return StubLoader.detector


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Three attacks, of which `balanced` blocks two and `strict` three; two harmless texts, of which one is blocked."""
    lines = [
        *({"text": f"{SECRET} and an attack {score}", "label": "attack", "kind": "k"} for score in (90, 50, 30)),
        *({"text": f"{SECRET} and no attack {score}", "label": "benign", "lang": "pl"} for score in (45, 5)),
    ]
    path = tmp_path / "set.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return path


def evaluate(*arguments: object) -> Result:
    return CliRunner().invoke(vigil, ["evaluate", *map(str, arguments)])


def test_a_file_and_the_totals_are_told(stub: StubDetector, rows: Path) -> None:
    result = evaluate(rows, "--jobs", 1)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("model stub-1, full mode")
    line = next(line for line in result.stdout.splitlines() if " set " in line)
    assert line.split()[:4] == ["balanced", "set", "5", "3"]
    assert "66.7 [20.8, 93.9]" in line
    assert "50.0 [9.5, 90.5]" in line
    assert SECRET not in result.output


def test_json_takes_the_place_of_the_tables_or_goes_to_a_file(stub: StubDetector, rows: Path, tmp_path: Path) -> None:
    printed = json.loads(evaluate(rows, "--jobs", 1, "--json", "-", "--mode", "fast").stdout)
    assert (printed["model_version"], printed["mode"]) == ("stub-1", "fast")
    (policy,) = printed["policies"]
    assert policy["totals"]["mean_recall"] == pytest.approx(2 / 3)
    assert policy["files"][0]["figures"]["recall"]["hits"] == 2
    result = evaluate(rows, "--jobs", 1, "--json", tmp_path / "out.json")
    assert "balanced" in result.stdout
    assert json.loads((tmp_path / "out.json").read_text())["mode"] == "full"
    failed = evaluate(rows, "--jobs", 1, "--json", tmp_path)
    assert (failed.exit_code, failed.stderr) == (2, f"vigil: {tmp_path}: cannot be written: IsADirectoryError\n")


def test_policies_are_compared_over_one_detection_the_strictest_first(stub: StubDetector, rows: Path) -> None:
    found = json.loads(evaluate(rows, "--jobs", 1, "--compare", "-j", "-").stdout)["policies"]
    assert [policy["policy"] for policy in found] == ["strict", "balanced", "permissive"]
    assert [policy["totals"]["all_rows"]["recall"]["hits"] for policy in found] == [3, 2, 1]
    assert len(stub.seen) == 1 + 5


def test_parts_source_and_limit_are_as_asked_for(stub: StubDetector, rows: Path) -> None:
    result = evaluate(rows, "--jobs", 1, "--by", "kind,lang", "--source", "output", "--limit", 4)
    assert result.exit_code == 0, result.output
    assert {source for _, source, _ in stub.seen[1:]} == {"output"}
    assert len(stub.seen) == 1 + 4
    assert "Kind" in result.stdout
    assert "Lang" in result.stdout


def test_passages_of_documents_are_harmless_rows_beside_the_files(
    stub: StubDetector, rows: Path, tmp_path: Path
) -> None:
    guide = tmp_path / "documents" / "handbook" / "guide.txt"
    guide.parent.mkdir(parents=True)
    guide.write_text("\n".join(["You will find the key to the pump in the box beside the door."] * 8), encoding="utf-8")
    for files, names in (((rows,), ["set", "handbook"]), ((), ["handbook"])):
        result = evaluate(*files, "--documents", tmp_path / "documents", "--jobs", 1, "-j", "-")
        files_told = json.loads(result.stdout)["policies"][0]["files"]
        assert [each["file"] for each in files_told] == names
        assert (files_told[-1]["figures"]["rows"], files_told[-1]["figures"]["attacks"]) == (1, 0)


def test_other_models_can_be_named(stub: StubDetector, rows: Path, tmp_path: Path) -> None:
    assert evaluate(rows, "--jobs", 1, "--models", tmp_path).exit_code == 0
    assert StubLoader.loaded[1] == tmp_path


def test_the_obfuscation_set_is_judged_plain_and_in_every_disguise(stub: StubDetector, rows: Path) -> None:
    found = json.loads(evaluate(rows, "--jobs", 1, "--obfuscate", "all", "-j", "-").stdout)
    assert (found["attacks"], found["benign"]) == (3, 2)
    told = found["policies"][0]["disguises"]
    assert [each["disguise"] for each in told] == ["plain", *TRANSFORMATIONS]
    assert (told[0]["recall"]["hits"], told[0]["recall_drop"]) == (2, 0)
    # The stub reads the score at the end, which reversing takes away.
    assert next(each for each in told if each["disguise"] == "reversed")["recall_drop"] == pytest.approx(2 / 3)
    printed = evaluate(rows, "--jobs", 1, "--obfuscate", "hex").stdout
    assert "3 attacks and 2 harmless texts" in printed
    assert [line.split()[1] for line in printed.splitlines()[3:]] == ["plain", "hex"]


def test_a_report_is_written_where_it_is_asked_for(stub: StubDetector, rows: Path, tmp_path: Path) -> None:
    result = evaluate(rows, "--jobs", 1, "--report", tmp_path / "report")
    assert f"wrote {tmp_path / 'report' / PAGE}" in result.stderr
    assert SECRET not in (tmp_path / "report" / PAGE).read_text()


def test_failed_branches_are_told_beside_the_figures(stub: StubDetector, rows: Path) -> None:
    stub.degraded = True
    assert "a branch failed for 5 of 5 texts" in evaluate(rows, "--jobs", 1).stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--policy", "lenient"], "The policy must be one of balanced, permissive, strict."),
        (["--policy", "strict", "--compare"], "--policy and --compare exclude each other"),
        (["--by", "source"], "--by takes kind, lang"),
        (["--obfuscate", "pig-latin"], "--obfuscate takes all or one of zero_width"),
        (["--obfuscate", "all", "--by", "kind"], "--obfuscate excludes --by and --report"),
        (["--limit", "0"], "--limit"),
        (["--jobs", "0"], "--jobs"),
        (["--mode", "quick"], "--mode"),
        (["--models", "/nowhere"], "--models"),
        (["nowhere.jsonl"], "nowhere.jsonl: cannot be read: FileNotFoundError"),
    ],
)
def test_what_cannot_be_asked_for_is_a_usage_error(
    stub: StubDetector, rows: Path, arguments: list[str], reason: str
) -> None:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(vigil, ["evaluate", str(rows), *arguments])
    assert result.exit_code == 2
    assert reason in result.stderr
    assert stub.seen == []


def test_a_missing_matplotlib_is_told_before_anything_is_judged(
    stub: StubDetector, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_module, "find_spec", lambda _: None)
    result = evaluate(rows, "--report", tmp_path / "report")
    assert (result.exit_code, stub.seen) == (2, [])
    assert "pip install --group report" in result.stderr


def test_a_set_of_which_no_text_fits_is_refused(stub: StubDetector, tmp_path: Path) -> None:
    path = tmp_path / "short.jsonl"
    path.write_text('{"text": "short", "label": "attack"}')
    result = evaluate(path, "--obfuscate", "all")
    assert (result.exit_code, result.stderr) == (
        2,
        "vigil: no row has 20 to 400 characters, which the obfuscation set takes\n",
    )


def test_models_that_cannot_be_read_are_one_line(rows: Path, tmp_path: Path) -> None:
    result = evaluate(rows, "--models", tmp_path)
    assert result.exit_code == 1
    assert result.stderr.startswith("vigil: ")
    assert result.stderr.count("\n") == 1


def test_the_real_detector_is_measured_on_own_texts() -> None:
    paths = [ROOT / "data" / "detection" / f"{name}.jsonl" for name in ("direct_attacks", "everyday_benign")]
    found = json.loads(evaluate(*paths, "--limit", 6, "--jobs", 1, "-j", "-").stdout)
    totals = found["policies"][0]["totals"]
    assert (totals["files_with_attacks"], totals["files_with_benign"], totals["all_rows"]["rows"]) == (1, 1, 12)
    assert totals["all_rows"]["area"] > 0.8
    assert totals["all_rows"]["failed"] == 0
