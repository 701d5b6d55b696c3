"""`vigil dlq` on a real server: what is shown and what stays hidden, filters, counts, purge."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import JetStreamContext

from app.cli.dlq import AT_ONCE
from app.messaging.dead_letter_queue import DeadLetterQueue
from app.topology import Header
from tests.integration.cli.conftest import Declared, Vigil, parsed

pytestmark = pytest.mark.integration

SECRET = "Anna Nowak, PESEL 44051401359"
BRIEF = {
    *("sequence", "stored_at", "consumer", "error_type", "error_message", "subject", "deliveries", "request_id"),
    "size_bytes",
}


async def bury(
    declared: Declared,
    consumer: str = "pii-worker",
    error: str = "RuntimeError",
    subject: str = "vigil.pii.scan",
    **headers: str,
) -> int:
    """Put one entry into the queue as the service does; return its sequence."""
    ack = await declared.jetstream.publish(
        f"vigil.dlq.{consumer}",
        SECRET.encode(),
        headers={
            Header.DEAD_ERROR_TYPE: error,
            Header.DEAD_ERROR_MESSAGE: f"unexpected {error}",
            Header.DEAD_SUBJECT: subject,
            Header.DEAD_STREAM: "VIGIL_DETECTION",
            Header.DEAD_SEQUENCE: "1",
            Header.DEAD_DELIVERIES: "3",
            Header.CORRELATION_ID: "01a2146c-e010-7eb7-9348-782a803ad682",
            **headers,
        },
    )
    return ack.seq


def on_disk(folder: Path) -> int:
    """Count how often the payload stands in the queue's files."""
    blocks = [path.read_bytes() for path in folder.rglob("VIGIL_DLQ/msgs/*.blk")]
    return sum(block.count(SECRET.encode()) for block in blocks)


def sequences(listed: list[dict[str, Any]]) -> list[int]:
    return [each["sequence"] for each in listed]


async def test_ls_tells_everything_but_the_payload(vigil: Vigil, declared: Declared) -> None:
    await bury(declared)
    [entry] = parsed(await vigil("dlq", "ls", "-j"))
    assert set(entry) == BRIEF
    assert (entry["consumer"], entry["error_type"], entry["deliveries"]) == ("pii-worker", "RuntimeError", 3)
    assert entry["size_bytes"] == len(SECRET)
    assert entry["request_id"] == "01a2146c-e010-7eb7-9348-782a803ad682"
    for command in (("ls",), ("ls", "-j"), ("stats",), ("show", "1"), ("show", "1", "-j"), ("purge", "1", "--dry-run")):
        assert "Nowak" not in (await vigil("dlq", *command)).output


@pytest.mark.parametrize("status", ["100", "404", "503"])
async def test_an_entry_whose_sender_wrote_the_servers_own_header_ends_no_listing(
    vigil: Vigil, declared: Declared, status: str
) -> None:
    await bury(declared)
    await bury(declared, Status=status)
    await bury(declared)
    assert sequences(parsed(await vigil("dlq", "ls", "-j"))) == [1, 2, 3]


async def test_show_shows_headers_and_on_request_the_payload(vigil: Vigil, declared: Declared) -> None:
    await bury(declared, **{"X-Own": "zażółć"})
    assert parsed(await vigil("dlq", "show", "1", "-j"))["headers"]["X-Own"] == "zażółć"
    assert parsed(await vigil("dlq", "show", "1", "-j", "--payload"))["payload"] == SECRET
    assert SECRET in (await vigil("dlq", "show", "1", "--payload")).stdout


async def test_what_strangers_write_does_not_reach_the_terminal_as_control_characters(
    vigil: Vigil, declared: Declared
) -> None:
    await bury(declared, **{"X-Own": "\x1b[2J"})
    assert "\x1b" not in (await vigil("dlq", "show", "1")).stdout


async def test_an_entry_that_is_not_there_is_exit_code_1(vigil: Vigil, declared: Declared) -> None:
    result = await vigil("dlq", "show", "7")
    assert (result.exit_code, result.stderr) == (1, "vigil: the dead-letter queue has no entry 7\n")


