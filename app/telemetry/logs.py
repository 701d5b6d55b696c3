"""Logging of the process: plain lines for people or JSON lines for machines, never a guarded text.

Each line written while a request or delivery is worked on carries its request id and, where there is one, its trace.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from app.settings import LogSettings
from app.telemetry import correlation

FIELDS: Final = ("request_id", "trace_id", "consumer", "subject", "outcome", "error", "deliveries")
"""Extra attributes that a log call may carry and both formats print."""
SERVER_LOGGERS: Final = ("uvicorn", "uvicorn.access")
SERVER_FORMATTERS: Final = "uvicorn.logging"
"""Module of the formats that uvicorn uses when nobody gave it others."""
PATH_PLACES: Final = {"uvicorn.access": 2, "uvicorn.error": 1}
"""Position of the path among the arguments of uvicorn's lines on requests, and on WebSocket handshakes, which it
answers where another library brought the package `websockets` along."""
HANDSHAKE: Final = '"WebSocket %s"'
"""Stands in the format of those."""

TRACEBACK: Final = "Traceback (most recent call last):"
FRAME: Final = re.compile(r'^ +File "(.+)", line (\d+), in .*$', re.MULTILINE)
RAISED: Final = re.compile(r"^[A-Za-z_][\w.]*", re.MULTILINE)
"""The class below a traceback's frames: their lines are indented, and what follows it may quote a text."""

UNPRINTABLE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
)
"""Control characters, line separators, marks of writing direction, and halves of surrogate pairs."""


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **dict(_fields(record)),
        }
        if record.exc_info and record.exc_info[0]:
            line["exception"] = record.exc_info[0].__name__
        return printable(json.dumps(line, ensure_ascii=False))


class PlainLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        extra = "".join(f" {name}={value}" for name, value in _fields(record))
        exception = f" exception={record.exc_info[0].__name__}" if record.exc_info and record.exc_info[0] else ""
        return printable(f"{time} {record.levelname} {record.name}: {record.getMessage()}{extra}{exception}")


def printable(line: str) -> str:
    """Return a line with everything escaped that could end it, move a cursor or turn its reading direction."""
    return UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", line)


def configure(settings: LogSettings) -> None:
    """Give every logger of the process one format, the web server's included.

    Tracebacks are left out, since they can quote a text. Other libraries are heard from WARNING on. A logging
    configuration that an operator gave the web server stays as it is.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter := JsonLines() if settings.json_lines else PlainLines())
    logger = logging.getLogger("vigil")
    logger.handlers[:] = [handler]
    logger.setLevel(settings.level)
    logger.propagate = False
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(handler)
    for name in SERVER_LOGGERS:
        for server_handler in logging.getLogger(name).handlers:
            if type(server_handler.formatter).__module__ == SERVER_FORMATTERS:
                server_handler.setFormatter(formatter)
    for name in PATH_PLACES:
        server = logging.getLogger(name)
        for cut in (_without_query, _without_traceback):
            if cut not in server.filters:
                server.addFilter(cut)


def _fields(record: logging.LogRecord) -> Iterator[tuple[str, str]]:
    """Return the fields of a line: those of the call, and for the rest what is being worked on."""
    work = correlation.current()
    for name in FIELDS:
        value = getattr(record, name) if hasattr(record, name) else getattr(work, name, None)
        if value is not None and value != "":
            yield name, str(value)


def _without_query(record: logging.LogRecord) -> bool:
    """Cut the query off the path of a line on a request: whatever a caller writes there may be a text."""
    place = PATH_PLACES[record.name]
    told = record.name == "uvicorn.access" or HANDSHAKE in str(record.msg)
    if told and isinstance(record.args, tuple) and len(record.args) > place:
        path = str(record.args[place]).partition("?")[0]
        record.args = (*record.args[:place], path, *record.args[place + 1 :])
    return True


def _without_traceback(record: logging.LogRecord) -> bool:
    """Leave class and place of a traceback that the web server logs as a line, as it does when a start fails."""
    told = str(record.msg)
    if TRACEBACK in told:
        frames = list(FRAME.finditer(told))
        raised = RAISED.search(told, frames[-1].end()) if frames else None
        place = f" at {frames[-1][1]}:{frames[-1][2]}" if frames else ""
        record.msg, record.args = f"{raised[0] if raised else 'an error'}{place}", None
    return True
