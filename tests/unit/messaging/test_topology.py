"""Whoever changes the topology gives it another version, or replicas of the one before would set it back."""

from __future__ import annotations

import hashlib

import pytest

from app.topology import BUCKETS, CONSUMERS, STREAMS, TOPOLOGY_VERSION, VERSION_KEY, version_of

DIGESTS = {1: "5392d2d5c8263e3f01fb93f811d7d9e43eb35167f3d46ba0ae6850bd47f8929c"}
"""Of the tables, by version; one is added with each change."""


def test_a_changed_topology_has_another_version() -> None:
    digest = hashlib.sha256(repr((STREAMS, CONSUMERS, BUCKETS)).encode()).hexdigest()
    assert DIGESTS.get(TOPOLOGY_VERSION) == digest, "give it the next TOPOLOGY_VERSION and add its digest here"


@pytest.mark.parametrize(
    ("metadata", "version"),
    [
        (None, 0),
        ({}, 0),
        ({"team": "security"}, 0),
        ({VERSION_KEY: "7", "_nats.level": "0"}, 7),
        *(({VERSION_KEY: stated}, 0) for stated in ("", "-1", "1.0", "\u00b2", "9" * 5000)),
    ],
)
def test_a_version_that_is_none_is_the_oldest(metadata: dict[str, str] | None, version: int) -> None:
    assert version_of(metadata) == version
