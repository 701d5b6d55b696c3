"""A configuration that cannot be used stops the start and names its field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from app.errors import ConfigurationError
from app.pii.config import read_names, read_pii_config
from app.settings import default_config_dir


def changed(tmp_path: Path, *keys: str, value: Any) -> Path:
    content = yaml.safe_load((default_config_dir() / "pii.yaml").read_text(encoding="utf-8"))
    section = content
    for key in keys[:-1]:
        section = section[key]
    section[keys[-1]] = value
    (tmp_path / "pii.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return tmp_path


def test_shipped_configuration_fits_and_leaves_out_places_and_dates() -> None:
    config = read_pii_config(default_config_dir())
    assert {"PERSON", "PL_PESEL", "EMAIL_ADDRESS"} <= set(config.entities)
    assert not {"LOCATION", "NRP", "DATE_TIME"} & set(config.entities)
    assert read_names(default_config_dir()).english


@pytest.mark.parametrize(
    ("keys", "value", "field"),
    [
        (("entities", "PERSON", "threshold"), 1.5, "entities.PERSON.threshold"),
        (("entities", "PL_PESLE"), {"threshold": 0.5}, "entities.PL_PESLE"),
        (("ner", "token_budget"), -1, "ner.token_budget"),
        (("phone_regions",), {"en": ["US"]}, "phone_regions"),
        (("surprise",), 1, "surprise"),
    ],
)
def test_wrong_value_names_its_field(tmp_path: Path, keys: tuple[str, ...], value: Any, field: str) -> None:
    with pytest.raises(ConfigurationError, match=field) as raised:
        read_pii_config(changed(tmp_path, *keys, value=value))
    assert raised.value.field is not None
    assert raised.value.field.startswith(field)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"pii\.yaml"):
        read_pii_config(tmp_path)


def test_broken_yaml_is_named(tmp_path: Path) -> None:
    (tmp_path / "pii.yaml").write_text("entities: [", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="not valid YAML"):
        read_pii_config(tmp_path)
