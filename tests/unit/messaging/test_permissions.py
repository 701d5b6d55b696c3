"""What the message server's users may do follows from the topology, and the file that grants it is up to date."""

from __future__ import annotations

from pathlib import Path

import pytest

from app import topology
from app.messaging.permissions import Role, as_configuration, permissions, store_of
from app.topology import BucketSpec, StreamSpec, Subject, matches

FILE = Path(__file__).parents[3] / "config" / "nats" / "permissions.inc"
DECLARED = [spec for spec in vars(topology).values() if isinstance(spec, StreamSpec | BucketSpec)]
GRANTED = permissions()
FORGETTING = "$JS.API.STREAM.PURGE.KV_VIGIL_DECISIONS"
"""Purged by subject, one decision at a time."""


def allows(patterns: tuple[str, ...], subject: str) -> bool:
    return any(matches(subject, pattern) for pattern in patterns)


def test_the_file_grants_what_the_topology_takes() -> None:
    assert FILE.read_text() == as_configuration(), "run `make permissions`"


@pytest.mark.parametrize("role", [Role.SERVICE, Role.OPERATOR])
@pytest.mark.parametrize("spec", DECLARED, ids=lambda spec: spec.name)
def test_each_declared_stream_and_bucket_can_be_used(spec: StreamSpec | BucketSpec, role: Role) -> None:
    store, publish = store_of(spec), GRANTED[role].publish
    verbs = ("STREAM.INFO.{}", "STREAM.CREATE.{}", "STREAM.UPDATE.{}", "CONSUMER.MSG.NEXT.{}.some-worker")
    assert [verb for verb in verbs if not allows(publish, f"$JS.API.{verb.format(store)}")] == []
    keys = (f"$KV.{spec.name}.some.key",) if isinstance(spec, BucketSpec) else spec.subjects
    own = [subject.replace(">", "x").replace("*", "x") for subject in keys if subject.startswith(("vigil.", "$KV."))]
    assert [subject for subject in own if not allows(publish, subject)] == []


@pytest.mark.parametrize("subject", Subject)
def test_the_service_may_publish_each_subject_and_serve_what_no_stream_captures(subject: str) -> None:
    assert allows(GRANTED[Role.SERVICE].publish, subject)
    if subject.startswith("vigil.api."):
        assert allows(GRANTED[Role.SERVICE].subscribe, subject)


@pytest.mark.parametrize("role", Role)
def test_nobody_may_delete_or_purge_or_reach_beyond(role: Role) -> None:
    publish = GRANTED[role].publish
    for spec in DECLARED:
        for verb in ("DELETE", "PURGE", "SNAPSHOT", "RESTORE", "LEADER.STEPDOWN"):
            subject = f"$JS.API.STREAM.{verb}.{store_of(spec)}"
            assert allows(publish, subject) == (role is Role.SERVICE and subject == FORGETTING)
    assert not allows(publish, "$JS.API.STREAM.CREATE.OTHER")
    assert not allows(publish, "$JS.API.STREAM.MSG.DELETE.VIGIL_AUDIT")
    assert not allows(publish, "$SYS.REQ.SERVER.PING")
    assert not allows(publish, "other.subject")
    assert ">" not in (*publish, *GRANTED[role].subscribe)


def test_a_client_hands_in_and_asks_and_hears_its_own_replies_alone() -> None:
    granted = GRANTED[Role.CLIENT]
    asked = {"vigil.api.guard", "vigil.api.restore", "vigil.api.stream", "vigil.api.stream.*"}
    assert set(granted.publish) == {"vigil.guard.*", "vigil.detection.batch"} | asked
    assert granted.subscribe == ("_INBOX.client.>",)