@pytest.mark.parametrize(("gone", "listed"), [(False, [1, 2]), (True, [])])
async def test_a_list_ends_where_nothing_is_left_and_not_where_the_server_is_slow(
    vigil: Vigil, declared: Declared, monkeypatch: pytest.MonkeyPatch, gone: bool, listed: list[int]
) -> None:
    for _ in range(2):
        await bury(declared)
    slow = [True]
    fetch = JetStreamContext.PullSubscription.fetch

    async def late(reader: Any, *arguments: Any) -> Any:
        if not slow:
            return await fetch(reader, *arguments)
        slow.clear()
        if gone:
            await reader._js.purge_stream("VIGIL_DLQ")
        raise NatsTimeoutError

    monkeypatch.setattr(JetStreamContext.PullSubscription, "fetch", late)
    assert sequences(parsed(await vigil("dlq", "ls", "-j"))) == listed


async def test_filters_narrow_down_by_consumer_error_subject_and_age(vigil: Vigil, declared: Declared) -> None:
    await bury(declared)
    await bury(declared, "detection-worker", "InvalidRequest", "vigil.guard.input")
    await bury(declared, "detection-worker", "RuntimeError", "vigil.guard.tool")
    middle = datetime.now(UTC).isoformat()
    await bury(declared, "logging-worker", "EventLogUnavailable", "vigil.logs.event")

    async def found(*options: str) -> list[int]:
        return sequences(parsed(await vigil("dlq", "ls", "-j", *options)))

    assert await found() == [1, 2, 3, 4]
    assert await found("--consumer", "detection-worker") == [2, 3]
    assert await found("--error", "runtimeerror") == [1, 3]
    assert await found("--subject", "vigil.guard.*") == [2, 3]
    assert await found("--subject", "vigil.guard.*", "--error", "RuntimeError") == [3]
    assert await found("--since", middle) == [4]
    assert await found("--before", middle) == [1, 2, 3]
    assert await found("--since", "1h") == [1, 2, 3, 4]
    assert await found("--before", "1h") == []
    assert await found("--limit", "2") == [3, 4]
    assert await found("--consumer", "nobody") == []


async def test_more_entries_than_one_fetch_are_all_read(vigil: Vigil, declared: Declared) -> None:
    for _ in range(600):
        await declared.client.publish("vigil.dlq.pii-worker", b"{}")
    await bury(declared)
    assert len(parsed(await vigil("dlq", "ls", "-j", "--limit", "1000"))) == 601
    assert "The newest 50 of 601" in (await vigil("dlq", "ls")).stderr
    assert (await declared.jetstream.stream_info("VIGIL_DLQ")).state.consumer_count == 0


async def test_stats_count_by_consumer_and_error_and_over_time(vigil: Vigil, declared: Declared) -> None:
    for _ in range(3):
        await bury(declared)
    await bury(declared, "detection-worker", "InvalidRequest")
    counted = parsed(await vigil("dlq", "stats", "-j"))
    assert (counted["total"], counted["bytes"]) == (4, 4 * len(SECRET))
    assert [(each["consumer"], each["error_type"], each["count"]) for each in counted["errors"]] == [
        ("pii-worker", "RuntimeError", 3),
        ("detection-worker", "InvalidRequest", 1),
    ]
    assert sum(each["count"] for each in counted["periods"]) == 4
    assert "4 dead letters" in (await vigil("dlq", "stats")).stdout


async def test_an_empty_queue_is_no_problem(vigil: Vigil, declared: Declared) -> None:
    assert parsed(await vigil("dlq", "ls", "-j")) == []
    assert parsed(await vigil("dlq", "stats", "-j"))["total"] == 0
    assert parsed(await vigil("dlq", "replay", "--all", "-j", "-f"))["replayed"] == 0
    assert parsed(await vigil("dlq", "purge", "--all", "-j", "-f")) == {
        "removed": 0,
        "not_found": [],
        "interrupted": False,
    }


