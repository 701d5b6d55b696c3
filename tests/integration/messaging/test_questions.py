"""Questions over NATS: none waits for another's answer, and a refusal arrives as what it is."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import uuid4

import nats
import pytest
from nats.aio.client import Client

from app.contracts import RestoreRequest
from app.errors import DecisionTimeout, EventLogUnavailable, Overloaded, PayloadTooLarge, QueryTimeout, VigilError
from app.log_contracts import EventDetail, EventQuery, EventQuestion
from app.messaging.microservice import GuardMicroservice
from app.messaging.questions import RemoteArchive
from app.pii import worker
from app.pii.sealing import MapSealer
from app.pii.worker import Restorer
from app.tasks import ContextThreads
from app.telemetry import correlation
from app.telemetry.correlation import Correlation
from tests.integration.messaging.conftest import EmptyArchive
from tests.spans import CALLER, TRACE_ID, recording, trace_of
from tests.unit.events.records import plain_record

pytestmark = pytest.mark.integration

TOGETHER = 20


class MeetingArchive(EmptyArchive):
    """Answers when all have asked."""

    def __init__(self) -> None:
        self.meeting = asyncio.Barrier(TOGETHER)

    async def find(self, request_id: object) -> None:
        await self.meeting.wait()


class RefusingArchive(EmptyArchive):
    def __init__(self, error: VigilError) -> None:
        self.error = error

    async def find(self, request_id: object) -> None:
        raise self.error

    async def events(self, query: object) -> Any:
        raise self.error


@pytest.fixture
async def client(server: str) -> AsyncIterator[Client]:
    connection = await nats.connect(server)
    yield connection
    await connection.close()


async def serving(client: Client, archive: EmptyArchive, restore: Any = None, gateway: Any = None) -> GuardMicroservice:
    service = GuardMicroservice(gateway, restore, version="0.0.0", text_limit=1_000)
    await service.start(client)
    await service.serve_archive(archive)
    await client.flush()
    return service


class Deciding:
    """A gateway whose answer is too large for a message, or does not come."""

    def __init__(self, *, in_time: bool) -> None:
        self.in_time = in_time
        self.request_id = uuid4()

    async def guard(self, *_: object) -> bytes:
        if not self.in_time:
            raise DecisionTimeout(request_id=self.request_id)
        return json.dumps({"request_id": str(self.request_id), "sanitized_text": "x" * 1_100_000}).encode()


@pytest.mark.parametrize(("in_time", "status"), [(True, 413), (False, 504)])
async def test_who_is_not_given_a_decision_is_told_the_id_to_read_it_by(
    client: Client, in_time: bool, status: int
) -> None:
    gateway = Deciding(in_time=in_time)
    service = await serving(client, EmptyArchive(), gateway=gateway)
    problem = json.loads((await client.request("vigil.api.guard", b'{"text": "hello"}', timeout=5)).data)
    assert (problem["status"], problem["request_id"]) == (status, str(gateway.request_id))
    await service.stop(5)


async def test_nobody_waits_for_anothers_decision(client: Client) -> None:
    service = await serving(client, MeetingArchive())
    remote = RemoteArchive(client, 10.0)
    assert await asyncio.gather(*(remote.find(uuid4()) for _ in range(TOGETHER))) == [None] * TOGETHER
    await service.stop(5)


@pytest.mark.parametrize("error", [Overloaded(), QueryTimeout(), EventLogUnavailable()])
async def test_a_refusal_of_the_log_is_told_as_what_it_is(error: VigilError, client: Client) -> None:
    service = await serving(client, RefusingArchive(error))
    remote = RemoteArchive(client, 10.0)
    for question in (remote.find(uuid4()), remote.events(EventQuery())):
        with pytest.raises(type(error), match=error.message):
            await question
    await service.stop(5)


async def test_a_text_that_no_message_holds_is_refused_with_what_to_do(client: Client) -> None:
    class LongTexts(EmptyArchive):
        async def event(self, question: object) -> EventDetail:
            return EventDetail(record=plain_record(), feedback=[], text="a" * 2_000_000)

    service = await serving(client, LongTexts())
    with pytest.raises(PayloadTooLarge, match="without the full text"):
        await RemoteArchive(client, 10.0).event(EventQuestion(request_id=uuid4(), with_text=True))
    await service.stop(5)


async def test_a_question_stays_in_the_trace_of_who_asks(client: Client) -> None:
    service = await serving(client, EmptyArchive())
    remote = RemoteArchive(client, 10.0)
    token = correlation.begin(Correlation(traceparent=CALLER))
    with recording() as recorded:
        await remote.find(uuid4())
        await remote.events(EventQuery())
        await service.stop(5)
    correlation.end(token)
    assert {span.name for span in recorded.spans} == {"vigil.api.decision", "vigil.api.events"}
    assert {trace_of(span) for span in recorded.spans} == {TRACE_ID}


async def test_texts_to_restore_beyond_what_can_wait_are_refused(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "MOST_RESTORING", 1)
    may = threading.Event()
    threads: ThreadPoolExecutor = ContextThreads(1)
    threads.submit(may.wait, 10)
    restorer = Restorer(threads, MapSealer((b"kappa-omega-secret-of-32-characters",), timedelta(hours=1)), 10)
    service = await serving(client, EmptyArchive(), restorer)
    body = RestoreRequest(text="Hello", restore_map="v2.none").model_dump_json().encode()
    replies = [asyncio.create_task(client.request("vigil.api.restore", body, timeout=10)) for _ in range(3)]
    early, _ = await asyncio.wait(replies, return_when=asyncio.FIRST_COMPLETED)
    refused = [json.loads(each.result().data)["type"] for each in early]
    assert set(refused) == {"urn:vigil-guard:problem:overloaded"}
    may.set()
    answers = [json.loads((await each).data)["status"] for each in replies]
    assert sorted(answers) == [422, 503, 503]
    await service.stop(5)
    threads.shutdown()
