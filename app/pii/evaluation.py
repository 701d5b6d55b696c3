"""Measures the recognizers on marked texts: precision, recall and F2 by entity, and the time a text takes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from app.errors import InvalidRequest

if TYPE_CHECKING:
    from app.pii.engine import PiiEngine

ANY: Final = "ANY"
"""The row in which an entity's name does not matter: a value found under another name is redacted too."""
SAME_ENTITY: Final[Mapping[str, str]] = {"CRYPTO_WALLET": "CRYPTO", "GPE": "LOCATION"}
"""Names that marked texts use, and ours for the same thing."""
_OPTIONAL: Final = "ORGANIZATION"
_OPTIONAL_PREFIX: Final = "OTHER"
"""Marked, and counted neither for nor against: a company, or what begins so (an amount, a file number)."""
_LEAST_COVERED: Final = 0.5
"""The part of a span that has to be covered for it to count as found: half, so that an article or a title more or
less changes nothing."""


class MarkedSpan(BaseModel):
    """Where a value stands: code points, end exclusive."""

    model_config = ConfigDict(frozen=True)

    start: Annotated[int, Field(ge=0)]
    end: Annotated[int, Field(ge=1)]
    entity: str


class MarkedText(BaseModel):
    """One line of a file: a text and every value in it; other fields are left alone."""

    model_config = ConfigDict(frozen=True)

    text: str
    spans: list[MarkedSpan]
    lang: str | None = None

    @model_validator(mode="after")
    def spans_lie_in_the_text(self) -> Self:
        if any(not span.start < span.end <= len(self.text) for span in self.spans):
            raise PydanticCustomError("span_outside", "spans must have a length and lie inside the text")
        return self


