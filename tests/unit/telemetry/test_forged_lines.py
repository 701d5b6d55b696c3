"""What strangers wrote cannot make a line of the log, change its colour or turn it around."""

from __future__ import annotations

import json
import logging

import pytest

from app.telemetry.logs import JsonLines, PlainLines, printable

FORGED = "vigil.guard.x\n2026-01-01 INFO vigil: all is well\r\x1b[2J\x9b1m\u2028\u202e\x00\ud800"


@pytest.mark.parametrize("format_", [PlainLines(), JsonLines()], ids=["plain", "json"])
def test_a_line_stays_one_line_of_printable_signs(format_: logging.Formatter) -> None:
    record = logging.LogRecord("vigil.x", logging.INFO, "", 0, "seen: %s", (FORGED,), None)
    record.subject = FORGED
    line = format_.format(record)
    assert len(line.splitlines()) == 1
    assert all(sign.isprintable() for sign in line)
    assert "zażółć – 日本" in printable("zażółć – 日本")


def test_json_lines_stay_json() -> None:
    record = logging.LogRecord("vigil.x", logging.INFO, "", 0, "seen: %s", (FORGED,), None)
    assert json.loads(JsonLines().format(record))["message"] == f"seen: {FORGED}"
