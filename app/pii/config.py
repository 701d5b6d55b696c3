"""Reads config/pii.yaml and config/pii_names.yaml: which entities are looked for, from which score, and known names."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from app.errors import ConfigurationError

CONFIG_NAME: Final = "pii.yaml"
NAMES_NAME: Final = "pii_names.yaml"

EntityName = Literal[
    "PERSON", "EMAIL_ADDRESS", "PHONE_NUMBER", "CREDIT_CARD", "IBAN_CODE", "IP_ADDRESS", "US_SSN", "URL", "CRYPTO",
    "PL_PESEL", "PL_NIP", "PL_REGON", "PL_ID_CARD", "PL_PASSPORT", "PL_LAND_REGISTER", "PL_KRS", "PASSPORT",
    "DRIVER_LICENSE", "UK_NINO", "UK_NHS", "VEHICLE_PLATE", "DATE_OF_BIRTH", "STREET_ADDRESS", "ZIP_CODE",
    "PL_PWZ", "UK_UTR", "US_TAX_ID", "MEDICAL_RECORD", "INSURANCE_NUMBER", "VEHICLE_IDENTIFICATION_NUMBER", "IMEI",
    "MAC_ADDRESS", "API_KEY", "PASSWORD", "LOCATION", "DATE_TIME", "USERNAME", "AGE", "NRP",
]  # fmt: skip
TaggedName = Literal["PERSON", "LOCATION", "STREET_ADDRESS", "DATE_TIME", "DATE_OF_BIRTH", "USERNAME", "PASSWORD"]
"""Kinds that the tagger marks."""
Language = Literal["en", "pl"]
Probability = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[^\W\d_]+$")]
ContextWord = Annotated[str, Field(min_length=2, max_length=40, pattern=r"^\S.*\S$")]


_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's where PyYAML was built with it: names take a tenth of a second less."""
ConfigT = TypeVar("ConfigT", bound=BaseModel)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EntityConfig(_Section):
    threshold: Probability
    """Lowest score at which a value counts."""
    enabled: bool = True
    languages: Annotated[list[Language], Field(min_length=1)] = ["en", "pl"]
    """Languages of texts in which it is looked for."""
    context: dict[Language, list[ContextWord]] = {}
    """Words near a value that tell what it is: beginnings of words, or whole ones where `$` stands at the end. The
    words of both languages are read in texts of either: people mix them."""

    @property
    def words(self) -> list[str]:
        """The context words of all languages."""
        return [word for words in self.context.values() for word in words]

    def is_read_in(self, language: str) -> bool:
        """Whether it is looked for in texts of a language."""
        return self.enabled and language in self.languages


class TaggerConfig(_Section):
    sub_words: Annotated[int, Field(ge=0)]
    """Most sub-words of one text that the tagger reads (a word has one or two); patterns and known names read all."""
    at_least: dict[TaggedName, Probability]
    """Probability from which a value counts that the tagger alone has found. What is not named it is not asked for."""


class PiiConfig(_Section):
    version: Literal[1]
    entities: Annotated[dict[EntityName, EntityConfig], Field(min_length=1)]
    tagger: TaggerConfig
    phone_regions: dict[Language, Annotated[list[Annotated[str, Field(pattern=r"^[A-Z]{2}$")]], Field(min_length=1)]]
    """ISO 3166 codes of the regions whose national numbers are recognized, by language of the text."""

    @field_validator("entities")
    @classmethod
    def every_language_has_entities(cls, entities: dict[EntityName, EntityConfig]) -> dict[EntityName, EntityConfig]:
        for language in ("en", "pl"):
            if not any(entity.is_read_in(language) for entity in entities.values()):
                raise PydanticCustomError(
                    "nothing_looked_for", "must enable one for {language}", {"language": language}
                )
        return entities

    @field_validator("phone_regions")
    @classmethod
    def every_language_has_regions(cls, regions: dict[Language, list[str]]) -> dict[Language, list[str]]:
        missing = sorted({"en", "pl"} - set(regions))
        if missing:
            raise PydanticCustomError("language_missing", "must name regions for {missing}", {"missing": missing[0]})
        return regions


class NamesConfig(_Section):
    version: Literal[1]
    english: list[Name]
    polish_feminine: list[Name]
    polish_masculine: list[Name]
    ambiguous: list[Name]
    """Given names that are also words, months or places: never a person on their own."""


def read_pii_config(config_dir: Path) -> PiiConfig:
    """Read pii.yaml of a configuration folder.

    Raises:
        ConfigurationError: the file is missing, not YAML, or does not fit; the message names the field.
    """
    return _read(config_dir / CONFIG_NAME, PiiConfig)


def read_names(config_dir: Path) -> NamesConfig:
    """Read pii_names.yaml of a configuration folder; raises as read_pii_config does."""
    return _read(config_dir / NAMES_NAME, NamesConfig)


def _read(path: Path, schema: type[ConfigT]) -> ConfigT:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _LOADER)  # noqa: S506 - both are safe
    except OSError:
        raise ConfigurationError(f"{path.name} cannot be read", field=path.name) from None
    except yaml.YAMLError:
        raise ConfigurationError(f"{path.name} is not valid YAML", field=path.name) from None
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        faults = [(".".join(map(str, fault["loc"])), fault["msg"]) for fault in error.errors()]
        listed = "; ".join(f"{field}: {reason}" for field, reason in faults)
        raise ConfigurationError(f"{path.name} cannot be used: {listed}", field=faults[0][0]) from None
