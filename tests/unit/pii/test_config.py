"""A configuration that cannot be used stops the start and names its field."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.errors import ConfigurationError
from app.pii.assembly import named_for, shaped_for
from app.pii.config import read_names, read_pii_config
from app.pii.engine import PiiEngine
from app.pii.given_names import GivenNames
from app.pii.recognizers.pl_regon import RegonRecognizer
from app.settings import default_config_dir


def changed(tmp_path: Path, *keys: str, value: Any) -> Path:
    content = yaml.safe_load((default_config_dir() / "pii.yaml").read_text(encoding="utf-8"))
    section = content
    for key in keys[:-1]:
        section = section[key]
    section[keys[-1]] = value
    (tmp_path / "pii.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return tmp_path


def test_shipped_configuration_fits_and_leaves_out_companies() -> None:
    config = read_pii_config(default_config_dir())
    assert {"PERSON", "PL_PESEL", "EMAIL_ADDRESS"} <= set(config.entities)
    assert "ORGANIZATION" not in config.entities
    assert read_names(default_config_dir()).english


@pytest.mark.parametrize(
    ("keys", "value", "field"),
    [
        (("entities", "PERSON", "threshold"), 1.5, "entities.PERSON.threshold"),
        (("entities", "PL_PESLE"), {"threshold": 0.5}, "entities.PL_PESLE"),
        (("tagger", "sub_words"), -1, "tagger.sub_words"),
        (("tagger", "at_least", "ORGANIZATION"), 0.5, "tagger.at_least.ORGANIZATION"),
        (("phone_regions",), {"en": ["US"]}, "phone_regions"),
        (("entities",), {"PERSON": {"threshold": 0.5, "languages": ["en"]}}, "entities"),
        (("entities", "PERSON", "languages"), [], "entities.PERSON.languages"),
        (("entities", "PL_NIP", "context"), {"de": ["steuer"]}, "entities.PL_NIP.context"),
        (("surprise",), 1, "surprise"),
    ],
)
def test_wrong_value_names_its_field(tmp_path: Path, keys: tuple[str, ...], value: Any, field: str) -> None:
    with pytest.raises(ConfigurationError, match=field) as raised:
        read_pii_config(changed(tmp_path, *keys, value=value))
    assert raised.value.field is not None
    assert raised.value.field.startswith(field)


def looked_for(config_dir: Path, language: str) -> set[str]:
    names = GivenNames(read_names(default_config_dir()))
    config = read_pii_config(config_dir)
    recognizers = [*named_for(language, config, names, in_parts=False), *shaped_for(language, config)]
    return {entity for recognizer in recognizers for entity in recognizer.supported_entities}


def test_every_entity_of_the_shipped_configuration_has_a_recognizer_in_both_languages() -> None:
    entities = set(read_pii_config(default_config_dir()).entities)
    assert looked_for(default_config_dir(), "en") == entities == looked_for(default_config_dir(), "pl")


def test_entity_that_is_not_enabled_is_not_looked_for(tmp_path: Path) -> None:
    folder = changed(tmp_path, "entities", "US_SSN", value={"threshold": 0.5, "enabled": False})
    assert "US_SSN" not in looked_for(folder, "en") | looked_for(folder, "pl")


def test_entity_is_looked_for_in_its_languages_alone(tmp_path: Path) -> None:
    folder = changed(tmp_path, "entities", "PERSON", value={"threshold": 0.5, "languages": ["pl"]})
    assert "PERSON" in looked_for(folder, "pl") - looked_for(folder, "en")


def test_entity_that_needs_context_words_and_has_none_is_named(tmp_path: Path) -> None:
    folder = changed(tmp_path, "entities", "PL_REGON", "context", value={})
    with pytest.raises(ConfigurationError, match=r"entities\.PL_REGON\.context"):
        looked_for(folder, "en")


def test_context_words_come_from_the_configuration(tmp_path: Path) -> None:
    folder = changed(tmp_path, "entities", "PL_REGON", "context", value={"en": ["company no$"]})
    config = read_pii_config(folder)
    recognizer = RegonRecognizer("en", config.entities["PL_REGON"].words)
    scores = [recognizer.analyze(f"{word} 262726484", [])[0].score for word in ("Company No", "company node", "REGON")]
    assert [score > 0.5 for score in scores] == [True, False, False]


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"pii\.yaml"):
        read_pii_config(tmp_path)


def test_broken_yaml_is_named(tmp_path: Path) -> None:
    (tmp_path / "pii.yaml").write_text("entities: [", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="not valid YAML"):
        read_pii_config(tmp_path)


def test_in_a_text_that_goes_on_half_the_probability_is_enough(tmp_path: Path) -> None:
    folder = changed(tmp_path, "tagger", "at_least", "LOCATION", value=0.99)
    shutil.copy(default_config_dir() / "pii_names.yaml", folder)
    engine = PiiEngine.load(config_dir=folder)
    assert engine.find("I live in Leeds.", "en", [])[0] == []
    assert [span.entity for span in engine.for_parts().find("I live in Leeds.", "en", [])[0]] == ["LOCATION"]
