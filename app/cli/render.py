"""How the command shows things: tables for people, plain columns for pipes, JSON for programs."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, Final

from pydantic_core import to_jsonable_python
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from app.identity import now

UNITS: Final = ("B", "kB", "MB", "GB", "TB")
CONTROLS: Final = re.compile("[\x7f-\x9f]")
COLOURS: Final = {"ok": "green", "warning": "yellow", "failure": "red"}


def emit(value: Any) -> None:
    """Print one JSON document: dataclasses as objects, times as ISO 8601 in UTC."""
    _write(_json(value, indent=2))


def emit_line(value: Any) -> None:
    """Print one JSON document on one line."""
    _write(_json(value))
    sys.stdout.flush()


def say(text: str = "") -> None:
    """Print a line for people."""
    _write(printable(text))


def note(text: str) -> None:
    """Print a line beside the output, on standard error."""
    sys.stderr.write(printable(text) + "\n")
    sys.stderr.flush()


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str | None = None) -> None:
    """Print a table; numbers stand on the right. Where nobody looks at a terminal: columns, and no lines or colours."""
    cells = [[_shown(printable(_cell(value))) for value in row] for row in rows]
    numeric = [bool(rows) and all(_is_figure(row[index]) for row in rows) for index in range(len(columns))]
    console = Console(file=sys.stdout)
    if not console.is_terminal:
        _columns(columns, cells, numeric)
        return
    drawn = Table(title=title, box=box.ROUNDED, title_justify="left")
    for name, right in zip(columns, numeric, strict=True):
        drawn.add_column(name, justify="right" if right else "left", overflow="fold")
    for row in cells:
        drawn.add_row(*(Text(cell, style=COLOURS.get(cell, "")) for cell in row))
    console.print(drawn)


def facts(pairs: Sequence[tuple[str, object]]) -> None:
    """Print names and values, one pair a line."""
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        say(f"{name:>{width}}: {_cell(value)}")


@contextmanager
def progress(label: str, total: int | None) -> Iterator[Any]:
    """Show a bar on standard error while something long goes on; nothing where that is no terminal.

    Gives a function that is called with the number of steps done since the last call.
    """
    console = Console(file=sys.stderr)
    parts = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*parts, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(label, total=total)
        yield lambda steps=1: bar.advance(task, steps)


def printable(text: str) -> str:
    """Make what strangers wrote safe for a terminal: control characters are shown, not obeyed."""
    return "".join(
        character if character.isprintable() else f"\\x{ord(character):02x}" if ord(character) < 256 else "\ufffd"
        for character in text
    )


def size(count: int | None) -> str:
    """Return a number of bytes for people, in decimal units; None is unlimited."""
    if count is None:
        return "unlimited"
    amount, unit = float(count), UNITS[0]
    for unit in UNITS:
        if amount < 1000 or unit == UNITS[-1]:
            break
        amount /= 1000
    return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"


def span(seconds: float | timedelta) -> str:
    """Return a duration for people, as 0.4s, 12s, 3m20s or 2d4h."""
    left = seconds.total_seconds() if isinstance(seconds, timedelta) else seconds
    if left < 10:
        return f"{left:.3g}s"
    whole = round(left)
    parts = [(whole // 86_400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "m"), (whole % 60, "s")]
    said = [f"{amount}{unit}" for amount, unit in parts if amount]
    return "".join(said[:2]) or "0s"


def ago(moment: datetime | None) -> str:
    """Return how long ago something was; `never` for None."""
    return "never" if moment is None else f"{span(max(0.0, (now() - moment).total_seconds()))} ago"


def clock(moment: datetime) -> str:
    """Return a time to the second, in UTC."""
    return moment.strftime("%Y-%m-%d %H:%M:%SZ")


class Figure(str):
    """A number with its unit, which stands on the right."""

    __slots__ = ()


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, datetime):
        return clock(value)
    return str(value)


def _is_figure(value: object) -> bool:
    return isinstance(value, int | float | Figure) and not isinstance(value, bool)


def _columns(columns: Sequence[str], cells: list[list[str]], numeric: list[bool]) -> None:
    widths = [max(len(row[index]) for row in [list(columns), *cells]) for index in range(len(columns))]
    for row in [list(columns), *cells]:
        fitted = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        )
        _write("  ".join(fitted).rstrip())


def _json(value: Any, indent: int | None = None) -> str:
    """Return JSON in characters that the output has; controls that JSON leaves as they are, terminals obey."""
    document = json.dumps(to_jsonable_python(value), ensure_ascii=False, indent=indent)
    if _shown(document) != document:
        document = json.dumps(to_jsonable_python(value), indent=indent)
    return CONTROLS.sub(lambda control: f"\\u{ord(control[0]):04x}", document)


def _shown(text: str) -> str:
    """Return a text with an escape for each character that the output does not have."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _write(line: str) -> None:
    sys.stdout.write(_shown(line) + "\n")
