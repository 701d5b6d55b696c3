"""The language guess on sentences with and without diacritics, and on what belongs to neither language."""

from __future__ import annotations

import pytest

from app.pii.language import guess_language


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("What is the capital of France?", "en"),
        ("My name is Łukasz Żak and I live in Łódź", "en"),
        ("Jaka jest stolica Francji?", "pl"),
        ("nazywam sie Zaneta Wrona-Lis i mieszkam w Ostrolece", "pl"),
        ("Zadzwoń do Anny Nowak", "pl"),
    ],
)
def test_guess(text: str, language: str) -> None:
    assert guess_language(text) == language


@pytest.mark.parametrize("default", ["en", "pl"])
@pytest.mark.parametrize("text", ["", "1234 5678", "{}[]", "Ωμέγα"])
def test_default_decides_when_nothing_speaks(text: str, default: str) -> None:
    assert guess_language(text, default) == default
