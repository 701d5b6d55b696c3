"""`vigil feedback` where no service is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.cli.conftest import Declared, Vigil

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    "command",
    [
        ("events", "ls"),
        ("events", "show", "01a214a2-d5f1-7354-adeb-bb61793cf035"),
        ("stats",),
        ("feedback", "ls"),
        ("feedback", "export", "-"),
    ],
    ids=" ".join,
)
async def test_without_a_service_questions_to_the_event_log_are_exit_code_3(
    vigil: Vigil, declared: Declared, command: tuple[str, ...]
) -> None:
    told = await vigil(*command)
    assert (told.exit_code, told.stdout) == (3, "")
    assert told.stderr == "vigil: No service has the event log open.\n"


async def test_an_export_that_cannot_be_written_is_one_line_and_exit_code_2(
    vigil: Vigil, declared: Declared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(*_: object) -> list[object]:
        return []

    monkeypatch.setattr("app.cli.feedback.latest_of_each_text", nothing)
    told = await vigil("feedback", "export", str(tmp_path / "nowhere" / "reports.jsonl"))
    assert (told.exit_code, "cannot be written: FileNotFoundError" in told.stderr) == (2, True)
