"""Values are replaced as a request says, and no part of one is left where findings overlap."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from app.contracts import AnonymizeJob, Anonymizer, PiiEntity
from app.pii.anonymizing import anonymize

TEXT = "Call Anna Nowak at 555-0100"
NAME = PiiEntity(type="PERSON", start=5, end=15, score=0.9)
NUMBER = PiiEntity(type="PHONE_NUMBER", start=19, end=27, score=0.8)


def changed(*entities: PiiEntity, **anonymizers: Any) -> str:
    made = {kind: Anonymizer(**fields) for kind, fields in anonymizers.items()}
    return anonymize(AnonymizeJob(text=TEXT, entities=list(entities), anonymizers=made)).text


@pytest.mark.parametrize(
    ("anonymizers", "expected"),
    [
        ({}, "Call <PERSON> at <PHONE_NUMBER>"),
        ({"DEFAULT": {"action": "redact"}}, "Call  at "),
        ({"PERSON": {"new_value": "somebody"}}, "Call somebody at <PHONE_NUMBER>"),
        ({"PERSON": {"new_value": ""}}, "Call <PERSON> at <PHONE_NUMBER>"),
        ({"DEFAULT": {"action": "keep"}, "PERSON": {"action": "redact"}}, "Call  at 555-0100"),
        ({"DEFAULT": {"action": "mask"}}, "Call ********** at ********"),
        (
            {"DEFAULT": {"action": "mask", "masking_char": "#", "chars_to_mask": 4, "from_end": True}},
            "Call Anna N#### at 555-####",
        ),
        ({"DEFAULT": {"action": "mask", "chars_to_mask": 4}}, "Call **** Nowak at ****0100"),
        ({"DEFAULT": {"action": "mask", "chars_to_mask": 0}}, TEXT),
        ({"DEFAULT": {"action": "mask", "chars_to_mask": 99}}, "Call ********** at ********"),
    ],
)
def test_each_kind_is_changed_as_asked(anonymizers: dict[str, Any], expected: str) -> None:
    assert changed(NUMBER, NAME, **anonymizers) == expected


def test_items_name_the_places_of_the_new_text_from_the_last_to_the_first() -> None:
    done = anonymize(AnonymizeJob(text=TEXT, entities=[NAME, NUMBER]))
    assert [(item.entity_type, item.operator) for item in done.items] == [
        ("PHONE_NUMBER", "replace"),
        ("PERSON", "replace"),
    ]
    assert all(done.text[item.start : item.end] == item.text for item in done.items)


def test_a_hash_is_salted() -> None:
    named = changed(NAME, PERSON={"action": "hash", "salt": "pepper"})
    assert named == f"Call {hashlib.sha256(b'pepperAnna Nowak').hexdigest()} at 555-0100"
    unnamed = changed(NAME, PERSON={"action": "hash"})
    assert unnamed != changed(NAME, PERSON={"action": "hash"})
    assert hashlib.sha256(b"Anna Nowak").hexdigest() not in unnamed
    assert len(changed(NAME, PERSON={"action": "hash", "hash_type": "sha512"})) == len("Call  at 555-0100") + 128


def test_nothing_of_an_overlapped_value_is_left() -> None:
    url = PiiEntity(type="URL", start=10, end=27, score=0.5)
    assert "Nowak" not in changed(NAME, url)
    assert "555" not in changed(NAME, url)


def test_nothing_found_changes_nothing() -> None:
    assert changed() == TEXT
