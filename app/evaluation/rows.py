"""Labelled texts from JSON Lines: read, checked, and cut to a sample that is the same each time."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from app.contracts import DEFAULT_TEXT_LIMIT, Source
from app.errors import InvalidRequest
from app.evaluation.documents import FEWEST_WORDS, passages

SEED: Final = 20_261_125
"""Chooses the rows of a limited file."""
REASONS: Final = {
    "missing": "is required",
    "literal_error": "must be attack or benign",
    "string_type": "must be a string",
    "string_too_long": f"must be at most {DEFAULT_TEXT_LIMIT:,} characters",
    "model_type": "must be a JSON object",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled text."""

    text: str
    attack: bool
    source: Source
    kind: str | None
    lang: str | None
    file: str
    """The file's name without suffix, or its path where two files have that name."""
    line: int
    """From 1."""


class _Line(BaseModel):
    """What a line holds; other fields are left out."""

    model_config = ConfigDict(frozen=True)

    text: Annotated[str, StringConstraints(max_length=DEFAULT_TEXT_LIMIT)]
    label: Literal["attack", "benign"]
    source: Any = None
    kind: str | None = None
    lang: str | None = None

    @field_validator("text")
    @classmethod
    def text_is_not_blank(cls, text: str) -> str:
        if not text or text.isspace():
            raise PydanticCustomError("text_blank", "must contain at least one character that is not white space")
        return text


def read_files(paths: Sequence[Path], source: Source | None = None, limit: int | None = None) -> list[Row]:
    """Return the rows of all files, in their order.

    Args:
        paths: the files; blank lines are skipped.
        source: judged as this, whatever a line says.
        limit: most rows of each file; SEED chooses them.

    Raises:
        InvalidRequest: a file cannot be read or holds no row, or a line does not fit; the message names file, line and
            field, and never repeats a value.
    """
    rows: list[Row] = []
    for path, name in zip(paths, names_of(paths), strict=True):
        found = read(path, name, source)
        if limit is not None and len(found) > limit:
            # The same places each time, in the file's order.
            chosen = random.Random(SEED).sample(range(len(found)), limit)  # noqa: S311 - a sample, not a secret
            found = [found[place] for place in sorted(chosen)]
        rows += found
    return rows


def of_documents(folder: Path, source: Source | None = None, limit: int | None = None) -> list[Row]:
    """Return passages of a folder's documents (see `app.evaluation.documents`) as harmless rows, a file for each
    collection.

    Raises:
        InvalidRequest: the folder holds no collection, or none of its files a passage.
    """
    try:
        found = passages(folder)
    except FileNotFoundError:
        raise InvalidRequest(f"{folder}: holds no folder with documents") from None
    if not found:
        raise InvalidRequest(f"{folder}: holds no text of {FEWEST_WORDS} words or more")
    rows: list[Row] = []
    for collection, parts in groupby(found, key=attrgetter("collection")):
        for number, part in enumerate(islice(parts, limit), 1):
            lang = "en" if part.is_english else None
            rows.append(Row(part.text, False, source or Source.INPUT, "document", lang, collection, number))
    return rows


def names_of(paths: Sequence[Path]) -> list[str]:
    """Return a short name for each file: without folder and suffix where no other file is called so."""
    count = Counter(path.stem for path in paths)
    return [path.stem if count[path.stem] == 1 else str(path) for path in paths]


def read(path: Path, name: str, source: Source | None) -> list[Row]:
    """Return the rows of one file; see `read_files`."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise InvalidRequest(f"{path}: cannot be read: {type(error).__name__}") from None
    rows = [_row(path, name, number, line, source) for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise InvalidRequest(f"{path}: holds no row")
    return rows


def _row(path: Path, name: str, number: int, raw: bytes, source: Source | None) -> Row:
    try:
        line = _Line.model_validate_json(raw)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        raise _refused(path, number, faults[0]) from None
    if source is None:
        try:
            source = Source.INPUT if line.source is None else Source(line.source)
        except ValueError:
            reason = "must be input, output or tool; one given for all rows takes the place of this field"
            raise _fault(path, number, "source", reason) from None
    return Row(line.text, line.label == "attack", source, line.kind, line.lang, name, number)


def _refused(path: Path, number: int, fault: Any) -> InvalidRequest:
    if fault["type"] == "json_invalid":
        return InvalidRequest(f"{path}: line {number}: is not valid JSON: {fault['ctx']['error']}")
    field = ".".join(map(str, fault["loc"])) or "row"
    return _fault(path, number, field, REASONS.get(fault["type"], fault["msg"]))


def _fault(path: Path, number: int, field: str, reason: str) -> InvalidRequest:
    return InvalidRequest(f"{path}: line {number}: {field}: {reason}", field=field)
