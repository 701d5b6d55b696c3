"""The REST contract of Presidio's analyzer and anonymizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from app.contracts import (
    AnonymizeJob,
    Anonymizer,
    Flag,
    Message,
    PiiEntity,
    PiiQuery,
    Problem,
    within_limit,
)
from app.errors import InvalidRequest

MOST_TEXTS: Final = 100
MOST_RESULTS: Final = 20_000
ALIASES: Final = {
    "US_PASSPORT": "PASSPORT",
    "UK_PASSPORT": "PASSPORT",
    "US_DRIVER_LICENSE": "DRIVER_LICENSE",
    "UK_DRIVING_LICENCE": "DRIVER_LICENSE",
    "US_ITIN": "US_TAX_ID",
    "US_BANK_NUMBER": "IBAN_CODE",
    "US_HEALTH_INSURANCE_MEMBER_ID": "INSURANCE_NUMBER",
    "UK_POSTCODE": "ZIP_CODE",
    "UK_VEHICLE_REGISTRATION": "VEHICLE_PLATE",
}
"""Presidio's names of kinds that this guard finds under a wider one; who asks for such a name is answered with it."""
ANONYMIZERS: Final = ("hash", "keep", "mask", "redact", "replace")

Text = Annotated[str, Field(min_length=1)]
Kind = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_]+$")]
Language = Annotated[str, Field(pattern=r"^[a-z]{2}$")]


class PiiAnalyzeBody(Message):
    """`POST /analyze`"""

    model_config = ConfigDict(extra="ignore", frozen=True)

    text: Text | Annotated[list[Text], Field(min_length=1, max_length=MOST_TEXTS)]
    """Several texts are answered with a list of lists."""
    language: Language | None = None
    """Presidio demands it; here it is told from the text when it is absent."""
    entities: Annotated[list[Kind], Field(max_length=200)] | None = None
    score_threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    allow_list: Annotated[list[Annotated[str, Field(max_length=256)]], Field(max_length=1000)] | None = None
    allow_list_match: Literal["exact"] | None = None
    ad_hoc_recognizers: Any = None

    @field_validator("text", mode="before")
    @classmethod
    def is_text_or_texts(cls, text: Any) -> Any:
        """Refuse what is neither in one sentence, where the union would name each of its members as a field."""
        texts = text if isinstance(text, list) else [text]
        if not 1 <= len(texts) <= MOST_TEXTS or not all(isinstance(each, str) and each for each in texts):
            raise PydanticCustomError(
                "texts",
                "must be a text or a list of 1 to {most} texts, none of them empty",
                {"most": MOST_TEXTS},
            )
        return text

    @field_validator("text")
    @classmethod
    def texts_fit(cls, text: str | list[str], info: ValidationInfo) -> str | list[str]:
        for each in [text] if isinstance(text, str) else text:
            within_limit(each, info)
        return text

    @field_validator("ad_hoc_recognizers")
    @classmethod
    def no_foreign_patterns(cls, recognizers: Any) -> Any:
        if recognizers:
            raise PydanticCustomError(
                "ad_hoc_recognizers", "are not offered: what is looked for stands in config/pii.yaml"
            )
        return recognizers

    @property
    def texts(self) -> list[str]:
        return [self.text] if isinstance(self.text, str) else self.text

    def query(self) -> PiiQuery:
        return PiiQuery(texts=self.texts, language=self.language, allow_list=self.allow_list or [])

    def wanted(self, offered: Sequence[str]) -> dict[str, str] | None:
        """Return the asked kinds, each with the name it was asked by; None when nothing was asked for by name.

        Args:
            offered: the kinds that are looked for in texts of this language.

        Raises:
            InvalidRequest: none of the asked kinds is looked for: "nothing found" would be a lie.
        """
        if not self.entities:
            return None
        wanted = {ALIASES.get(name, name): name for name in self.entities}
        wanted |= {name: name for name in self.entities if name not in ALIASES}  # Its own name comes before any other.
        if not set(wanted) & set(offered):
            raise InvalidRequest("no recognizer looks for any of the asked entities", field="entities")
        return wanted


class FoundValue(BaseModel):
    analysis_explanation: None = None
    end: int
    entity_type: str
    score: float
    start: int


RESULTS: Final = TypeAdapter(list[FoundValue])
RESULTS_OF_SEVERAL: Final = TypeAdapter(list[list[FoundValue]])


def to_results(body: PiiAnalyzeBody, found: Sequence[Sequence[PiiEntity]], wanted: dict[str, str] | None) -> bytes:
    """Return the JSON of what was found: of one text a list, of several a list of lists."""
    lowest = body.score_threshold or 0.0
    results = [
        [
            FoundValue(
                start=entity.start,
                end=entity.end,
                score=entity.score,
                entity_type=entity.type if wanted is None else wanted[entity.type],
            )
            for entity in entities
            if entity.score >= lowest and (wanted is None or entity.type in wanted)
        ]
        for entities in found
    ]
    return RESULTS.dump_json(results[0]) if isinstance(body.text, str) else RESULTS_OF_SEVERAL.dump_json(results)


class Operator(Message):
    """One of `anonymizers`: its `type`, and the parameters of that type."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    type: Literal["hash", "keep", "mask", "redact", "replace"]
    new_value: Annotated[str, Field(max_length=1024)] | None = None
    masking_char: Annotated[str, Field(min_length=1, max_length=1)] = "*"
    chars_to_mask: Annotated[int, Field(ge=0)] | None = None
    from_end: Flag = False
    hash_type: Literal["sha256", "sha512"] = "sha256"
    salt: Annotated[str, Field(max_length=256)] | None = Field(default=None, repr=False)

    def anonymizer(self) -> Anonymizer:
        return Anonymizer(action=self.type, **self.model_dump(exclude={"type"}))


class AnalyzerResult(Message):
    model_config = ConfigDict(extra="ignore", frozen=True)

    start: Annotated[int, Field(ge=0)]
    end: Annotated[int, Field(ge=1)]
    entity_type: Kind
    score: Annotated[float, Field(ge=0, le=1)] = 1.0


class AnonymizeBody(Message):
    """`POST /anonymize`"""

    model_config = ConfigDict(extra="ignore", frozen=True)

    text: Text
    analyzer_results: Annotated[list[AnalyzerResult], Field(max_length=MOST_RESULTS)]
    anonymizers: dict[Kind, Operator] | None = None

    @field_validator("text")
    @classmethod
    def text_fits(cls, text: str, info: ValidationInfo) -> str:
        return within_limit(text, info)

    @model_validator(mode="after")
    def results_lie_in_the_text(self) -> AnonymizeBody:
        for result in self.analyzer_results:
            if not result.start < result.end <= len(self.text):
                raise PydanticCustomError("outside", "analyzer_results must lie inside the text, start before end")
        return self

    def job(self) -> AnonymizeJob:
        return AnonymizeJob(
            text=self.text,
            entities=[
                PiiEntity(type=each.entity_type, start=each.start, end=each.end, score=each.score)
                for each in self.analyzer_results
            ],
            anonymizers={kind: operator.anonymizer() for kind, operator in (self.anonymizers or {}).items()},
        )


class PresidioError(BaseModel):
    error: str


def error_body(problem: Problem, retry_after_s: int | None) -> str:
    return PresidioError(error=problem.detail).model_dump_json()