async def test_purge_asks_first(vigil: Vigil, declared: Declared) -> None:
    await bury(declared)
    refused = await vigil("dlq", "purge", "--all", stdin="n\n")
    assert refused.exit_code == 1
    assert "Remove 1 dead letters for good?" in refused.output
    assert len(parsed(await vigil("dlq", "ls", "-j"))) == 1
    assert (await vigil("dlq", "purge", "--all", stdin="y\n")).exit_code == 0
    assert parsed(await vigil("dlq", "ls", "-j")) == []


async def test_purge_removes_what_the_filters_leave(vigil: Vigil, declared: Declared) -> None:
    await bury(declared)
    await bury(declared, "detection-worker", "InvalidRequest")
    await bury(declared)
    planned = parsed(await vigil("dlq", "purge", "--all", "--error", "RuntimeError", "--dry-run", "-j"))
    assert sequences(planned) == [1, 3]
    removed = parsed(await vigil("dlq", "purge", "--all", "--error", "RuntimeError", "-f", "-j"))
    assert removed == {"removed": 2, "not_found": [], "interrupted": False}
    assert sequences(parsed(await vigil("dlq", "ls", "-j"))) == [2]
    again = await vigil("dlq", "purge", "1", "2", "-f", "-j")
    assert (again.exit_code, parsed(again)) == (1, {"removed": 1, "not_found": [1], "interrupted": False})


@pytest.mark.parametrize("shown", [("-j",), ()], ids=["json", "text"])
async def test_a_purge_that_is_interrupted_says_how_much_it_removed(
    vigil: Vigil, declared: Declared, monkeypatch: pytest.MonkeyPatch, shown: tuple[str, ...]
) -> None:
    for _ in range(AT_ONCE + 4):
        await bury(declared)
    stops: list[asyncio.Event] = []
    remove = DeadLetterQueue.remove

    @contextmanager
    def signals() -> Iterator[asyncio.Event]:
        stops.append(asyncio.Event())
        yield stops[0]

    async def interrupted(queue: DeadLetterQueue, sequence: int, **options: Any) -> bool:
        stops[0].set()
        return await remove(queue, sequence, **options)

    monkeypatch.setattr("app.cli.dlq.stopped_by_signals", signals)
    monkeypatch.setattr(DeadLetterQueue, "remove", interrupted)
    result = await vigil("dlq", "purge", "--all", "-f", *shown)
    assert result.exit_code == 130
    assert "run the same command again for the rest" in result.stderr
    if shown:
        assert json.loads(result.stdout) == {"removed": AT_ONCE, "not_found": [], "interrupted": True}
    else:
        assert result.stdout == f"{AT_ONCE} removed.\n"
    assert (await declared.jetstream.stream_info("VIGIL_DLQ")).state.messages == 4


@pytest.mark.parametrize(("options", "left"), [((), True), (("--overwrite",), False)])
async def test_purge_writes_over_the_bytes_on_request(
    vigil: Vigil, declared: Declared, tmp_path: Path, options: tuple[str, ...], left: bool
) -> None:
    await bury(declared)
    await bury(declared, error="Other")
    await vigil("dlq", "purge", "--all", "--error", "Other", "-f", *options)
    assert on_disk(tmp_path) == (2 if left else 1)


@pytest.mark.parametrize("command", ["replay", "purge"])
async def test_neither_sequences_nor_all_is_a_usage_error(vigil: Vigil, command: str) -> None:
    assert (await vigil("dlq", command)).exit_code == 2
    assert (await vigil("dlq", command, "3", "--all")).exit_code == 2


@pytest.mark.parametrize("name", ["a b", "*", "", "pii-worker."])
@pytest.mark.parametrize("command", [("ls",), ("stats",), ("replay", "--all"), ("purge", "--all")])
async def test_what_can_be_no_consumer_is_refused_by_the_options_name(
    vigil: Vigil, command: tuple[str, ...], name: str
) -> None:
    refused = await vigil("dlq", *command, "--consumer", name, at=None)
    assert refused.exit_code == 2
    assert "--consumer" in refused.stderr
    assert "no name of a consumer" in refused.stderr


async def test_a_missing_queue_is_named(vigil: Vigil, declared: Declared) -> None:
    await declared.jetstream.delete_stream("VIGIL_DLQ")
    result = await vigil("dlq", "ls")
    assert result.exit_code == 1
    assert "stream not found" in result.stderr
