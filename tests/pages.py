"""What the pages of docs/ show, for tests that run it: blocks by language, and calls with the answers they promise."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"^```(?P<language>[a-z]+)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Call:
    """A `curl` of a page and the JSON that stands below it."""

    path: str
    headers: dict[str, str]
    body: str
    answer: Any


def blocks(page: str, language: str) -> list[str]:
    """Return the blocks of one language of a page, which is named by its path under docs/."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return [found["text"] for found in BLOCK.finditer(text) if found["language"] == language]


def calls(page: str) -> list[Call]:
    """Return the calls of a page, in order."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = [(each["language"], each["text"]) for each in BLOCK.finditer(text)]
    return [
        _call(command, json.loads(answer))
        for (language, command), (of_answer, answer) in pairwise(found)
        if language == "console" and command.startswith("$ curl") and of_answer == "json"
    ]


def _call(command: str, answer: Any) -> Call:
    words = shlex.split(command.removeprefix("$ curl").replace("\\\n", " "))
    headers: dict[str, str] = {}
    body, address = "", ""
    while words:
        word = words.pop(0)
        if word == "-H":
            name, _, value = words.pop(0).partition(":")
            headers[name.strip()] = value.strip()
        elif word == "-d":
            body = words.pop(0)
        elif word != "-s":
            address = word
    return Call("/" + address.partition("/")[2], headers, body, answer)


def holds(answer: Any, promised: Any) -> bool:
    """Whether an answer has everything that a page promises; it may have further fields."""
    if isinstance(promised, dict):
        return isinstance(answer, dict) and all(
            name in answer and holds(answer[name], value) for name, value in promised.items()
        )
    if isinstance(promised, list):
        return (
            isinstance(answer, list)
            and len(answer) == len(promised)
            and all(holds(each, value) for each, value in zip(answer, promised, strict=True))
        )
    return bool(answer == promised)
