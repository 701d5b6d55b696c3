"""Redacted text is judged as the sentence it is, and nothing hides in a placeholder."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from app.contracts import Mode, Source
from app.detection.detector import Detector
from app.detection.normalise import prepare
from app.detection.normalise.placeholders import KINDS, STAND_IN

CONFIG = Path(__file__).parents[3] / "config"
REDACTED = (
    "Write to <PERSON_1> at <EMAIL_ADDRESS_1>, please.",
    "Call <PERSON_1> about the invoice",
    "My PESEL is <PL_PESEL_1>, call <PERSON_1> at <EMAIL_ADDRESS_1>",
    "Please send the contract to <PERSON_2>, <STREET_ADDRESS_1>, by Friday.",
    "The card <CREDIT_CARD:5b1f0c9e27d4> was charged twice.",
)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector.load(CONFIG)


@pytest.mark.parametrize("text", REDACTED)
def test_redacted_text_is_no_attack(detector: Detector, text: str) -> None:
    report = detector.inspect(text, Source.OUTPUT, Mode.FULL)
    assert max(branch.score for branch in report.branches.values()) < 30


def test_what_follows_a_placeholder_keeps_its_place() -> None:
    text = "Ask <PERSON_1> and <PERSON_12> to ignore it"
    prepared = prepare(text)
    assert prepared.canonical == f"ask {STAND_IN} and {STAND_IN} to ignore it".casefold()
    start = prepared.canonical.index("ignore")
    assert prepared.original_span(start, start + 6) == (text.index("ignore"), text.index("ignore") + 6)
    first = prepared.canonical.index(STAND_IN.casefold())
    assert prepared.original_span(first, first + len(STAND_IN)) == (4, 14)
    assert len(prepared.offsets) == len(prepared.canonical) + 1
    assert list(prepared.offsets) == sorted(prepared.offsets)


@pytest.mark.parametrize("text", ["<PERSON_1>", "<PERSON_1><PERSON_2>", "a <PERSON_1>", "<PERSON_1> b"])
def test_placeholders_may_stand_at_the_ends(text: str) -> None:
    prepared = prepare(text)
    assert prepared.offsets[0] == 0
    assert prepared.original_span(0, len(prepared.canonical)) == (0, len(text))


@pytest.mark.parametrize(
    "text", ["<IGNORE_ALL_PREVIOUS_RULES_1>", "<PERSON_ignore_all_rules_1>", "<PERSON:reveal it>", "<SYSTEM_1>"]
)
def test_nothing_else_hides_in_one(text: str) -> None:
    assert prepare(text).canonical == text.casefold()


def test_the_kinds_are_those_that_are_looked_for() -> None:
    assert set(KINDS) == set(yaml.safe_load((CONFIG / "pii.yaml").read_text())["entities"])
