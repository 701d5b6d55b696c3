"""`vigil dlq replay` on a real server: every entry is decided once, whatever interrupts or repeats the command."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from nats.js.api import RawStreamMsg

from app.contracts import DecideJob, Envelope, GuardAnswer, GuardRequest, Problem, ScanJob
from app.errors import InvalidRequest
from app.identity import new_request_id, now
from app.messaging.admin import Admin
from app.messaging.backbone import Backbone
from app.messaging.dead_letter_queue import DeadLetterQueue, replay_headers
from app.messaging.decisions import wait_for
from app.settings import Settings
from app.topology import Header
from tests.integration.cli.conftest import Declared, Vigil, parsed
from tests.integration.cli.test_dlq import bury
from tests.integration.messaging.conftest import EmptyArchive, Running
from tests.support import PlainWorkers, eventually

pytestmark = pytest.mark.integration


async def fail(_: GuardRequest) -> None:
    raise InvalidRequest("not now")


async def fill(running: Running, count: int) -> list[UUID]:
    """Let so many requests fail in the detection worker; return their ids."""
    running.plain.before_detect = fail
    ids = [await running.gateway.submit(GuardRequest(text=f"text {number}", mode="fast")) for number in range(count)]
    await eventually(lambda: has_dead_letters(running, count), within_s=60)
    running.plain.before_detect = None
    running.plain.requests.clear()
    return ids


async def has_dead_letters(running: Running, count: int) -> bool:
    return await running.dead_letters() == count


async def all_recorded(running: Running, count: int) -> bool:
    return len(running.plain.records) >= count and await running.idle()


def handled(running: Running) -> Counter[UUID | None]:
    """Count how often each request reached the detection worker."""
    return Counter(request.request_id for request in running.plain.requests)


async def test_a_thousand_entries_end_with_a_thousand_decisions_and_an_empty_queue_also_when_run_twice(
    vigil: Vigil, running: Running
) -> None:
    ids = await fill(running, 1000)
    told = parsed(await vigil("dlq", "replay", "--all", "-f", "-j"))
    assert (told["replayed"], told["already_replayed"], told["failed"], told["interrupted"]) == (1000, 0, 0, False)
    again = parsed(await vigil("dlq", "replay", "--all", "-f", "-j"))
    assert again["entries"] == []
    await eventually(lambda: all_recorded(running, 1000), within_s=60)
    assert await running.dead_letters() == 0
    assert sorted(record.answer.request_id for record in running.plain.records) == sorted(ids)
    assert set(handled(running).values()) == {1}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["killed", "ctrl-c"])
async def test_a_replay_that_is_interrupted_is_finished_by_the_next_and_replays_nothing_twice(
    vigil: Vigil, running: Running, server: str, number: signal.Signals
) -> None:
    count = 3_000  # So many that none is done before it is interrupted.
    ids = await fill(running, count)
    command = [sys.executable, "-m", "app.cli", "-s", server, "dlq", "replay", "--all", "-f", "-j"]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=dict(os.environ)
    )

    async def under_way() -> bool:
        return await running.dead_letters() < count

    await eventually(under_way, within_s=30)
    process.send_signal(number)
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    left = await running.dead_letters()
    assert 0 < left < count
    if number is signal.SIGINT:
        assert process.returncode == 130
        told = json.loads(output)
        assert told["interrupted"] is True
        assert (told["replayed"], told["failed"]) == (count - left, 0)
    rest = parsed(await vigil("dlq", "replay", "--all", "-f", "-j"))
    assert rest["replayed"] + rest["already_replayed"] == left
    await eventually(lambda: all_recorded(running, count), within_s=60)
    assert await running.dead_letters() == 0
    assert sorted(record.answer.request_id for record in running.plain.records) == sorted(ids)
    assert set(handled(running).values()) == {1}


async def test_an_interruption_is_told_beside_entries_that_are_not_there(
    vigil: Vigil, declared: Declared, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def at_once() -> Iterator[asyncio.Event]:
        stop = asyncio.Event()
        stop.set()
        yield stop

    await bury(declared)
    monkeypatch.setattr("app.cli.dlq.stopped_by_signals", at_once)
    told = await vigil("dlq", "replay", "1", "2", "-j")
    assert (told.exit_code, json.loads(told.stdout)["interrupted"]) == (130, True)


async def test_two_operators_at_once_replay_each_entry_once(vigil: Vigil, running: Running) -> None:
    ids = await fill(running, 300)
    both = await asyncio.gather(*(replay_in_a_process(running) for _ in range(2)))
    assert sum(told["replayed"] for told in both) == 300
    assert sum(told["failed"] for told in both) == 0
    await eventually(lambda: all_recorded(running, 300), within_s=60)
    assert sorted(record.answer.request_id for record in running.plain.records) == sorted(ids)
    assert set(handled(running).values()) == {1}


async def replay_in_a_process(running: Running) -> dict[str, Any]:
    url = running.client.connected_url
    assert url is not None
    command = [sys.executable, "-m", "app.cli", "-s", url.geturl(), "dlq", "replay", "--all", "-f", "-j"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, env=dict(os.environ))
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    told: dict[str, Any] = json.loads(output)
    return told


async def test_an_entry_that_was_published_but_not_removed_is_removed_and_not_published_again(
    vigil: Vigil, running: Running, quick_settings: Settings
) -> None:
    """What a run that died between the two steps leaves behind."""
    [request_id] = await fill(running, 1)
    async with Admin.opened(quick_settings) as admin:
        entry, payload = await DeadLetterQueue(admin, 5).read(1)
    await running.jetstream.publish(entry.subject, payload, headers=replay_headers(entry))
    await eventually(lambda: all_recorded(running, 1))
    told = parsed(await vigil("dlq", "replay", "1", "-j"))
    assert (told["replayed"], told["already_replayed"]) == (0, 1)
    assert await running.dead_letters() == 0
    assert await running.idle()
    assert handled(running) == {request_id: 1}


async def test_an_entry_of_a_queue_made_anew_is_not_taken_for_an_earlier_one(vigil: Vigil, declared: Declared) -> None:
    """Sequences begin at 1 again, within the duplicate window of the work queue."""
    for _ in range(2):
        assert await bury(declared) == 1
        assert parsed(await vigil("dlq", "replay", "1", "-j"))["replayed"] == 1
        config = (await declared.jetstream.stream_info("VIGIL_DLQ")).config
        await declared.jetstream.delete_stream("VIGIL_DLQ")
        await declared.jetstream.add_stream(config)
    assert (await declared.jetstream.stream_info("VIGIL_DETECTION")).state.messages == 2


async def test_the_message_keeps_payload_request_id_and_own_headers_and_loses_burial_deadline_and_inbox(
    vigil: Vigil, declared: Declared
) -> None:
    arrival = now().isoformat()
    await bury(
        declared,
        **{
            Header.RECEIVED_AT: arrival,
            Header.DEADLINE: arrival,
            Header.REPLY_TO: "_INBOX.gone.1",
            Header.MESSAGE_ID: "dead:VIGIL_DETECTION:1",
            "X-Own": "zażółć",
        },
    )
    buried = await declared.jetstream.get_msg("VIGIL_DLQ", 1)
    told = parsed(await vigil("dlq", "replay", "1", "-j"))
    assert told["entries"] == [
        {
            "sequence": 1,
            "outcome": "replayed",
            "subject": "vigil.pii.scan",
            "request_id": "01a2146c-e010-7eb7-9348-782a803ad682",
            "reason": None,
        }
    ]
    sent: RawStreamMsg = await declared.jetstream.get_msg("VIGIL_DETECTION", 1)
    assert (sent.subject, sent.data) == ("vigil.pii.scan", buried.data)
    headers = sent.headers or {}
    assert headers.pop(Header.MESSAGE_ID) == headers.pop(Header.ATTEMPT)
    assert set(headers) == {Header.CORRELATION_ID, Header.RECEIVED_AT, "X-Own", "Nats-Expected-Stream"}
    assert headers[Header.RECEIVED_AT] == arrival


async def test_a_request_whose_deadline_has_passed_is_judged_and_not_expired(vigil: Vigil, running: Running) -> None:
    running.plain.before_detect = fail
    request_id = new_request_id()
    await running.jetstream.publish(
        "vigil.guard.input",
        GuardRequest(text="hello", request_id=request_id).model_dump_json().encode(),
        headers={Header.DEADLINE: (now() - timedelta(seconds=1)).isoformat()},
    )
    await eventually(lambda: has_dead_letters(running, 1))
    running.plain.before_detect = None
    assert parsed(await vigil("dlq", "replay", "--all", "-f", "-j"))["replayed"] == 1
    record = await wait_for(running.backbone.decisions, request_id, 10)
    assert record.answer.decision == "ALLOWED"


async def test_the_id_that_its_caller_was_told_stays_where_the_senders_own_is_none(
    vigil: Vigil, running: Running
) -> None:
    """Such a request is known by its place in the stream, and its replay has another place."""
    running.plain.before_detect = fail
    inbox = await running.client.subscribe("_INBOX.caller.1")
    headers = {Header.CORRELATION_ID: "order-17", Header.REPLY_TO: "_INBOX.caller.1"}
    await running.jetstream.publish("vigil.guard.input", b'{"text": "hello"}', headers=headers)
    told = Problem.model_validate_json((await inbox.next_msg(timeout=10)).data)
    await eventually(lambda: has_dead_letters(running, 1))
    running.plain.before_detect = None
    assert parsed(await vigil("dlq", "replay", "1", "-j"))["entries"][0]["request_id"] == str(told.request_id)
    await eventually(lambda: all_recorded(running, 1))
    assert [record.answer.request_id for record in running.plain.records] == [told.request_id]


async def test_what_no_consumer_takes_stays_in_the_queue_and_is_exit_code_1(vigil: Vigil, declared: Declared) -> None:
    await bury(declared, "unrouted", "Unrouted", "vigil.guard.a.b")
    await declared.jetstream.publish("vigil.dlq.pii-worker", b"of a stranger")
    result = await vigil("dlq", "replay", "--all", "-f", "-j")
    told = parsed(result)
    assert result.exit_code == 1
    assert [each["reason"] for each in told["entries"]] == [
        "no consumer takes vigil.guard.a.b",
        "it does not say its original subject",
    ]
    assert (await declared.jetstream.stream_info("VIGIL_DLQ")).state.messages == 2
    assert (await declared.jetstream.stream_info("VIGIL_DETECTION")).state.messages == 0


async def test_an_entry_that_the_work_queue_does_not_take_stays_in_the_queue(vigil: Vigil, declared: Declared) -> None:
    await bury(declared)
    config = (await declared.jetstream.stream_info("VIGIL_DETECTION")).config
    config.max_msg_size = 10
    await declared.jetstream.update_stream(config)
    told = parsed(await vigil("dlq", "replay", "1", "-j"))
    assert told["failed"] == 1
    assert "exceeds maximum" in told["entries"][0]["reason"]
    assert (await declared.jetstream.stream_info("VIGIL_DLQ")).state.messages == 1


async def test_filters_limit_and_dry_run_choose_what_is_replayed(vigil: Vigil, declared: Declared) -> None:
    await bury(declared)
    await bury(declared, "arbiter-worker", "RuntimeError", "vigil.arbiter.decide")
    await bury(declared)
    chosen = ("dlq", "replay", "--all", "--consumer", "pii-worker", "--limit", "1")
    assert [each["sequence"] for each in parsed(await vigil(*chosen, "--dry-run", "-j"))] == [1]
    assert (await declared.jetstream.stream_info("VIGIL_DLQ")).state.messages == 3
    assert [each["sequence"] for each in parsed(await vigil(*chosen, "-f", "-j"))["entries"]] == [1]
    refused = await vigil("dlq", "replay", "--all", stdin="n\n")
    assert (refused.exit_code, "Replay 2 dead letters?" in refused.output) == (1, True)
    missing = await vigil("dlq", "replay", "1", "3", "-j")
    assert missing.exit_code == 1
    assert [(each["sequence"], each["outcome"]) for each in parsed(missing)["entries"]] == [
        (1, "failed"),
        (3, "replayed"),
    ]


async def test_an_entry_whose_first_run_had_passed_its_stage_gets_the_first_decision(
    vigil: Vigil, running: Running
) -> None:
    """The replay goes all the way, and the decision that stands is the first one's."""
    request = GuardRequest(text="hello", request_id=uuid4())
    first = GuardAnswer.model_validate_json(await running.gateway.guard(request))
    await eventually(running.idle)
    await bury_request(running, request)
    assert parsed(await vigil("dlq", "replay", "--all", "-f", "-j"))["replayed"] == 1
    await eventually(lambda: all_recorded(running, 2))
    assert [record.answer for record in running.plain.records] == [first, first]
    assert await running.dead_letters() == 0


