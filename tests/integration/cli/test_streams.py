"""`vigil streams` on a real server: what it shows, and that a dry run says what the real run does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from nats.js.api import StreamInfo

from app.cli.command import Exit
from app.messaging.embedded import EmbeddedNats
from app.messaging.reconciliation import Reconciliation
from app.topology import BUCKETS, STREAMS, TOPOLOGY_VERSION, VERSION_KEY
from tests.integration.cli.conftest import Declared, Vigil, parsed
from tests.integration.messaging.conftest import Running
from tests.support import free_port

pytestmark = pytest.mark.integration

SUMMARY = {
    *("name", "subjects", "retention", "storage", "replicas", "messages", "bytes", "max_bytes", "consumers"),
    *("first_sequence", "last_sequence", "deleted", "first_at", "last_at", "leader", "declared", "differences"),
    "newer",
}


async def test_ls_shows_every_stream_of_the_topology(vigil: Vigil, running: Running) -> None:
    listed = parsed(await vigil("streams", "ls", "--json"))
    assert [each["name"] for each in listed] == [
        *(spec.name for spec in STREAMS),
        *(f"KV_{bucket.name}" for bucket in BUCKETS),
    ]
    assert all(set(each) == SUMMARY for each in listed)
    assert all(each["declared"] and not each["differences"] for each in listed)


async def test_ls_counts_messages_and_says_when_the_last_one_came(vigil: Vigil, declared: Declared) -> None:
    await declared.jetstream.publish("vigil.dlq.pii-worker", b"{}")
    dlq = next(each for each in parsed(await vigil("streams", "ls", "-j")) if each["name"] == "VIGIL_DLQ")
    assert (dlq["messages"], dlq["bytes"] > 0, dlq["last_at"] is not None) == (1, True, True)


async def test_ls_names_what_is_missing(vigil: Vigil, declared: Declared) -> None:
    await declared.jetstream.delete_stream("VIGIL_DLQ")
    result = await vigil("streams", "ls")
    assert "Missing: VIGIL_DLQ" in result.stderr
    assert "VIGIL_DLQ" not in result.stdout


async def test_info_names_each_difference_to_the_topology(vigil: Vigil, declared: Declared) -> None:
    config = (await declared.jetstream.stream_info("VIGIL_DLQ")).config
    await declared.jetstream.update_stream(replace(config, max_age=60, duplicate_window=30))
    told = parsed(await vigil("streams", "info", "VIGIL_DLQ", "-j"))
    assert {each["field"]: each["present"] for each in told["differences"]} == {
        "max_age": 60 * 10**9,
        "duplicate_window": 30 * 10**9,
    }
    assert told["config"]["name"] == "VIGIL_DLQ"
    shown = (await vigil("streams", "info", "VIGIL_DLQ")).stdout
    assert "max_age: 1m -> 30d" in shown


async def test_a_stream_that_does_not_exist_is_exit_code_1(vigil: Vigil, running: Running) -> None:
    for name in ("NOT_THERE", "not.a.name"):
        result = await vigil("streams", "info", name)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "vigil: stream" in result.stderr


async def test_a_dry_run_on_an_empty_server_says_what_the_real_run_does_and_changes_nothing(
    vigil: Vigil, server: str
) -> None:
    planned = parsed(await vigil("streams", "apply", "--dry-run", "-j"))
    assert planned["dry_run"] is True
    assert parsed(await vigil("streams", "ls", "-j")) == []
    done = parsed(await vigil("streams", "apply", "-j"))
    assert done["changes"] == planned["changes"]
    assert {(each["action"], each["kind"]) for each in done["changes"]} == {
        ("create", "stream"),
        ("create", "consumer"),
        ("create", "bucket"),
    }
    assert parsed(await vigil("streams", "apply", "-j"))["changes"] == []
    assert "Nothing to change" in (await vigil("streams", "apply", "--dry-run")).stdout


async def test_a_dry_run_says_what_would_be_updated(vigil: Vigil, declared: Declared) -> None:
    jetstream = declared.jetstream
    stream = (await jetstream.stream_info("VIGIL_DLQ")).config
    await jetstream.update_stream(replace(stream, max_bytes=1_000_000))
    bucket = (await jetstream.stream_info("KV_VIGIL_DECISIONS")).config
    await jetstream.update_stream(replace(bucket, max_age=1200))
    await jetstream.delete_consumer("VIGIL_DETECTION", "pii-worker")
    consumer = (await jetstream.consumer_info("VIGIL_DETECTION", "arbiter-worker")).config
    await jetstream.add_consumer("VIGIL_DETECTION", replace(consumer, ack_wait=99))
    planned = parsed(await vigil("streams", "apply", "--dry-run", "-j"))["changes"]
    assert [(each["action"], each["kind"], each["name"]) for each in planned] == [
        ("update", "stream", "VIGIL_DLQ"),
        ("create", "consumer", "pii-worker"),
        ("update", "consumer", "arbiter-worker"),
        ("update", "bucket", "VIGIL_DECISIONS"),
    ]
    assert planned[0]["differences"] == [{"field": "max_bytes", "declared": 10**9, "present": 1_000_000}]
    assert planned[2]["differences"] == [{"field": "ack_wait", "declared": 10 * 10**9, "present": 99 * 10**9}]
    bucket_differs = next(each for each in parsed(await vigil("streams", "ls", "-j")) if each["name"].startswith("KV_"))
    assert [each["field"] for each in bucket_differs["differences"]] == ["max_age"]
    assert parsed(await vigil("streams", "apply", "-j"))["changes"] == planned


@pytest.fixture
def three_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the server say that it keeps three copies of all, as only a cluster can."""
    one_copy = Reconciliation.stream_info

    async def stream_info(self: Reconciliation, *arguments: Any) -> StreamInfo:
        info = await one_copy(self, *arguments)
        return replace(info, config=replace(info.config, num_replicas=3))

    monkeypatch.setattr(Reconciliation, "stream_info", stream_info)


