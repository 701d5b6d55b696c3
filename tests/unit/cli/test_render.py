"""How values are shown: to people, to pipes, to programs."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO, TextIOWrapper

import pytest

from app.cli import render


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (10_000_000_000, "10.0 GB"),
        (10**15, "1000.0 TB"),
        (None, "unlimited"),
    ],
)
def test_sizes(count: int | None, shown: str) -> None:
    assert render.size(count) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0s"), (0.0421, "0.0421s"), (9.87, "9.87s"), (10.4, "10s"), (200, "3m20s"), (3600, "1h"), (187_200, "2d4h")],
)
def test_durations(seconds: float, shown: str) -> None:
    assert render.span(seconds) == shown


def test_a_pipe_gets_plain_columns_with_figures_on_the_right(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [("first", 1234, render.Figure("1 B"), None), ("2", 5, render.Figure("10 kB"), True)]
    render.table(("Name", "Count", "Size", "Set"), rows)
    assert capsys.readouterr().out.splitlines() == [
        "Name   Count   Size  Set",
        "first  1,234    1 B  -",
        "2          5  10 kB  yes",
    ]


def test_control_characters_are_shown_and_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    render.table(("A",), [("\x1b[31mred\n\u202e",)])
    render.say("\x9b2J zażółć")
    output = capsys.readouterr().out
    assert output.splitlines() == ["A", "\\x1b[31mred\\x0a\ufffd", "\\x9b2J zażółć"]


def test_json_writes_times_and_values_as_programs_read_them(capsys: pytest.CaptureFixture[str]) -> None:
    @dataclass(frozen=True, slots=True)
    class Row:
        at: datetime
        names: tuple[str, ...]

    render.emit([Row(datetime(2026, 3, 1, tzinfo=UTC), ("ż",))])
    render.emit_line({"row": Row(datetime(2026, 3, 1, tzinfo=UTC), ())})
    output = capsys.readouterr().out
    document, line = output.rsplit("\n", 2)[:2]
    assert json.loads(document) == [{"at": "2026-03-01T00:00:00Z", "names": ["ż"]}]
    assert json.loads(line) == {"row": {"at": "2026-03-01T00:00:00Z", "names": []}}


def test_json_holds_no_control_that_a_terminal_obeys(capsys: pytest.CaptureFixture[str]) -> None:
    render.emit_line({"header": "\x9b2J \x7f ż"})
    output = capsys.readouterr().out
    assert output == '{"header": "\\u009b2J \\u007f ż"}\n'
    assert json.loads(output) == {"header": "\x9b2J \x7f ż"}


@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1"])
def test_an_output_without_some_characters_gets_escapes(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = BytesIO()
    monkeypatch.setattr(sys, "stdout", TextIOWrapper(written, encoding=encoding))
    render.say("ż")
    render.table(("A",), [("█",)])
    render.emit_line(["é 😀"])
    sys.stdout.flush()
    said, *table, document = written.getvalue().decode(encoding).splitlines()
    assert (said, table) == ("\\u017c", ["A", "\\u2588"])
    assert json.loads(document) == ["é 😀"]


def test_a_progress_bar_is_silent_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    with render.progress("Replaying", 2) as step:
        step()
        step(1)
    assert capsys.readouterr() == ("", "")
