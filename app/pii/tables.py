"""Tables in a text (CSV, TSV, Markdown, dumps of PostgreSQL, rows that SQL inserts): the header tells what the values
of a column are, as words before a value do."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from app.pii.reading import Reading

_LONGEST_HEADER: Final = 40
"""Code points of a column's header at most."""
_MOST_COLUMNS: Final = 200
_DELIMITER: Final = re.compile(r"[\t;|,]")
_HEADER: Final = re.compile(r"[^\W\d][\w .:#/()-]*")
_HEADERS: Final = re.compile(
    r"\n(?>[ ]*[\"'`*]*(?:[^\W\d][\w .:#/()-]{0,39})?[\"'`*]*[ ]*)"
    r"(?:[\t;|,](?>[ ]*[\"'`*]*(?:[^\W\d][\w .:#/()-]{0,39})?[\"'`*]*[ ]*))+\r?(?=\n)"
)
"""A line of cells that may be headers, told at a tenth of the cost of its parts; no part of it can be read twice."""
_COPIED: Final = re.compile(r"\nCOPY [^\s(]{1,200} ?\((?P<names>[^()\n]{1,4000})\) FROM stdin;\r?(?=\n)")
"""What PostgreSQL's dumps hold before the rows of a table, with tabs between their cells."""
_INSERTED: Final = re.compile(
    r"(?<![^\W_])(?:INSERT|REPLACE)(?:\s{1,8}[A-Z]{2,8}){0,2}\s{1,8}INTO\s{1,8}[^\s(]{1,200}\s{0,8}"
    r"\((?P<names>[^()]{1,4000})\)\s{0,8}VALUES\s{0,8}(?=\()",
    re.IGNORECASE,
)
_ROW: Final = re.compile(r"[,\s]{0,16}\(")
_LITERAL: Final = re.compile(
    r"\s{0,40}(?:[EN]?'(?P<said>(?>(?:[^'\\]|''|\\.)*))'|(?P<bare>(?>[^\s,()'][^,()']*))(?:\([^()]*\))?)"
    r"\s{0,40}(?P<end>[,)])",
    re.IGNORECASE | re.DOTALL,
)
"""A value of a row that SQL inserts, or a call that makes one."""
_QUOTES: Final = " \t\r\n\"'`[]"
"""What may stand around a column's name in SQL."""
_STATEMENTS: Final = ("insert into ", "replace into ")
"""What a line that looks like headers begins with where it is SQL."""
_RULE: Final = re.compile(r"[ :-]*-[ :-]*")
"""A cell of the line between the header and the rows of a Markdown table."""
_QUOTED: Final = {
    delimiter: re.compile(rf'(?:[ ]*"(?:[^"]|"")*"[^{delimiter}]*|[^{delimiter}]*)(?:{delimiter}|\Z)')
    for delimiter in ("\t", ";", r"\|", ",")
}
"""A cell as RFC 4180 has it: between quotation marks the delimiter is text."""
_AROUND: Final = " \t\r\"'`*"
"""What stands around the text of a cell."""


class Cell(NamedTuple):
    """Code point offsets of a cell's text, end exclusive, and the header of its column in small letters."""

    start: int
    end: int
    header: str
    headers: tuple[str, ...]
    """Those of all columns of its table."""


def cells_of(text: str) -> Sequence[Cell]:
    """Return the cells of all rows in order, headers and empty cells left out, in time linear in the text."""
    lines = list(_cells(text)) if "\n" in text else []
    rows = list(_inserted(text)) if "nto" in text or "NTO" in text else []
    return tuple(sorted([*lines, *rows], key=lambda cell: cell.start) if rows else lines)


def header_at(reading: Reading, place: int) -> str:
    """Return the header of the column in which a place stands; empty where there is none."""
    cell = cell_at(reading, place)
    return cell.header if cell is not None else ""


def cell_at(reading: Reading, place: int) -> Cell | None:
    """Return the cell in which a place stands."""
    last = bisect_right(reading.cell_starts, place) - 1
    return reading.cells[last] if last >= 0 and place < reading.cells[last].end else None


def cells_under(reading: Reading, headers: re.Pattern[str]) -> Iterator[Cell]:
    """Yield the cells of columns whose whole header a pattern matches; headers are in small letters, with a blank for
    each `_` and `-`."""
    told: dict[str, bool] = {}
    for cell in reading.cells:
        if cell.header not in told:
            told[cell.header] = headers.fullmatch(plain(cell.header)) is not None
        if told[cell.header]:
            yield cell


