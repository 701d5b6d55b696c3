"""Logging of the process: plain lines for people or JSON lines for machines, never a guarded text."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Final

from app.settings import LogSettings

FIELDS: Final = ("request_id", "consumer", "subject", "outcome", "error", "deliveries")
"""Extra attributes that a log call may carry and both formats print."""


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update({name: str(getattr(record, name)) for name in FIELDS if hasattr(record, name)})
        if record.exc_info and record.exc_info[0]:
            line["exception"] = record.exc_info[0].__name__
        return json.dumps(line, ensure_ascii=False)


class PlainLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        extra = "".join(f" {name}={getattr(record, name)}" for name in FIELDS if hasattr(record, name))
        exception = f" exception={record.exc_info[0].__name__}" if record.exc_info and record.exc_info[0] else ""
        message = record.getMessage().replace("\n", "\\n")
        return f"{time} {record.levelname} {record.name}: {message}{extra}{exception}"


def configure(settings: LogSettings) -> None:
    """Send the `vigil` loggers to standard error; tracebacks are left out, since they can quote a text."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if settings.json_lines else PlainLines())
    logger = logging.getLogger("vigil")
    logger.handlers[:] = [handler]
    logger.setLevel(settings.level)
    logger.propagate = False
