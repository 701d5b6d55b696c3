"""The measuring of recognizers: what counts as found, as right, and as neither; files that do not fit."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from app.contracts import PiiEntity, PiiReport
from app.errors import InvalidRequest
from app.pii.engine import PiiEngine, PiiScan
from app.pii.evaluation import ANY, Evaluation, MarkedSpan, MarkedText, evaluate, read_marked_texts


@dataclass
class Found:
    """An engine that gives the same answer to every text."""

    spans: list[tuple[str, int, int]]
    languages: list[str | None] = field(default_factory=list)
    entities: frozenset[str] = frozenset({"PERSON", "EMAIL_ADDRESS", "CRYPTO"})

    def scan(self, text: str, language: str | None, allow_list: list[str]) -> PiiScan:
        self.languages.append(language)
        entities = [PiiEntity(type=name, start=start, end=end, score=1.0) for name, start, end in self.spans]
        return PiiScan(PiiReport(scanned=True, entities=entities, count=len(entities), latency_ms=2.0), text)


def measured(marked: list[tuple[str, int, int]], found: list[tuple[str, int, int]]) -> Evaluation:
    spans = [MarkedSpan(entity=name, start=start, end=end) for name, start, end in marked]
    return evaluate(cast(PiiEngine, Found(found)), [MarkedText(text="x" * 100, spans=spans)])


def test_half_of_a_value_is_enough_and_less_is_not() -> None:
    assert measured([("PERSON", 0, 10)], [("PERSON", 5, 10)]).entities["PERSON"].found == 1
    assert measured([("PERSON", 0, 10)], [("PERSON", 6, 10)]).entities["PERSON"].found == 0


def test_another_name_counts_in_any_alone() -> None:
    entities = measured([("PERSON", 0, 10)], [("EMAIL_ADDRESS", 0, 10)]).entities
    assert (entities["PERSON"].recall, entities["EMAIL_ADDRESS"].precision) == (0.0, 0.0)
    assert (entities[ANY].recall, entities[ANY].precision) == (1.0, 1.0)


def test_what_is_marked_nowhere_is_wrong() -> None:
    figures = measured([("PERSON", 0, 10)], [("PERSON", 0, 10), ("PERSON", 20, 30)]).entities["PERSON"]
    assert (figures.precision, figures.recall) == (0.5, 1.0)
    assert figures.f2 == pytest.approx(5 * 0.5 / (4 * 0.5 + 1))


@pytest.mark.parametrize("optional", ["ORGANIZATION", "OTHER:FINANCIAL_AMOUNT"])
def test_optional_entities_count_neither_for_nor_against(optional: str) -> None:
    entities = measured([(optional, 0, 10)], [("PERSON", 0, 10)]).entities
    assert (entities[ANY].marked, entities[ANY].flagged) == (0, 0)
    assert optional not in entities


def test_what_is_not_looked_for_is_named_and_counts_as_missed() -> None:
    result = measured([("LOCATION", 0, 10)], [])
    assert result.not_looked_for == {"LOCATION"}
    assert result.entities[ANY].recall == 0.0
    assert result.entities["LOCATION"].precision is None


def test_another_name_of_the_same_entity_is_read() -> None:
    assert measured([("CRYPTO_WALLET", 0, 10)], [("CRYPTO", 0, 10)]).entities["CRYPTO"].f2 == 1.0
    assert measured([("GPE", 0, 10)], [("LOCATION", 0, 10)]).entities["LOCATION"].f2 == 1.0


def test_language_is_given_only_when_asked() -> None:
    text = MarkedText(text="abc", spans=[], lang="pl")
    engine = Found([])
    evaluate(cast(PiiEngine, engine), [text])
    result = evaluate(cast(PiiEngine, engine), [text], use_language=True)
    assert engine.languages == [None, "pl"]
    assert (result.mean_ms, result.median_ms, result.p95_ms) == (2.0, 2.0, 2.0)


@pytest.mark.parametrize(
    ("line", "field_named"),
    [
        ({"text": "Ann Secret", "spans": [{"start": 0, "end": 11, "entity": "PERSON"}]}, "line 2"),
        ({"text": "Ann Secret", "spans": [{"start": -1, "end": 3, "entity": "PERSON"}]}, r"spans\.0\.start"),
        ({"text": "Ann Secret"}, "spans"),
    ],
)
def test_wrong_line_is_named_without_its_text(tmp_path: Path, line: dict[str, object], field_named: str) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text(json.dumps({"text": "a", "spans": []}) + "\n" + json.dumps(line) + "\n", encoding="utf-8")
    with pytest.raises(InvalidRequest, match=field_named) as raised:
        read_marked_texts(path)
    assert "Secret" not in raised.value.message


def test_file_without_a_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.jsonl"
    path.write_text("\n", encoding="utf-8")
    with pytest.raises(InvalidRequest, match="no text"):
        read_marked_texts(path)


def test_separators_inside_a_text_do_not_end_a_line(tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text(json.dumps({"text": "a\u2028b", "spans": []}, ensure_ascii=False) + "\n", encoding="utf-8")
    assert len(read_marked_texts(path)) == 1