def is_beside(cell: Cell, headers: re.Pattern[str], known: dict[int, bool]) -> bool:
    """Whether a pattern matches the whole header of any column of a cell's table; `known` holds what was found out of
    each table so far."""
    table = id(cell.headers)
    if table not in known:
        known[table] = any(headers.fullmatch(plain(header)) for header in cell.headers)
    return known[table]


def plain(header: str) -> str:
    """Return a header with a blank for each `_` and `-`."""
    return header.replace("_", " ").replace("-", " ")


def _cells(text: str) -> Iterator[Cell]:
    read_to = 0
    for start in _header_lines(text):
        if start < read_to:
            continue
        end = text.find("\n", start)
        delimiter, headers = _header_of(text[start:end])
        while headers and end != -1:
            start, end = end + 1, text.find("\n", end + 1)
            line = text[start:end] if end != -1 else text[start:]
            spans = _split(line, delimiter)
            goes_on = end == -1 and 2 <= len(spans) < len(headers)  # As the last row of a stream so far.
            if len(spans) != len(headers) and not goes_on:
                break
            read_to = start + 1
            for (begin, stop), header in zip(spans, headers, strict=False):
                if header and begin < stop and not _RULE.fullmatch(line, begin, stop):
                    yield Cell(start + begin, start + stop, header, headers)


def _inserted(text: str) -> Iterator[Cell]:
    """Yield the values of rows that SQL inserts into columns that it names."""
    read_to = 0
    for match in _INSERTED.finditer(text):
        if match.start() < read_to:
            continue
        read_to = match.end()
        headers = tuple(name.strip(_QUOTES).lower() for name in match["names"].split(","))
        while len(headers) <= _MOST_COLUMNS and (row := _ROW.match(text, read_to)):
            values, read_to = _values(text, row.end())
            if len(values) != len(headers):
                break
            for (start, end), header in zip(values, headers, strict=True):
                if start < end:
                    yield Cell(start, end, header, headers)


def _values(text: str, place: int) -> tuple[list[tuple[int, int]], int]:
    """Return where the values of a row begin and end, and the end of the row, or of what could be read of it."""
    spans: list[tuple[int, int]] = []
    while literal := _LITERAL.match(text, place):
        start, end = literal.span("said" if literal["said"] is not None else "bare")
        spans.append((start, start + len(text[start:end].rstrip())))
        place = literal.end()
        if literal["end"] == ")":
            break
    return spans, place


def _header_lines(text: str) -> list[int]:
    """Return where lines begin, in order, that may hold headers and have a line behind them."""
    starts = [match.start() for match in _HEADERS.finditer(f"\n{text}")]
    if "COPY " in text:
        starts += (match.start() for match in _COPIED.finditer(f"\n{text}"))
        starts.sort()
    return starts


def _header_of(line: str) -> tuple[str, tuple[str, ...]]:
    """Return the delimiter and the headers that a line holds; none where they are no headers."""
    copied = _COPIED.match(f"\n{line}\n")
    if copied is not None:
        return "\t", tuple(name.strip(_AROUND).lower() for name in copied["names"].split(","))
    first = _DELIMITER.search(line)
    if first is None:
        return "", ()
    delimiter = "|" if line.lstrip().startswith("|") else first[0]
    headers = tuple(line[start:end].lower() for start, end in _split(line, delimiter))
    named = [header for header in headers if header]
    fit = (
        2 <= len(named) <= _MOST_COLUMNS
        and all(len(each) <= _LONGEST_HEADER and _HEADER.fullmatch(each) for each in named)
        and not named[0].startswith(_STATEMENTS)
    )
    return (delimiter, headers) if fit else ("", ())


def _split(line: str, delimiter: str) -> list[tuple[int, int]]:
    """Return where the text of each cell of a line begins and ends."""
    spans: list[tuple[int, int]] = []
    if '"' in line:
        pattern = _QUOTED[r"\|" if delimiter == "|" else delimiter]
        found = [match.span() for match in pattern.finditer(line)]
        ends = [end - (line[end - 1 : end] == delimiter and end > start) for start, end in found]
        starts = [start for start, _ in found]
        if len(found) > 1 and line and line[-1] != delimiter:
            starts, ends = starts[:-1], ends[:-1]  # The pattern matches nothing once more at the end of the line.
    else:
        starts, ends, start = [], [], 0
        for cell in line.split(delimiter):
            starts.append(start)
            ends.append(start + len(cell))
            start += len(cell) + 1
    for start, end in zip(starts, ends, strict=True):
        cell = line[start:end]
        begin = start + len(cell) - len(cell.lstrip(_AROUND))
        spans.append((begin, max(begin, start + len(cell.rstrip(_AROUND)))))
    return spans
