"""The REST contract of Presidio's analyzer and anonymizer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.contracts import PiiEntity
from app.errors import InvalidRequest
from app.gateways import presidio
from app.gateways.presidio import AnonymizeBody, PiiAnalyzeBody
from app.problems import to_problem
from app.validation import parse

FOUND = [
    PiiEntity(type="PERSON", start=5, end=15, score=0.9),
    PiiEntity(type="PASSPORT", start=20, end=29, score=0.4),
]
OFFERED = ["PERSON", "PASSPORT", "EMAIL_ADDRESS"]


def analyzed(body: dict[str, Any]) -> PiiAnalyzeBody:
    return parse(PiiAnalyzeBody, json.dumps(body).encode(), text_limit=100)


def results(body: dict[str, Any], found: list[list[PiiEntity]]) -> Any:
    asked = analyzed(body)
    return json.loads(presidio.to_results(asked, found, asked.wanted(OFFERED)))


def test_one_text_is_answered_with_a_list() -> None:
    assert results({"text": "x", "language": "en"}, [FOUND]) == [
        {"start": 5, "end": 15, "score": 0.9, "entity_type": "PERSON", "analysis_explanation": None},
        {"start": 20, "end": 29, "score": 0.4, "entity_type": "PASSPORT", "analysis_explanation": None},
    ]


def test_several_texts_are_answered_with_a_list_of_lists() -> None:
    assert [len(each) for each in results({"text": ["x", "y"], "language": "en"}, [FOUND, []])] == [2, 0]


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        ({"entities": ["PERSON"]}, ["PERSON"]),
        ({"entities": ["US_PASSPORT", "ORGANIZATION"]}, ["US_PASSPORT"]),
        ({"entities": []}, ["PERSON", "PASSPORT"]),
        ({"entities": None}, ["PERSON", "PASSPORT"]),
        ({"score_threshold": 0.5}, ["PERSON"]),
        ({"score_threshold": 0.95}, []),
    ],
)
def test_what_was_not_asked_for_is_left_out(change: dict[str, Any], kinds: list[str]) -> None:
    assert [each["entity_type"] for each in results({"text": "x", **change}, [FOUND])] == kinds


@pytest.mark.parametrize(
    ("asked", "kind", "told"),
    [
        (["US_ITIN"], "US_TAX_ID", "US_ITIN"),
        (["US_BANK_NUMBER"], "IBAN_CODE", "US_BANK_NUMBER"),
        (["UK_DRIVING_LICENCE"], "DRIVER_LICENSE", "UK_DRIVING_LICENCE"),
        (["US_HEALTH_INSURANCE_MEMBER_ID"], "INSURANCE_NUMBER", "US_HEALTH_INSURANCE_MEMBER_ID"),
        (["PASSPORT", "US_PASSPORT"], "PASSPORT", "PASSPORT"),
    ],
)
def test_a_kind_that_is_found_under_another_name_is_answered_with_the_asked_one(
    asked: list[str], kind: str, told: str
) -> None:
    body = analyzed({"text": "x", "entities": asked})
    found = json.loads(
        presidio.to_results(body, [[PiiEntity(type=kind, start=0, end=1, score=0.9)]], body.wanted([kind]))
    )
    assert [each["entity_type"] for each in found] == [told]


@pytest.mark.parametrize(
    "text", ["", 5, None, {"a": "kappa"}, [], ["kappa", ""], ["kappa", 3], [["kappa"]], ["x"] * 101]
)
def test_what_is_neither_a_text_nor_texts_is_refused_under_the_fields_own_name(text: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        analyzed({"text": text})
    assert caught.value.faults == (("text", "must be a text or a list of 1 to 100 texts, none of them empty"),)


def test_kinds_that_nobody_looks_for_are_not_answered_with_nothing() -> None:
    with pytest.raises(InvalidRequest) as caught:
        analyzed({"text": "x", "entities": ["ORGANIZATION", "MEDICAL_LICENSE"]}).wanted(OFFERED)
    assert caught.value.field == "entities"


def test_the_query_has_the_texts_the_language_and_the_allowed_values() -> None:
    query = analyzed({"text": "x", "language": "pl", "allow_list": ["Anna"], "correlation_id": "7"}).query()
    assert (query.texts, query.language, query.allow_list) == (["x"], "pl", ["Anna"])


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "text"),
        ({"text": ""}, "text"),
        ({"text": "x" * 101}, "text"),
        ({"text": ["x", "y" * 101]}, "text"),
        ({"text": ["x"] * 101}, "text"),
        ({"text": "x", "language": "english"}, "language"),
        ({"text": "x", "score_threshold": 2}, "score_threshold"),
        ({"text": "x", "ad_hoc_recognizers": [{"name": "zip", "patterns": []}]}, "ad_hoc_recognizers"),
        ({"text": "x", "allow_list_match": "regex"}, "allow_list_match"),
    ],
)
def test_bad_queries_name_the_field(body: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        analyzed(body)
    assert {name.split(".")[0] for name, _ in caught.value.faults} == {field}


def anonymized(body: dict[str, Any]) -> AnonymizeBody:
    return parse(AnonymizeBody, json.dumps(body).encode(), text_limit=100)


def test_a_job_has_what_was_found_and_what_becomes_of_it() -> None:
    job = anonymized(
        {
            "text": "Call Anna Nowak",
            "analyzer_results": [
                {"start": 5, "end": 15, "entity_type": "PERSON", "score": 0.9, "recognition_metadata": {}}
            ],
            "anonymizers": {"DEFAULT": {"type": "redact"}, "PERSON": {"type": "mask", "masking_char": "#"}},
        }
    ).job()
    assert job.entities == FOUND[:1]
    assert {kind: each.action for kind, each in job.anonymizers.items()} == {"DEFAULT": "redact", "PERSON": "mask"}
    assert job.anonymizers["PERSON"].masking_char == "#"


@pytest.mark.parametrize(
    "change",
    [
        {"text": None},
        {"analyzer_results": None},
        {"analyzer_results": [{"start": 5, "end": 16, "entity_type": "PERSON", "score": 0.9}]},
        {"analyzer_results": [{"start": 5, "end": 5, "entity_type": "PERSON", "score": 0.9}]},
        {"analyzer_results": [{"start": -1, "end": 5, "entity_type": "PERSON", "score": 0.9}]},
        {"analyzer_results": [{"start": 0, "end": 5, "entity_type": "<b>", "score": 0.9}]},
        {"anonymizers": {"DEFAULT": {"type": "encrypt", "key": "k"}}},
        {"anonymizers": {"DEFAULT": {"type": "mask", "masking_char": "##"}}},
    ],
)
def test_bad_jobs_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        anonymized({"text": "Call Anna Nowak", "analyzer_results": [], **change})


def test_an_error_is_one_sentence() -> None:
    assert json.loads(presidio.error_body(to_problem(InvalidRequest("is required", field="text")), None)) == {
        "error": "is required"
    }
