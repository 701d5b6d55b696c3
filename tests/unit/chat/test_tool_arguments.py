"""Arguments of tool calls: which texts they hold, where, and the same arguments with other texts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import JsonValue
from pydantic_core import PydanticCustomError

from app import tool_arguments
from app.tool_arguments import DEEPEST, MOST_TEXTS, argument_texts, with_argument_texts


def places(arguments: JsonValue) -> dict[str, str]:
    return {each.pointer: each.text for each in argument_texts(arguments)}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('{"to": "anna", "n": 1, "on": true, "no": null}', {"/to": "anna"}),
        ('{"a": {"b": ["x", {"c": "y"}, 3, "z"]}}', {"/a/b/0": "x", "/a/b/1/c": "y", "/a/b/3": "z"}),
        ('[["x"], "y"]', {"/0/0": "x", "/1": "y"}),
        ('{"a/b": "x", "m~n": "y", "": "z"}', {"/a~1b": "x", "/m~0n": "y", "/": "z"}),
        ('{"a": "say \\"hi, {you}: [now]\\"\\n\\u0041"}', {"/a": 'say "hi, {you}: [now]"\nA'}),
        ('{"a": " ", "b": ""}', {}),
        ('"only this"', {"": "only this"}),
        ("", {}),
        ("  ", {}),
        ("{}", {}),
        ('{"a": "x"', {"": '{"a": "x"'}),
        ("mail anna", {"": "mail anna"}),
        ("44051401359", {"": "44051401359"}),
        ('{"a": "line\nbreak", "n": NaN}', {"/a": "line\nbreak"}),
        ('{"a": "\\ud83d half"}', {"/a": "\ufffd half"}),
        ('{"n": 1' + "0" * 5000 + ', "a": "x"}', {"/a": "x"}),
        ({"to": ["anna", {"cc": "bob"}], "n": 1}, {"/to/0": "anna", "/to/1/cc": "bob"}),
        (["x", None, ["y"]], {"/0": "x", "/2/0": "y"}),
        (None, {}),
        (3, {}),
    ],
)
def test_strings_are_found_with_their_place(arguments: Any, expected: dict[str, str]) -> None:
    assert places(arguments) == expected


def test_both_values_of_a_repeated_key_are_read() -> None:
    """Which of them a tool takes is up to its parser."""
    found = argument_texts('{"to": "first", "to": "second"}')
    assert [(each.pointer, each.text) for each in found] == [("/to", "first"), ("/to", "second")]


@pytest.mark.parametrize(
    ("arguments", "texts", "expected"),
    [
        ('{ "to":"anna","n":1.10, "b" : "x"}', ["<P>", "x"], '{ "to":"<P>","n":1.10, "b" : "x"}'),
        ('{"a": "x", "a": "y"}', ["x", "<P>"], '{"a": "x", "a": "<P>"}'),
        ('{"a": "x", "big": 123456789012345678901234567890}', ['ż"\n'], None),
        ('{"a": "\\ud83d", "b": "y"}', ["\ufffd", "<P>"], '{"a": "\\ud83d", "b": "<P>"}'),
        ('"x"', ["<P>"], '"<P>"'),
        ("mail anna", ["mail <P>"], "mail <P>"),
        ({"to": ["anna", " ", 3], "b": "x"}, ["<P>", "y"], {"to": ["<P>", " ", 3], "b": "y"}),
    ],
)
def test_other_texts_take_their_places_and_all_else_stays(arguments: Any, texts: list[str], expected: Any) -> None:
    filled = with_argument_texts(arguments, texts)
    if expected is None:
        assert json.loads(str(filled)) == {"a": texts[0], "big": 123456789012345678901234567890}
    else:
        assert filled == expected


def test_whether_arguments_are_json_is_found_out_once_however_many_texts_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []
    is_json = tool_arguments._is_json
    monkeypatch.setattr(tool_arguments, "_is_json", lambda written: asked.append(1) or is_json(written))
    changed = with_argument_texts(json.dumps([f"text {number}" for number in range(50)]), ["x"] * 50)
    assert json.loads(str(changed)) == ["x"] * 50
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1), "deeper"),
        ("[" * 100_000 + "]" * 100_000, "deeper"),
        (json.dumps(["x"] * (MOST_TEXTS + 1)), "at most"),
        (["x"] * (MOST_TEXTS + 1), "at most"),
        (json.dumps({"k" * 600: "x"}), "names"),
        ({"k" * 600: "x"}, "names"),
        (json.loads("[" * (DEEPEST + 2) + "]" * (DEEPEST + 2)), "deeper"),
    ],
)
def test_what_no_tool_call_needs_is_refused(arguments: Any, reason: str) -> None:
    with pytest.raises(PydanticCustomError, match=reason):
        argument_texts(arguments)
