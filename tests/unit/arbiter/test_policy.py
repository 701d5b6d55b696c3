"""Policy files: the shipped ones load and mean what DESIGN says; a bad one is refused with its file and field named."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.arbiter.book import load_policies
from app.arbiter.decide import decide
from app.contracts import Category, Verdict
from app.errors import ConfigurationError, InvalidRequest
from app.redaction import REPLACE_ALL
from app.settings import DetectionSettings, default_config_dir
from tests.unit.arbiter.jobs import BOOSTS, FAILED_SCAN, boost, even, fields, job

SHIPPED = load_policies(default_config_dir(), DetectionSettings().default_policy)


def folder(tmp_path: Path, *files: dict[str, Any], text: str | None = None, name: str = "test.yaml") -> Path:
    (tmp_path / "policies").mkdir()
    for content in files:
        (tmp_path / "policies" / f"{content['name']}.yaml").write_text(yaml.safe_dump(content))
    if text is not None:
        (tmp_path / "policies" / name).write_text(text)
    return tmp_path


def test_shipped_policies_load() -> None:
    assert SHIPPED.names == ["balanced", "permissive", "strict"]
    assert SHIPPED.get() is SHIPPED.get("balanced") is SHIPPED.get(None)


def test_what_a_shipped_policy_says_has_a_version_of_its_own() -> None:
    """Rows and metrics tell versions by their number alone: who changes a file raises `version`, and here."""
    found = {}
    for file in (default_config_dir() / "policies").glob("*.yaml"):
        content = yaml.safe_load(file.read_text())
        version = content.pop("version")
        found[file.stem] = (version, hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16])
    assert found == {
        "balanced": (6, "4a803caa25a902e3"),
        "permissive": (6, "a30f6c655b7fcfd6"),
        "strict": (3, "fa449d18efa16241"),
    }


def test_balanced_holds_the_designs_weights_levels_and_boosts() -> None:
    balanced = SHIPPED.get("balanced")
    weights = balanced.weights
    assert (weights.heuristics, weights.semantic, weights.classifier) == (0.30, 0.35, 0.35)
    assert (balanced.levels.low_up_to, balanced.levels.medium_up_to, balanced.block_at) == (30, 65, 32)
    assert (balanced.degraded_factor, balanced.all_degraded) == (0.1, "block")
    assert [(entry.name, entry.raise_to, entry.enabled) for entry in balanced.boosts] == [
        (name, parameters["raise_to"], True) for name, parameters in BOOSTS.items()
    ]


def test_strict_blocks_earlier_and_permissive_later() -> None:
    first_blocked = {
        name: next(n for n in range(101) if decide(job(even(n)), SHIPPED.get(name)).verdict is Verdict.BLOCKED)
        for name in SHIPPED.names
    }
    assert first_blocked["strict"] < first_blocked["balanced"] < first_blocked["permissive"]


@pytest.mark.parametrize(
    ("name", "failed_scan", "harmful"),
    [
        ("strict", Verdict.BLOCKED, Verdict.BLOCKED),
        ("balanced", Verdict.BLOCKED, Verdict.ALLOWED),
        ("permissive", Verdict.ALLOWED, Verdict.ALLOWED),
    ],
)
def test_shipped_policies_on_failed_scans_and_harmful_content(
    name: str, failed_scan: Verdict, harmful: Verdict
) -> None:
    assert decide(job(pii=FAILED_SCAN), SHIPPED.get(name)).verdict is failed_scan
    assert decide(job(categories=[Category.HARMFUL_CONTENT]), SHIPPED.get(name)).verdict is harmful
    assert decide(job({}), SHIPPED.get(name)).verdict is Verdict.BLOCKED


def test_unknown_policy_is_an_invalid_request_that_lists_the_known_ones() -> None:
    with pytest.raises(InvalidRequest, match="balanced, permissive, strict") as caught:
        SHIPPED.get("lenient")
    assert caught.value.field == "policy"
    assert "lenient" not in caught.value.message


def test_omitted_settings_fail_secure(tmp_path: Path) -> None:
    loaded = load_policies(folder(tmp_path, fields()), "test").get()
    assert (loaded.all_degraded, loaded.pii_degraded, loaded.redact) == ("block", "block", True)
    assert (loaded.harmful_content, loaded.boosts) == ("none", ())


LEVELS_60_40 = {"low_up_to": 60, "medium_up_to": 40}
WEIGHTS = {"heuristics": 0.3, "semantic": 0.35, "classifier": 0.35}


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        ({"colour": "red"}, "colour", "not permitted"),
        ({"block_at": 101}, "block_at", "less than or equal to 100"),
        ({"block_at": True}, "block_at", "integer"),
        ({"block_at": "50"}, "block_at", "integer"),
        ({"block_at": 30}, "block_at", "above levels.low_up_to"),
        ({"levels": LEVELS_60_40}, "levels.medium_up_to", "above low_up_to"),
        ({"weights": {**WEIGHTS, "semantic": 3.5}}, "weights.semantic", "less than 1"),
        ({"weights": {**WEIGHTS, "semantic": 0.53}}, "weights", "must add up to 1, not 1.18"),
        ({"weights": {"heuristics": 0.5, "semantic": 0.5}}, "weights.classifier", "required"),
        ({"weights": {**WEIGHTS, "semantic": float("nan")}}, "weights.semantic", "finite"),
        ({"degraded_factor": -0.1}, "degraded_factor", "greater than or equal to 0"),
        ({"all_degraded": "maybe"}, "all_degraded", "'block' or 'allow'"),
        ({"pii_degraded": "none"}, "pii_degraded", "'block' or 'allow'"),
        ({"harmful_content": "redact"}, "harmful_content", "'none' or 'block'"),
        ({"redact": "yes"}, "redact", "boolean"),
        (
            {"redaction": {"default": "blur"}},
            "redaction.default.action",
            "'replace', 'mask', 'hash', 'remove' or 'keep'",
        ),
        (
            {"redaction": {"entities": {"URL": {"action": "hash", "keep_last": 4}}}},
            "redaction.entities.URL",
            "only with",
        ),
        (
            {"redaction": {"entities": {"URL": {"action": "mask", "keep_last": -1}}}},
            "redaction.entities.URL.keep_last",
            "greater than or equal to 0",
        ),
        ({"redaction": {"PERSON": "keep"}}, "redaction.PERSON", "not permitted"),
        ({"version": 0}, "version", "greater than or equal to 1"),
        ({"description": ""}, "description", "at least 1"),
        ({"boosts": [{"name": "luck", "raise_to": 70}]}, "boosts.0", "does not match any of the expected tags"),
        (
            {"boosts": [boost("semantic_similarity", at_least=101)]},
            "boosts.0.semantic_similarity.at_least",
            "less than or equal to 100",
        ),
        (
            {"boosts": [boost("classifier_confidence", confidence_over=90)]},
            "boosts.0.classifier_confidence.confidence_over",
            "less than or equal to 1",
        ),
        (
            {"boosts": [boost("unanimous_high"), boost("unanimous_high", below=3)]},
            "boosts.1.unanimous_high.below",
            "not permitted",
        ),
        ({"boosts": [boost("unanimous_high")] * 2}, "boosts", "at most once"),
        ({"boosts": [boost("conservative_override", below=40)]}, "boosts", "conservative_override.below"),
    ],
)
def test_bad_file_is_refused_with_file_and_field_named(
    tmp_path: Path, changes: dict[str, Any], field: str, reason: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_policies(folder(tmp_path, fields(**changes)), "test")
    assert caught.value.field == field
    assert f"policies/test.yaml: {field}: " in caught.value.message
    assert reason in caught.value.message


def test_an_action_is_written_in_a_word_or_with_its_number(tmp_path: Path) -> None:
    redaction = {"default": "hash", "entities": {"CREDIT_CARD": {"action": "mask", "keep_last": 4}, "PERSON": "keep"}}
    table = load_policies(folder(tmp_path, fields(redaction=redaction)), "test").get().redaction
    assert (table.of("CREDIT_CARD").action, table.of("CREDIT_CARD").keep_last) == ("mask", 4)
    assert (table.of("PERSON").action, table.of("URL").action) == ("keep", "hash")


def test_shipped_policies_replace_everything_but_places_dates_ages_and_groups() -> None:
    assert SHIPPED.get("strict").redaction == REPLACE_ALL
    for name in ("balanced", "permissive"):
        table = SHIPPED.get(name).redaction
        assert table.default == REPLACE_ALL.default
        kept = {entity for entity in table.entities if table.of(entity).action == "keep"}
        assert kept == set(table.entities) == {"LOCATION", "DATE_TIME", "AGE", "NRP"}


def test_every_fault_of_a_file_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"version: .*; block_at: "):
        load_policies(folder(tmp_path, fields(version=0, block_at=0)), "test")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("block_at: 50\nblock_at: 90\n", "line 2: block_at is given twice"),
        ("name: [\n", "line 2: "),
        ("- name\n", r"\(document\): "),
        ("", r"\(document\): "),
        ("name: !!python/object:os.system x\n", "line 1: "),
        ("name: \x00\n", "cannot be read as YAML"),
    ],
)
def test_file_that_is_no_policy_at_all_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"test\.yaml: {reason}"):
        load_policies(folder(tmp_path, text=text), "test")


def test_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (folder(tmp_path) / "policies" / "test.yaml").write_bytes(b"name: \xff\n")
    with pytest.raises(ConfigurationError, match=r"test\.yaml: cannot be read as YAML"):
        load_policies(tmp_path, "test")


def test_name_must_be_the_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"other\.yaml: name: must be the file's name, other"):
        load_policies(folder(tmp_path, text=yaml.safe_dump(fields()), name="other.yaml"), "test")


def test_one_policy_in_two_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"test\.yml: name: another file"):
        load_policies(folder(tmp_path, fields(), text=yaml.safe_dump(fields()), name="test.yml"), "test")


def test_missing_default_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="the default policy balanced is missing; found: test"):
        load_policies(folder(tmp_path, fields()))
    with pytest.raises(ConfigurationError, match="found: none"):
        load_policies(tmp_path / "nowhere")


def test_policies_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        SHIPPED.get().block_at = 99  # type: ignore[misc]
