"""Shows what a report holds: figures and places, plots that are pictures, and never a text."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.contracts import Mode
from app.errors import ConfigurationError
from app.evaluation import report as module
from app.evaluation.figures import By, Evaluation, PolicyFigures, Sample
from app.evaluation.measures import Share
from app.evaluation.report import HISTOGRAMS, PAGE, RELIABILITY, ROC, Report, most_wrong
from app.evaluation.tables import Grid, markdown, percents
from tests.unit.evaluation.stubs import judged, row, sample

SECRET = "kappa-omega-secret"
PNG = b"\x89PNG\r\n\x1a\n"
BOTH = sample(
    (row(SECRET, attack=True, kind="a|b"), judged(90, blocked=True)),
    (row(SECRET, attack=True), judged(20, blocked=False)),
    (row(SECRET, attack=True), judged(10, blocked=False)),
    (row(SECRET, attack=False), judged(60, blocked=True)),
    (row(SECRET, attack=False), judged(0, blocked=False)),
)


def report(found: Sample, *by: By) -> Report:
    return Report(Evaluation("stub-1", Mode.FAST, [PolicyFigures.of("balanced", 3, found, by)]), (found,), by)


def test_a_report_is_a_page_and_three_plots(tmp_path: Path) -> None:
    paths = report(BOTH, By.KIND).write(tmp_path / "new" / "folder")
    assert [path.name for path in paths] == [PAGE, ROC, RELIABILITY, HISTOGRAMS]
    assert all(path.read_bytes().startswith(PNG) for path in paths[1:])
    page = paths[0].read_text(encoding="utf-8")
    assert "Model stub-1, fast mode, policies: balanced (version 3)." in page
    assert "| balanced | file | 5 | 3 | 33.3 [6.1, 79.2] | 50.0 [9.5, 90.5] |" in page
    assert f"![roc]({ROC})" in page
    assert "## By kind" in page
    assert r"a\|b" in page
    assert SECRET not in page


def test_one_label_alone_has_no_roc_curve(tmp_path: Path) -> None:
    paths = report(sample((row(attack=True), judged(90, blocked=True)))).write(tmp_path)
    assert [path.name for path in paths] == [PAGE, RELIABILITY, HISTOGRAMS]
    assert "There is no ROC curve" in paths[0].read_text(encoding="utf-8")


def test_what_is_most_wrong_comes_first() -> None:
    assert [(line[0], line[-1]) for line in most_wrong(BOTH).rows] == [
        ("attack", "10"),
        ("attack", "20"),
        ("benign", "60"),
    ]


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="file: cannot be written to: FileExistsError"):
        report(BOTH).write(tmp_path / "file")


def test_missing_matplotlib_is_told_with_its_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(ConfigurationError, match="pip install --group report"):
        report(BOTH).write(tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_names_in_a_table_are_never_markup() -> None:
    grid = Grid(1, ("Name", "Share"), [("[a](http://b)|\n<i>", percents(Share.counted(1, 2)))])
    assert markdown(grid).splitlines()[2] == "| \\[a](http://b)\\|\ufffd\\<i> | 50.0 [9.5, 90.5] |"
    assert percents(None) == "-"
