"""What only a real server shows: redelivery, dead letters, deduplication, replies, lost and late callers."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from nats.js.api import ConsumerConfig
from nats.js.errors import APIError

from app.access.principal import Principal
from app.contracts import DecisionRecord, GuardAnswer, GuardRequest, RestoreAnswer
from app.errors import DecisionTimeout, InvalidRequest, Overloaded, ProblemReply, RequestIdConflict
from app.identity import new_request_id, now, text_digest
from app.messaging import gateway, subscribers
from app.messaging.admission import Admission
from app.messaging.decisions import DecisionStore, wait_for
from app.telemetry import metrics
from app.topology import DETECTION_WORKER, LOGGING_WORKER, Header
from tests.integration.messaging.conftest import Running
from tests.metric_values import growth_of
from tests.support import eventually

pytestmark = pytest.mark.integration


async def test_a_request_is_decided_recorded_and_leaves_nothing_behind(running: Running) -> None:
    answer = GuardAnswer.model_validate_json(await running.gateway.guard(GuardRequest(text="hello")))
    await eventually(running.idle)
    assert [record.answer for record in running.plain.records] == [answer]
    assert running.plain.stages == ["detect", "scan", "arbitrate", "record"]


async def test_a_handler_that_fails_twice_succeeds_at_the_third_delivery(running: Running) -> None:
    tries = 0

    async def fail_twice(_: GuardRequest) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise RuntimeError

    running.plain.before_detect = fail_twice
    await running.gateway.guard(GuardRequest(text="hello"))
    assert tries == 3
    assert await running.dead_letters() == 0


async def test_a_handler_that_always_fails_leads_to_one_dead_letter_with_the_payload_unchanged(
    running: Running,
) -> None:
    async def fail(_: GuardRequest) -> None:
        raise RuntimeError("the text itself")

    running.plain.before_detect = fail
    request_id = new_request_id()
    body = json.dumps({"text": "hello", "request_id": str(request_id)}).encode()
    await running.jetstream.publish("vigil.guard.input", body, headers={"X-Own": "kept"})
    await eventually(running.idle)
    assert await running.dead_letters() == 1
    dead = await running.jetstream.get_last_msg("VIGIL_DLQ", "vigil.dlq.detection-worker")
    assert dead.data == body
    headers = dead.headers or {}
    assert headers[Header.DEAD_ERROR_TYPE] == "RuntimeError"
    assert "text itself" not in headers[Header.DEAD_ERROR_MESSAGE]
    assert headers[Header.DEAD_SUBJECT] == "vigil.guard.input"
    assert headers[Header.DEAD_STREAM] == "VIGIL_DETECTION"
    assert headers[Header.DEAD_SEQUENCE] == "1"
    assert headers[Header.DEAD_DELIVERIES] == "3"
    assert headers[Header.CORRELATION_ID] == str(request_id)
    assert headers["X-Own"] == "kept"


async def test_what_waits_for_the_event_log_is_kept_from_redelivery_in_time(running: Running) -> None:
    assert running.backbone.pipeline is not None
    keep_s = running.backbone.pipeline.logging_subscriber.subscription._keep_s
    assert 0 < keep_s <= LOGGING_WORKER.ack_wait.total_seconds() / 4


async def test_a_caller_whose_request_is_dead_lettered_is_told_at_once(running: Running) -> None:
    async def refuse(_: GuardRequest) -> None:
        raise InvalidRequest("no such policy", field="policy")

    running.plain.before_detect = refuse
    with pytest.raises(ProblemReply) as caught:
        await running.gateway.guard(GuardRequest(text="hello"))
    assert caught.value.problem.status == 422


async def test_a_request_that_failed_after_its_caller_had_gone_can_be_sent_again_under_its_id(running: Running) -> None:
    failing = asyncio.Event()

    async def refuse_late(_: GuardRequest) -> None:
        await failing.wait()
        raise InvalidRequest("no such policy", field="policy")

    running.plain.before_detect = refuse_late
    request = GuardRequest(text="hello", request_id=uuid4(), deadline_ms=50)
    with pytest.raises(DecisionTimeout):
        await running.gateway.guard(request)
    failing.set()
    await eventually(running.idle)
    again = request.model_copy(update={"deadline_ms": 5000})
    for _ in range(2):
        with pytest.raises(ProblemReply):
            await running.gateway.guard(again)
    running.plain.before_detect = None
    assert GuardAnswer.model_validate_json(await running.gateway.guard(again)).request_id == request.request_id
    assert await running.dead_letters() == 3


async def test_a_failed_request_that_nobody_waits_for_can_be_sent_again_under_its_id(running: Running) -> None:
    async def refuse(_: GuardRequest) -> None:
        raise InvalidRequest("no such policy", field="policy")

    running.plain.before_detect = refuse
    request = GuardRequest(text="hello", request_id=uuid4())
    await running.gateway.submit(request)
    await eventually(running.idle)
    running.plain.before_detect = None
    request_id = await running.gateway.submit(request)
    assert (await wait_for(running.backbone.decisions, request_id, 5)).answer.decision == "ALLOWED"


async def test_the_same_request_id_gets_the_same_decision_and_one_record(running: Running) -> None:
    request = GuardRequest(text="hello", request_id=uuid4())
    together = await asyncio.gather(*(running.gateway.guard(request) for _ in range(5)))
    later = await running.gateway.guard(request)
    assert set(together) == {later}
    await eventually(running.idle)
    assert len(running.plain.records) == 1


async def test_the_same_request_id_with_another_text_is_refused(running: Running) -> None:
    request_id = uuid4()
    await running.gateway.guard(GuardRequest(text="hello", request_id=request_id))
    with pytest.raises(RequestIdConflict):
        await running.gateway.guard(GuardRequest(text="other", request_id=request_id))


async def test_a_second_caller_of_a_published_request_gets_the_decision_too(running: Running) -> None:
    """Both publish to the stream themselves, without a message id: only the hop behind detection finds the repeat."""
    body = json.dumps({"text": "hello", "mode": "fast", "request_id": str(uuid4())}).encode()
    answers = []
    for _ in range(2):
        inbox = running.client.new_inbox()
        replies = await running.client.subscribe(inbox)
        await running.jetstream.publish("vigil.guard.input", body, headers={Header.REPLY_TO: inbox})
        answers.append((await replies.next_msg(5)).data)
    assert answers[0] == answers[1]
    await eventually(running.idle)
    assert len(running.plain.records) == 1


async def test_a_decision_that_comes_too_late_can_be_read_afterwards(running: Running) -> None:
    release = asyncio.Event()

    async def hold(_: GuardRequest) -> None:
        await release.wait()

    running.plain.before_detect = hold
    request_id = uuid4()
    with pytest.raises(DecisionTimeout):
        await running.gateway.guard(GuardRequest(text="hello", request_id=request_id, deadline_ms=50))
    release.set()
    record = await wait_for(running.backbone.decisions, request_id, 5)
    assert record.answer.request_id == request_id


async def test_a_submitted_request_is_decided_without_a_caller(running: Running) -> None:
    request_id = await running.gateway.submit(GuardRequest(text="hello"))
    record = await wait_for(running.backbone.decisions, request_id, 5)
    assert record.answer.request_id == request_id


async def test_a_plain_request_over_nats_gets_a_decision(running: Running) -> None:
    reply = await running.client.request("vigil.api.guard", b'{"text": "hello"}', timeout=5)
    assert GuardAnswer.model_validate_json(reply.data).decision == "ALLOWED"


async def test_a_plain_request_that_cannot_be_judged_gets_a_problem(running: Running) -> None:
    reply = await running.client.request("vigil.api.guard", b'{"text": ""}', timeout=5)
    assert (reply.headers or {})["Nats-Service-Error-Code"] == "422"
    assert json.loads(reply.data)["errors"][0]["field"] == "text"


async def test_a_text_is_restored_over_nats(running: Running) -> None:
    reply = await running.client.request("vigil.api.restore", b'{"text": "hi", "restore_map": "v1.plain"}', timeout=5)
    assert RestoreAnswer.model_validate_json(reply.data).text == 10 * "hi"
    reply = await running.client.request("vigil.api.restore", b'{"text": "hi", "restore_map": "v1.else"}', timeout=5)
    assert (reply.headers or {})["Nats-Service-Error-Code"] == "422"
    assert json.loads(reply.data)["errors"][0]["field"] == "restore_map"
    large = json.dumps({"text": 99_990 * "h", "restore_map": "v1.plain"}).encode()
    reply = await running.client.request("vigil.api.restore", large, timeout=5)
    assert len(reply.data) > 999_900
    larger = json.dumps({"text": 100_000 * "h", "restore_map": "v1.plain"}).encode()
    reply = await running.client.request("vigil.api.restore", larger, timeout=5)
    assert (reply.headers or {})["Nats-Service-Error-Code"] == "413"


async def test_plain_requests_do_not_wait_for_each_other(running: Running) -> None:
    release = asyncio.Event()

    async def hold_the_slow(request: GuardRequest) -> None:
        if request.text == "slow":
            await release.wait()

    running.plain.before_detect = hold_the_slow
    slow = asyncio.create_task(running.client.request("vigil.api.guard", b'{"text": "slow"}', timeout=5))
    await running.client.request("vigil.api.guard", b'{"text": "quick"}', timeout=3)
    assert not slow.done()
    release.set()
    await slow


async def test_an_unknown_decision_asked_over_nats_is_none(running: Running) -> None:
    assert await running.backbone.remote_archive.find(uuid4()) is None


async def test_a_message_larger_than_the_limit_is_not_accepted(running: Running) -> None:
    """What is accepted must also fit the dead-letter queue, whose headers come on top."""
    with pytest.raises(APIError, match="maximum allowed"):
        await running.jetstream.publish("vigil.guard.input", b"x" * 1_000_001)


async def test_the_largest_accepted_poison_fits_the_dead_letter_queue(running: Running) -> None:
    await running.jetstream.publish("vigil.guard.input", b"x" * 999_000)
    await eventually(running.idle)
    assert await running.dead_letters() == 1


async def test_log_events_are_written_in_batches(running: Running) -> None:
    await asyncio.gather(*(running.gateway.guard(GuardRequest(text=f"text {n}", mode="fast")) for n in range(100)))
    await eventually(running.idle)
    assert len(running.plain.records) == 100
    assert running.plain.stages.count("record") < 50


async def test_work_longer_than_ack_wait_is_not_delivered_again(running: Running) -> None:
    """With an ack_wait of one second, three seconds of work and more would be delivered again without heartbeats."""
    short = replace(DETECTION_WORKER, ack_wait=timedelta(seconds=1))
    info = await running.jetstream.consumer_info("VIGIL_DETECTION", "detection-worker")
    await running.jetstream.add_consumer("VIGIL_DETECTION", ConsumerConfig(**{**vars(info.config), "ack_wait": 1}))
    assert running.backbone.pipeline is not None
    consumers = running.backbone.pipeline.delivery.consumers
    for family in short.families:
        consumers[family] = short
    started = 0
    done = asyncio.Event()

    async def work_slowly(_: GuardRequest) -> None:
        nonlocal started
        started += 1
        await asyncio.wait_for(done.wait(), 10)

    running.plain.before_detect = work_slowly
    waiting = asyncio.create_task(running.gateway.guard(GuardRequest(text="slow", mode="fast")))

    sent = metrics.HEARTBEATS.labels("detection-worker")
    before = sent._value.get()

    async def beaten_for_longer_than_three_ack_waits() -> bool:
        return bool(sent._value.get() - before >= 7)

    await eventually(beaten_for_longer_than_three_ack_waits)
    done.set()
    await waiting
    assert started == 1


async def test_records_can_be_read_back(running: Running) -> None:
    answer = await running.gateway.guard(GuardRequest(text="hello", metadata={"a": 1, "b": True, "c": None}))
    record = await running.backbone.decisions.find(GuardAnswer.model_validate_json(answer).request_id)
    assert isinstance(record, DecisionRecord)
    assert record.metadata == {"a": 1, "b": True, "c": None}


async def test_a_request_whose_caller_is_long_gone_is_recorded_as_expired_and_not_judged(running: Running) -> None:
    request_id = uuid4()
    body = json.dumps({"text": "hello", "request_id": str(request_id)}).encode()
    long_ago = (now() - timedelta(seconds=60)).isoformat()
    await running.jetstream.publish("vigil.guard.input", body, headers={Header.DEADLINE: long_ago})
    await eventually(running.idle)
    assert running.plain.stages == ["record"]
    assert [record.answer.decision for record in running.plain.records] == ["EXPIRED"]


async def test_an_expired_request_can_be_sent_again_under_its_id(running: Running) -> None:
    request_id = uuid4()
    body = json.dumps({"text": "hello", "request_id": str(request_id)}).encode()
    long_ago = (now() - timedelta(seconds=60)).isoformat()
    headers = {Header.DEADLINE: long_ago, "Nats-Msg-Id": f"{request_id}:guard"}
    await running.jetstream.publish("vigil.guard.input", body, headers=headers)
    await eventually(running.idle)
    answer = await running.gateway.guard(GuardRequest(text="hello", request_id=request_id))
    assert GuardAnswer.model_validate_json(answer).decision == "ALLOWED"
    assert await running.gateway.guard(GuardRequest(text="hello", request_id=request_id)) == answer


async def test_a_request_that_expired_twice_can_be_sent_again_under_its_id(running: Running) -> None:
    request_id = uuid4()
    body = json.dumps({"text": "hello", "request_id": str(request_id)}).encode()
    headers = {Header.DEADLINE: (now() - timedelta(seconds=60)).isoformat()}
    await running.jetstream.publish("vigil.guard.input", body, headers=headers)
    await eventually(running.idle)
    _, attempt = await running.gateway._before(request_id)
    again = {Header.ATTEMPT: attempt, Header.MESSAGE_ID: f"{request_id}:guard:{attempt}"}
    await running.jetstream.publish("vigil.guard.input", body, headers=headers | again)
    await eventually(running.idle)
    answer = await running.gateway.guard(GuardRequest(text="hello", request_id=request_id))
    assert GuardAnswer.model_validate_json(answer).decision == "ALLOWED"


async def test_a_repeat_is_decided_where_the_job_that_it_repeats_became_a_dead_letter(running: Running) -> None:
    request_id = uuid4()
    names_it = {Header.CORRELATION_ID: str(request_id), Header.MESSAGE_ID: f"{request_id}:vigil.pii.scan"}
    await running.jetstream.publish("vigil.pii.scan", b"no job", headers=names_it)
    await eventually(running.idle)
    assert await running.dead_letters() == 1
    body = json.dumps({"text": "hello", "request_id": str(request_id)}).encode()
    await running.jetstream.publish("vigil.guard.input", body)
    await eventually(running.idle)
    assert await running.backbone.decisions.find(request_id) is not None


async def test_a_repeat_waits_for_the_attempt_under_way_and_not_for_the_one_that_expired(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, waits, release = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def hold(_: GuardRequest) -> None:
        begun.set()
        await release.wait()

    async def waited(*arguments: Any) -> DecisionRecord:
        waits.set()
        return await wait_for(*arguments)

    monkeypatch.setattr(gateway, "wait_for", waited)
    request = GuardRequest(text="hello", request_id=uuid4())
    body = request.model_dump_json(exclude_unset=True).encode()
    headers = {Header.DEADLINE: (now() - timedelta(seconds=60)).isoformat()}
    await running.jetstream.publish("vigil.guard.input", body, headers=headers)
    await eventually(running.idle)
    running.plain.before_detect = hold
    under_way = asyncio.create_task(running.gateway.guard(request))
    await begun.wait()
    repeat = asyncio.create_task(running.gateway.guard(request))
    await waits.wait()
    release.set()
    assert await repeat == await under_way


async def test_what_the_caller_alone_was_given_is_not_logged_when_its_request_is_delivered_again(
    running: Running,
) -> None:
    """A worker died after its result was decided and before it acknowledged; the next delivery comes too late."""
    request_id = uuid4()
    first = await running.gateway.guard(GuardRequest(text="hello", mode="fast"))
    record = await running.backbone.decisions.find(GuardAnswer.model_validate_json(first).request_id)
    assert record is not None
    given = {"request_id": request_id, "sanitized_text": "Anna called <PHONE_1>", "restore_map": "v2.sealed"}
    decided = record.model_copy(
        update={"answer": record.answer.model_copy(update=given), "redacted_text": "<PERSON_1> called <PHONE_1>"}
    )
    await running.backbone.decisions.keep_first(decided)
    body = json.dumps({"text": "hello", "request_id": str(request_id)}).encode()
    long_ago = (now() - timedelta(seconds=60)).isoformat()
    await running.jetstream.publish("vigil.guard.input", body, headers={Header.DEADLINE: long_ago})

    async def logged() -> bool:
        return len(running.plain.records) == 2

    await eventually(logged)
    assert running.plain.records[1].answer.sanitized_text == "<PERSON_1> called <PHONE_1>"
    assert running.plain.records[1].answer.restore_map is None


async def test_a_repeated_request_does_not_wait_for_as_long_as_its_publisher_likes(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscribers, "LATEST_S", 0.05)
    waits: list[float] = []

    async def waited(store: DecisionStore, request_id: UUID, timeout_s: float) -> DecisionRecord:
        waits.append(timeout_s)
        return await wait_for(store, request_id, timeout_s)

    monkeypatch.setattr(subscribers, "wait_for", waited)
    body = json.dumps({"text": "hello", "mode": "fast", "request_id": str(uuid4())}).encode()
    headers = {Header.REPLY_TO: running.client.new_inbox(), Header.DEADLINE: "9999-01-01T00:00:00+00:00"}
    for _ in range(2):
        await running.jetstream.publish("vigil.guard.input", body, headers=headers)

    async def repeated() -> bool:
        return bool(waits)

    await eventually(repeated)
    assert waits == [0.05]


async def test_more_than_can_wait_is_refused(running: Running) -> None:
    release = asyncio.Event()

    async def hold(_: GuardRequest) -> None:
        await release.wait()

    running.plain.before_detect = hold
    running.gateway.admission = Admission(max_in_flight=(limit := 20))
    waiting = [asyncio.create_task(running.gateway.guard(GuardRequest(text="x", mode="fast"))) for _ in range(limit)]

    async def all_wait() -> bool:
        return running.gateway.admission.in_flight == limit

    await eventually(all_wait)
    with growth_of("vigil_admission_refusals_total", reason="full") as refused, pytest.raises(Overloaded):
        await running.gateway.guard(GuardRequest(text="one more"))
    assert refused.value == 1
    release.set()
    await asyncio.gather(*waiting)


async def test_a_request_id_of_another_tenant_is_one_of_its_own(running: Running) -> None:
    request_id = uuid4()
    request = GuardRequest(text="hello", request_id=request_id, mode="fast")
    other = GuardRequest(text="another text", request_id=request_id, mode="fast")
    first = GuardAnswer.model_validate_json(await running.gateway.guard(request))
    second = GuardAnswer.model_validate_json(await running.gateway.guard(other, Principal(tenant="acme")))
    again = GuardAnswer.model_validate_json(await running.gateway.guard(other, Principal(tenant="acme")))
    assert first.request_id == second.request_id == request_id
    assert again == second
    assert await running.gateway.submit(other, Principal(tenant="globex")) == request_id
    await eventually(running.idle)
    kept = [record for record in running.plain.records if record.text_digest == text_digest("another text")]
    assert sorted(record.tenant for record in kept) == ["acme", "globex"]
    assert len({record.answer.request_id for record in running.plain.records}) == 3


async def test_an_id_that_another_tenant_was_given_tells_nothing(running: Running) -> None:
    given = GuardAnswer.model_validate_json(
        await running.gateway.guard(GuardRequest(text="hello", mode="fast"), Principal(tenant="acme"))
    ).request_id
    with pytest.raises(RequestIdConflict):
        await running.gateway.guard(GuardRequest(text="hello", mode="fast", request_id=given))