async def test_an_entry_whose_first_run_got_as_far_as_the_next_stage_and_was_lost_there_gets_its_decision(
    vigil: Vigil, running: Running
) -> None:
    """The next stage's message id is used up, within the duplicate window, and nothing of it is left."""
    request = GuardRequest(text="hello", request_id=uuid4())
    lost = await running.jetstream.publish(
        "vigil.pii.scan", b"not JSON", headers={Header.MESSAGE_ID: f"{request.request_id}:vigil.pii.scan"}
    )
    assert not lost.duplicate
    await eventually(lambda: has_dead_letters(running, 1))
    await vigil("dlq", "purge", "--all", "-f")
    await bury_request(running, request)
    assert parsed(await vigil("dlq", "replay", "--all", "-f", "-j"))["replayed"] == 1
    await eventually(lambda: all_recorded(running, 1))
    assert [record.answer.request_id for record in running.plain.records] == [request.request_id]


async def bury_request(running: Running, request: GuardRequest) -> None:
    await running.jetstream.publish(
        "vigil.dlq.detection-worker",
        request.model_dump_json().encode(),
        headers={Header.DEAD_SUBJECT: "vigil.guard.input", Header.CORRELATION_ID: str(request.request_id)},
    )


async def test_an_entry_of_a_later_stage_is_decided_although_the_stage_before_has_used_its_id(
    vigil: Vigil, declared: Declared, quick_settings: Settings
) -> None:
    """Detection has forwarded `<request id>:vigil.pii.scan`; the replay travels under an id of its own."""
    plain, broken = PlainWorkers(), True

    async def scan(job: ScanJob, envelope: Envelope) -> DecideJob:
        if broken:
            raise InvalidRequest("not now")
        return await plain.scan(job, envelope)

    backbone = Backbone(replace(plain.workers(), scan=scan), quick_settings, version="0.0.0")
    await backbone.start()
    await backbone.start_logging(EmptyArchive())
    running = Running(backbone, plain, declared.client, declared.jetstream)
    request_id = await running.gateway.submit(GuardRequest(text="hello"))
    await eventually(lambda: has_dead_letters(running, 1))
    [entry] = parsed(await vigil("dlq", "ls", "-j"))
    assert (entry["consumer"], entry["subject"]) == ("pii-worker", "vigil.pii.scan")
    broken = False
    assert parsed(await vigil("dlq", "replay", "--all", "-f", "-j"))["replayed"] == 1
    await eventually(lambda: all_recorded(running, 1))
    assert [record.answer.request_id for record in plain.records] == [request_id]
    assert plain.stages == ["detect", "scan", "arbitrate", "record"]
    await backbone.stop()


async def test_an_entry_that_fails_again_comes_back_with_a_new_sequence_and_can_be_replayed_again(
    vigil: Vigil, running: Running
) -> None:
    [request_id] = await fill(running, 1)
    running.plain.before_detect = fail
    assert parsed(await vigil("dlq", "replay", "1", "-j"))["replayed"] == 1

    async def is_back() -> bool:
        return [each["sequence"] for each in parsed(await vigil("dlq", "ls", "-j"))] == [2]

    await eventually(is_back)
    running.plain.before_detect = None
    assert parsed(await vigil("dlq", "replay", "2", "-j"))["replayed"] == 1
    await eventually(lambda: all_recorded(running, 1))
    assert [record.answer.request_id for record in running.plain.records] == [request_id]
    assert await running.dead_letters() == 0