@pytest.mark.usefixtures("three_copies")
async def test_copies_are_taken_away_only_when_that_is_asked_for(vigil: Vigil, declared: Declared) -> None:
    names = [*(("stream", spec.name) for spec in STREAMS), *(("bucket", spec.name) for spec in BUCKETS)]
    for options in ([], ["--dry-run"]):
        result = await vigil("streams", "apply", "-j", *options)
        assert result.exit_code == Exit.KEPT
        told = json.loads(result.stdout)
        assert told["changes"] == []
        assert told["kept"] == [{"kind": kind, "name": name, "declared": 1, "present": 3} for kind, name in names]
    shown = await vigil("streams", "apply")
    assert shown.exit_code == Exit.KEPT
    assert "left stream VIGIL_DLQ with 3 replicas: the settings say 1" in shown.stdout
    assert "--lower-replicas" in shown.stderr
    lowered = parsed(await vigil("streams", "apply", "--lower-replicas", "-j"))
    assert lowered["kept"] == []
    assert [(each["action"], each["kind"], each["name"]) for each in lowered["changes"]] == [
        ("update", kind, name) for kind, name in names
    ]


async def test_report_puts_the_largest_first(vigil: Vigil, declared: Declared) -> None:
    await declared.jetstream.publish("vigil.dlq.pii-worker", b"x" * 10_000)
    assert parsed(await vigil("streams", "report", "-j"))[0]["name"] == "VIGIL_DLQ"
    table = (await vigil("streams", "report")).stdout.splitlines()
    assert table[0].split()[:4] == ["Stream", "Storage", "Retention", "Consumers"]
    assert table[1].startswith("VIGIL_DLQ")


async def test_no_server_is_exit_code_3_and_says_where_it_was_looked_for(vigil: Vigil) -> None:
    result = await vigil("streams", "ls", at=f"nats://user:secret@127.0.0.1:{free_port()}")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "no answer from 127.0.0.1:" in result.stderr
    assert "secret" not in result.stderr
    nothing = await vigil("streams", "ls", at=None)
    assert nothing.exit_code == 3
    assert "server.json" in nothing.stderr


async def test_the_embedded_server_of_the_state_folder_is_found(vigil: Vigil, tmp_path: Path) -> None:
    embedded = EmbeddedNats(tmp_path / "state", "127.0.0.1", free_port())
    await embedded.start()
    assert (await vigil("streams", "ls", at=None)).exit_code == 0
    await embedded.stop()
    assert (await vigil("streams", "ls", at=None)).exit_code == 3


async def test_what_a_later_version_has_written_is_told_and_left_until_it_is_to_be_lowered(
    vigil: Vigil, declared: Declared
) -> None:
    jetstream, version = declared.jetstream, TOPOLOGY_VERSION + 1
    later = {VERSION_KEY: str(version)}
    stream = (await jetstream.stream_info("VIGIL_DLQ")).config
    await jetstream.update_stream(replace(stream, max_bytes=1_000_000, metadata=later))
    bucket = (await jetstream.stream_info("KV_VIGIL_KEYS")).config
    await jetstream.update_stream(replace(bucket, max_bytes=1_000_000, metadata=later))
    consumer = (await jetstream.consumer_info("VIGIL_DETECTION", "pii-worker")).config
    await jetstream.add_consumer("VIGIL_DETECTION", replace(consumer, ack_wait=99, metadata=later))

    listed = [*parsed(await vigil("streams", "ls", "-j")), *parsed(await vigil("consumers", "ls", "-j"))]
    assert {each["name"]: each["differences"] for each in listed if each["newer"] == version} == {
        "VIGIL_DLQ": [],
        "KV_VIGIL_KEYS": [],
        "pii-worker": [],
    }
    for shown in (("streams", "info", "VIGIL_DLQ"), ("consumers", "info", "pii-worker")):
        assert f"of a later version ({version})" in (await vigil(*shown)).stdout
    kept = [("stream", "VIGIL_DLQ"), ("consumer", "pii-worker"), ("bucket", "VIGIL_KEYS")]
    for options in ([], ["--dry-run"]):
        result = await vigil("streams", "apply", "-j", *options)
        told = json.loads(result.stdout)
        assert (result.exit_code, told["changes"]) == (Exit.KEPT, [])
        assert told["newer"] == [
            {"kind": kind, "name": name, "declared": TOPOLOGY_VERSION, "present": version} for kind, name in kept
        ]
    result = await vigil("streams", "apply")
    assert f"left consumer pii-worker as version {version} of the topology wrote it" in result.stdout
    assert "--lower-version" in result.stderr
    lowered = parsed(await vigil("streams", "apply", "--lower-version", "-j"))
    assert lowered["newer"] == []
    assert [(each["kind"], each["name"]) for each in lowered["changes"]] == kept
    assert {each["field"] for each in lowered["changes"][0]["differences"]} == {"max_bytes", "metadata"}
    assert "Nothing to change" in (await vigil("streams", "apply")).stdout
