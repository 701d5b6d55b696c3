"""Metadata of any shape becomes labels that can be stored, and is never a reason to refuse a request."""

from __future__ import annotations

import json

import pytest

from app.contracts import GuardRequest
from app.gateways.labels import labels


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"user": "u1", "n": 3, "f": 0.5, "yes": True}, {"user": "u1", "n": 3, "f": 0.5, "yes": True}),
        ({"a": {"b": {"c": 1}}}, {"a.b.c": 1}),
        ({"tags": ["x", 2, None, {"no": 1}]}, {"tags": "x,2"}),
        ({"null": None}, {}),
        ({"odd key/ü": "v"}, {"odd_key_": "v"}),
        ({"": "nothing"}, {}),
        ({"long": "x" * 600, "k" * 80: 1}, {"long": "x" * 512, "k" * 64: 1}),
        ({"huge": 10**30}, {"huge": str(10**30)}),
        ({"nan": float("nan"), "inf": float("inf")}, {}),
        ("text", {}),
        (["list"], {}),
        (None, {}),
    ],
)
def test_what_fits_is_kept(source: object, expected: dict[str, object]) -> None:
    assert labels(source) == expected


def test_the_first_source_wins() -> None:
    assert labels({"a": 1}, {"a": 2, "b": 3}) == {"a": 1, "b": 3}


def test_whatever_comes_makes_a_request_that_is_accepted() -> None:
    deep: object = "end"
    for _ in range(50):
        deep = {"x": deep, "ż ó": [1] * 500}
    many = {f"key {n}": json.dumps(n) for n in range(100)}
    stored = labels(deep, many, {"number": 10**5000})
    assert GuardRequest(text="x", metadata=stored).metadata == stored
    assert len(stored) <= 32
