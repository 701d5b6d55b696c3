"""Policies as documents: the fingerprint, what differs, the schema, and the new fields' rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.arbiter.book import load_policies, load_policy
from app.arbiter.documents import (
    MAX_DOCUMENT_BYTES,
    Difference,
    UniqueKeyLoader,
    as_yaml,
    canonical_json,
    differences,
    parse_json,
    parse_policy,
    parse_yaml,
    pin_of,
    schema,
)
from app.errors import ConfigurationError, PolicyRefused
from app.settings import default_config_dir
from tests.unit.arbiter.jobs import boost, fields, policy

SHIPPED = load_policies(default_config_dir()).policies
RULE = {"rule": "r", "phrases": ["falcon"]}


@pytest.mark.parametrize("name", SHIPPED)
def test_a_policy_is_the_same_after_it_was_written_and_read(name: str) -> None:
    assert parse_json(canonical_json(SHIPPED[name])) == SHIPPED[name]
    assert parse_policy(parse_yaml(as_yaml(SHIPPED[name]), "x")) == SHIPPED[name]


def test_a_fingerprint_tells_contents_apart_and_not_how_defaults_are_written() -> None:
    written = policy(mode="full", all_degraded="block", branches={"heuristics": True})
    assert pin_of(written) == pin_of(policy())
    assert pin_of(policy(block_at=51)).fingerprint != pin_of(policy()).fingerprint
    assert pin_of(policy(version=2)).fingerprint != pin_of(policy()).fingerprint


def test_every_field_that_differs_is_listed_once() -> None:
    after = policy(boost("unanimous_high"), block_at=60, deny_list=[RULE], version=2)
    assert differences(policy(), after) == [
        Difference("version", "1", "2"),
        Difference("block_at", "50", "60"),
        Difference("deny_list.r.rule", "(absent)", '"r"'),
        Difference("deny_list.r.phrases", "(absent)", '["falcon"]'),
        Difference("boosts.unanimous_high.enabled", "(absent)", "true"),
        Difference("boosts.unanimous_high.raise_to", "(absent)", "90"),
        Difference("boosts.unanimous_high.name", "(absent)", '"unanimous_high"'),
    ]
    assert differences(after, after) == []


def test_boosts_in_another_order_differ() -> None:
    one, other = policy("semantic_similarity", "unanimous_high"), policy("unanimous_high", "semantic_similarity")
    assert differences(one, other) == [
        Difference("boosts", '["semantic_similarity", "unanimous_high"]', '["unanimous_high", "semantic_similarity"]')
    ]


@pytest.mark.parametrize(
    "text",
    [
        "? [a]\n: 1",
        "{{a: 1}: 2}",
        "since: 2026-99-99",
        "version: !!int one",
        "version: 0b_",
        'version: !!int ""',
        "redact: !!bool perhaps",
        "since: !!timestamp soon",
        "boosts: !!set [1]",
    ],
)
def test_yaml_that_stands_for_no_value_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^mine\.yaml: "):
        parse_yaml(text, "mine.yaml")


@pytest.mark.parametrize("number", ["1" + ":59" * 100_000, "1" + ":59" * 200 + ".5", "1:30", "!!int {=: 1:30}"])
def test_numbers_in_base_60_are_refused_by_their_line(number: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^mine\.yaml: line 2: a number in base 60 is not read$"):
        parse_yaml(f"name: mine\nversion: {number}\n", "mine.yaml")


def test_yaml_is_read_by_libyaml_which_bounds_its_depth() -> None:
    assert issubclass(UniqueKeyLoader, yaml.CSafeLoader)
    with pytest.raises(ConfigurationError, match=r"^mine\.yaml: line 1: exceeded maximum nesting depth$"):
        parse_yaml("[" * 2_000 + "]" * 2_000, "mine.yaml")


def test_the_schema_describes_every_field() -> None:
    described = schema()
    assert json.loads(json.dumps(described)) == described
    assert set(described["properties"]) == set(policy().model_dump())
    assert described["additionalProperties"] is False


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        ({"branches": {"heuristics": False, "semantic": False, "classifier": False}}, "branches", "at least one"),
        ({"branches": {"rules": False}}, "branches.rules", "not permitted"),
        ({"mode": "slow"}, "mode", "'fast' or 'full'"),
        ({"version": 202611281200}, "version", "less than or equal to 4294967295"),
        ({"on_timeout": "retry"}, "on_timeout", "'allow', 'block' or 'error'"),
        ({"deny_list": [RULE, RULE]}, "deny_list", "each rule at most once"),
        ({"deny_list": [{"rule": "Bad Name", "phrases": ["x y"]}]}, "deny_list.0.rule", "pattern"),
        ({"deny_list": [{"rule": "r", "phrases": []}]}, "deny_list.0.phrases", "at least 1"),
        ({"deny_list": [{"rule": "r", "phrases": ["x"]}]}, "deny_list.0.phrases.0", "at least 2"),
        ({"allow_list": {"phrases": ["x" * 257]}}, "allow_list.phrases.0", "at most 256"),
        ({"allow_list": {"words": ["xy"]}}, "allow_list.words", "not permitted"),
        (
            {"deny_list": [{"rule": f"r{n}", "phrases": [f"phrase {n} {m}" for m in range(300)]} for n in range(2)]},
            "deny_list",
            "at most 500",
        ),
    ],
)
def test_a_fault_is_named_with_its_field(changes: dict[str, Any], field: str, reason: str) -> None:
    with pytest.raises(PolicyRefused, match=reason) as caught:
        parse_policy(fields(**changes))
    assert caught.value.faults[0][0] == field


def test_a_file_that_is_too_large_is_refused_by_name_before_it_is_read_as_yaml(tmp_path: Path) -> None:
    largest = as_yaml(policy()).encode()
    file = tmp_path / "policies" / f"{policy().name}.yaml"
    file.parent.mkdir()
    file.write_bytes(largest + b"#" * (MAX_DOCUMENT_BYTES - len(largest)))
    assert load_policy(file) == policy()
    file.write_bytes(b"[" * MAX_DOCUMENT_BYTES + b"\xff")
    with pytest.raises(ConfigurationError) as caught:
        load_policies(tmp_path, policy().name)
    assert caught.value.message == f"{file}: is larger than 500000 bytes, the most that a policy may take"
    with pytest.raises(ConfigurationError, match=r"^standard input: is larger than 500000 bytes"):
        parse_yaml("é" * (MAX_DOCUMENT_BYTES // 2 + 1), "standard input")


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        ({"deny_list": [7] * 101}, "deny_list", "must have at most 100 items, not 101"),
        ({"deny_list": [RULE | {"phrases": [7] * 501}]}, "deny_list.0.phrases", "must have at most 500 items, not 501"),
        ({"allow_list": {"texts": [7] * 501}}, "allow_list.texts", "must have at most 500 items, not 501"),
        ({"boosts": [7] * 1_001}, "(document)", "has 1001 faults, too many to name"),
    ],
)
def test_what_is_too_many_is_refused_once(changes: dict[str, Any], field: str, reason: str) -> None:
    with pytest.raises(PolicyRefused) as caught:
        parse_policy(fields(**changes))
    assert caught.value.faults == ((field, reason),)
    assert caught.value.message == f"{field}: {reason}"


def test_a_document_that_is_too_large_or_too_deep_is_refused() -> None:
    with pytest.raises(PolicyRefused, match="at most 500000"):
        parse_json(b" " * (MAX_DOCUMENT_BYTES + 1))
    with pytest.raises(PolicyRefused, match="is not JSON"):
        parse_json(b"[" * 200_000)


@pytest.mark.parametrize(
    ("written", "instead", "field"),
    [
        ('"block_at":', '"block_at":5,"block_at":', "block_at"),
        ('"low_up_to":', '"low_up_to":5,"low_up_to":', "low_up_to"),
        ('"block_at":', '"no such\\nfield":1,"no such\\nfield":2,"block_at":', "(unnamed field)"),
        ('"version":', '"version":NaN,"other":', "(document)"),
    ],
)
def test_json_is_refused_that_hides_a_value_or_is_none(written: str, instead: str, field: str) -> None:
    document = canonical_json(SHIPPED["balanced"]).decode()
    assert written in document
    with pytest.raises(PolicyRefused) as caught:
        parse_json(document.replace(written, instead, 1).encode())
    assert [name for name, _ in caught.value.faults] == [field]
    assert "no such" not in caught.value.message


SECRET = "kappa omega <a@example.com>"
BOOSTS = (
    "'conservative_override', 'semantic_similarity', 'critical_heuristics', 'classifier_confidence', 'unanimous_high'"
)


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        ({SECRET: 1}, "(unnamed field)", "Extra inputs are not permitted"),
        ({"deny_list": [RULE | {SECRET: 1}]}, "deny_list.0.(unnamed field)", "Extra inputs are not permitted"),
        (
            {"redaction": {"entities": {SECRET: "paint"}}},
            "redaction.entities.(unnamed field).action",
            "Input should be 'replace', 'mask', 'hash', 'remove' or 'keep'",
        ),
        (
            {"boosts": [{"name": SECRET}]},
            "boosts.0",
            f"'name' does not match any of the expected tags: {BOOSTS}",
        ),
    ],
)
def test_an_error_repeats_no_words_of_the_document(changes: dict[str, Any], field: str, reason: str) -> None:
    with pytest.raises(PolicyRefused) as caught:
        parse_policy(fields(**changes))
    assert caught.value.faults == ((field, reason),)
    with pytest.raises(ConfigurationError, match=r"^mine\.yaml: line 2: \(unnamed field\) is given twice$"):
        parse_yaml(f'"{SECRET}": 1\n"{SECRET}": 2\n', "mine.yaml")


@pytest.mark.parametrize(("on_timeout", "open_"), [("allow", True), ("block", False), ("error", False)])
def test_only_allow_fails_open(on_timeout: str, open_: bool) -> None:
    assert policy(on_timeout=on_timeout).fail_open is open_
