"""The page about chats and streams: every command of it is run, and answers as it says."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.running_service import RunningService

pytestmark = pytest.mark.integration

PAGE = Path(__file__).parents[3] / "docs" / "chat-and-streaming.md"
EXAMPLE = re.compile(r"```console\n\$ (?P<command>.*?)```\n\n```json\n(?P<answer>.*?)```", re.DOTALL)
EXAMPLES = [(found["command"], found["answer"]) for found in EXAMPLE.finditer(PAGE.read_text(encoding="utf-8"))]


def documents(written: str) -> list[Any]:
    """Return the JSON documents that follow each other in a text."""
    decoder, found, place = json.JSONDecoder(), [], 0
    while place < len(written.rstrip()):
        document, place = decoder.raw_decode(written, place)
        found.append(document)
        place += len(written[place:]) - len(written[place:].lstrip())
    return found


def assert_says(shown: Any, said: Any) -> None:
    """What the page shows of an answer is what it says; it may say more."""
    if isinstance(shown, dict):
        for name, value in shown.items():
            assert_says(value, said[name])
    elif isinstance(shown, list):
        assert len(shown) == len(said)
        for each, other in zip(shown, said, strict=True):
            assert_says(each, other)
    else:
        assert shown == said


def test_the_page_has_examples() -> None:
    assert len(EXAMPLES) == 3


@pytest.mark.parametrize(("command", "answer"), EXAMPLES)
def test_an_example_answers_as_the_page_says(command: str, answer: str, service: RunningService) -> None:
    local = command.replace("localhost:8000", f"127.0.0.1:{service.port}")
    said = subprocess.run(["bash", "-c", local], capture_output=True, text=True, check=True, timeout=60).stdout
    assert_says(documents(answer), documents(said))
