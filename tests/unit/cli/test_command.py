"""What all commands share: durations, times, exit codes, help."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from app.cli.command import Exit, duration, failed, moment, text_of
from app.cli.commands import vigil
from app.errors import (
    ConfigurationError,
    EventLogUnavailable,
    InvalidRequest,
    MessagingUnavailable,
    PolicyUnreadable,
    QueryTimeout,
    ServerRefusal,
    UnknownResource,
    VigilError,
)
from app.identity import now
from app.settings import load_settings

COMMANDS = (
    *(("streams", name) for name in ("ls", "info", "apply", "report")),
    *(("consumers", name) for name in ("ls", "info", "report")),
    *(("dlq", name) for name in ("ls", "show", "replay", "purge", "stats")),
    *((name,) for name in ("watch", "guard", "doctor", "evaluate", "serve")),
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("15m", 900), ("1h30m", 5400), ("7d", 604_800), ("2w", 1_209_600), ("0.5s", 0.5)],
)
def test_durations_are_read_as_natscli_reads_them(text: str, seconds: float) -> None:
    assert duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "5", "h", "1x", "-1h", "1 h", "1h x", "9" * 400 + "s", "99999999999w"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        duration(text)
    with pytest.raises(typer.BadParameter):
        moment(text)


@pytest.mark.parametrize("text", ["999999d", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"])
def test_a_moment_beyond_the_calendar_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        moment(text)


@pytest.mark.parametrize("subject", ["", "vigil. guard"])
def test_what_is_no_subject_is_a_usage_error(subject: str) -> None:
    assert CliRunner().invoke(vigil, ["watch", subject]).exit_code == Exit.USAGE


def test_a_text_is_read_to_the_character(tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_bytes("zażółć\r\nb\rc\n".encode())
    assert text_of(file) == "zażółć\r\nb\rc\n"
    file.write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match="cannot be read as UTF-8"):
        text_of(file)


def test_a_moment_is_an_age_or_a_time() -> None:
    assert timedelta(minutes=59) < now() - moment("1h") < timedelta(minutes=61)
    assert moment("2026-03-01T10:00:00+02:00") == datetime(2026, 3, 1, 8, tzinfo=UTC)
    assert moment("2026-03-01") == datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MessagingUnavailable(), Exit.UNREACHABLE),
        (EventLogUnavailable(), Exit.UNREACHABLE),
        (QueryTimeout(), Exit.PROBLEM),
        (ConfigurationError(), Exit.USAGE),
        (InvalidRequest(), Exit.USAGE),
        (PolicyUnreadable(), Exit.PROBLEM),
        (UnknownResource(), Exit.PROBLEM),
        (ServerRefusal(), Exit.PROBLEM),
        (VigilError(), Exit.PROBLEM),
    ],
)
def test_each_error_has_its_exit_code(error: VigilError, code: Exit, capsys: pytest.CaptureFixture[str]) -> None:
    assert failed(error).exit_code == code
    assert capsys.readouterr().err == f"vigil: {error.message}\n"


def test_control_characters_of_an_error_are_shown_and_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    failed(ServerRefusal("no \x1b]0;title\x07 such\r\n stream"))
    assert capsys.readouterr().err == "vigil: no \\x1b]0;title\\x07 such\\x0d\\x0a stream\n"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_examples_and_natscli_s_flags(command: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(vigil, [*command, "-h"])
    assert shown.exit_code == 0
    assert "Examples:" in shown.stdout
    assert f"vigil {' '.join(command)}" in shown.stdout
    assert command == ("evaluate",) or "-s, --server" in shown.stdout
    assert command == ("serve",) or "-j, --json" in shown.stdout


def test_without_a_command_the_help_is_shown_and_a_wrong_one_is_a_usage_error() -> None:
    assert "doctor" in CliRunner().invoke(vigil, []).output
    assert CliRunner().invoke(vigil, ["nonsense"]).exit_code == 2
    assert CliRunner().invoke(vigil, ["dlq", "ls", "--since", "soon"]).exit_code == 2


def test_settings_that_cannot_be_used_are_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VIGIL_CONFIG", str(tmp_path / "missing.yaml"))
    load_settings.cache_clear()
    result = CliRunner().invoke(vigil, ["streams", "ls"])
    load_settings.cache_clear()
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("vigil: VIGIL_CONFIG names a file that does not exist")


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (("keys", "create", "--name", "chat"), "--expires-in"),
        (("keys", "set", "k"), "--expires-in"),
        (("keys", "rotate", "k"), "--grace"),
        (("stats",), "--bucket"),
        (("doctor",), "--max-lag"),
    ],
)
def test_a_duration_that_is_none_is_refused_by_the_name_of_its_option(command: tuple[str, ...], option: str) -> None:
    refused = CliRunner().invoke(vigil, [*command, option, "5"])
    assert refused.exit_code == 2
    assert f"Invalid value for '{option}': '5' is no duration" in refused.stderr