@dataclass(slots=True)
class EntityFigures:
    """Counts of one entity, and what follows from them."""

    marked: int = 0
    found: int = 0
    """Marked values that were found."""
    flagged: int = 0
    """Values that the recognizers gave out, without those of optional entities."""
    right: int = 0
    """Of the flagged ones, those that are marked."""

    @property
    def precision(self) -> float | None:
        """Part of what was flagged that is marked; None where nothing was flagged."""
        return self.right / self.flagged if self.flagged else None

    @property
    def recall(self) -> float | None:
        """Part of what is marked that was found; None where nothing is marked."""
        return self.found / self.marked if self.marked else None

    @property
    def f2(self) -> float | None:
        """Van Rijsbergen's F with recall twice as important as precision; None where nothing is marked."""
        if not self.marked:
            return None
        precision, recall = self.precision or 0.0, self.recall or 0.0
        return 5 * precision * recall / (4 * precision + recall) if precision + recall else 0.0


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What the recognizers did on all texts."""

    texts: int
    entities: dict[str, EntityFigures]
    """By name, in order; `ANY` last."""
    not_looked_for: frozenset[str]
    """Marked entities that the configuration leaves out; ANY counts their values as missed."""
    mean_ms: float
    median_ms: float
    p95_ms: float


@dataclass(slots=True)
class _Tally:
    by_entity: defaultdict[str, EntityFigures] = field(default_factory=lambda: defaultdict(EntityFigures))

    def add(self, marked: Sequence[MarkedSpan], flagged: Sequence[MarkedSpan]) -> None:
        optional = [span for span in marked if is_optional(span.entity)]
        required = [span for span in marked if not is_optional(span.entity)]
        for span in required:
            same = [other for other in flagged if other.entity == span.entity]
            self._count_marked(span.entity, _is_covered(span, same))
            self._count_marked(ANY, _is_covered(span, flagged))
        for span in flagged:
            same = [other for other in required if other.entity == span.entity]
            if _is_covered(span, same):
                self._count_flagged(span.entity, right=True)
                self._count_flagged(ANY, right=True)
            elif not _is_covered(span, optional):
                self._count_flagged(span.entity, right=False)
                self._count_flagged(ANY, right=_is_covered(span, marked))

    def _count_marked(self, entity: str, found: bool) -> None:
        figures = self.by_entity[entity]
        figures.marked += 1
        figures.found += found

    def _count_flagged(self, entity: str, *, right: bool) -> None:
        figures = self.by_entity[entity]
        figures.flagged += 1
        figures.right += right


def is_optional(entity: str) -> bool:
    """Whether values of a marked entity count neither for nor against."""
    return entity == _OPTIONAL or entity.startswith(_OPTIONAL_PREFIX)


def _is_covered(span: MarkedSpan, others: Iterable[MarkedSpan]) -> bool:
    covered = sum(max(0, min(span.end, other.end) - max(span.start, other.start)) for other in others)
    return covered >= _LEAST_COVERED * (span.end - span.start)


def read_marked_texts(path: Path) -> list[MarkedText]:
    """Read a file of JSON Lines.

    Raises:
        InvalidRequest: a line is no JSON object of this shape; the message names line and field, never the text.
    """
    texts = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            texts.append(MarkedText.model_validate_json(line))
        except ValidationError as error:
            fault = error.errors(include_input=False)[0]
            where = ".".join(map(str, fault["loc"])) or "line"
            raise InvalidRequest(f"{path.name}, line {number}: {where}: {fault['msg']}", field=where) from None
    if not texts:
        raise InvalidRequest(f"{path.name} holds no text")
    return texts


def evaluate(engine: PiiEngine, texts: Sequence[MarkedText], *, use_language: bool = False) -> Evaluation:
    """Scan every text once and compare what is found with what is marked.

    A value counts as found when half of it is covered by values of its entity (in ANY: of whichever entity). As the
    worker does, a scan lists at most the values that an answer lists.

    Args:
        use_language: give each text's own language to the engine, in place of letting it guess.
    """
    tally = _Tally()
    times_ms: list[float] = []
    for text in texts:
        report = engine.scan(text.text, text.lang if use_language else None, []).report
        times_ms.append(report.latency_ms)
        tally.add(
            [span.model_copy(update={"entity": SAME_ENTITY.get(span.entity, span.entity)}) for span in text.spans],
            [MarkedSpan(start=each.start, end=each.end, entity=each.type) for each in report.entities],
        )
    entities = {name: tally.by_entity[name] for name in sorted(set(tally.by_entity) - {ANY})}
    looked_for = engine.entities
    return Evaluation(
        texts=len(texts),
        entities=entities | {ANY: tally.by_entity[ANY]},
        not_looked_for=frozenset(entities) - looked_for,
        mean_ms=round(sum(times_ms) / len(times_ms), 3),
        median_ms=round(median(times_ms), 3),
        p95_ms=round(quantiles(times_ms, n=20)[-1] if len(times_ms) > 1 else times_ms[0], 3),
    )


@dataclass(frozen=True, slots=True)
class Seen:
    """What was found of one entity in texts of which nothing is known."""

    entity: str
    texts: int
    """Texts in which it was found."""
    values: int


@dataclass(frozen=True, slots=True)
class Sighting:
    """What the recognizers found in texts that nobody marked."""

    texts: int
    entities: list[Seen]
    """Most frequent first; `ANY` last."""


def sight(engine: PiiEngine, texts: Sequence[str]) -> Sighting:
    """Scan texts once and count what is found: in documents that name nobody, all of it is wrong."""
    in_texts, values = Counter[str](), Counter[str]()
    for text in texts:
        found = [entity.type for entity in engine.scan(text, None, []).report.entities]
        values.update(found)
        values[ANY] += len(found)
        in_texts.update({*found, *([ANY] if found else [])})
    named = sorted(set(in_texts) - {ANY}, key=lambda entity: (-in_texts[entity], entity))
    return Sighting(len(texts), [Seen(entity, in_texts[entity], values[entity]) for entity in (*named, ANY)])
