"""`vigil serve` starts the service as `make run` does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli.commands import vigil
from app.cli.serve import uvicorn_command
from app.settings import load_settings

ROOT = Path(__file__).parents[3]


def test_the_command_has_the_options_of_make_run() -> None:
    # The variables of a `make test` that runs this test are not those of the `make run` it asks about.
    outside = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKEOVERRIDES", "ARGS"}}
    printed = ["make", "--no-print-directory", "-n", "run"]
    made = subprocess.run(printed, cwd=ROOT, env=outside, capture_output=True, text=True, check=True).stdout
    options = made.replace("\\\n", " ").split("uvicorn app:main ")[1].split()
    command = uvicorn_command("127.0.0.1", 8000, 1, [])
    assert command[:4] == [sys.executable, "-m", "uvicorn", "app:main"]
    assert command[command.index("--host") :] == options


def test_workers_and_further_options_are_handed_on() -> None:
    command = uvicorn_command("::1", 9000, 2, ["--log-level", "debug"])
    assert command[-4:] == ["--workers", "2", "--log-level", "debug"]
    assert command[command.index("--app-dir") + 1] == str(ROOT)


def test_settings_that_cannot_be_used_are_told_before_any_process_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "execve", lambda *_: pytest.fail("started"))
    monkeypatch.setenv("VIGIL_HTTP__TIMOUT_S", "2")
    load_settings.cache_clear()
    try:
        refused = CliRunner().invoke(vigil, ["serve", "--workers", "2"])
    finally:
        load_settings.cache_clear()
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert refused.stderr.startswith("vigil: settings cannot be used: http.timout_s: ")
