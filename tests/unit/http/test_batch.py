"""A batch that nobody waits for is accepted as a whole or refused as a whole; the answer says where that was not so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import httpx
import pytest
from nats.errors import TimeoutError as NatsTimeoutError

from app.access.limits import Limits
from app.access.principal import Principal
from app.contracts import (
    DecideJob,
    DecisionRecord,
    DetectionReport,
    Envelope,
    GuardedText,
    GuardRequest,
    Mode,
    PiiReport,
    Source,
    Verdict,
)
from app.errors import InvalidRequest, PolicyNotAllowed
from app.http import application
from app.identity import now, text_digest
from app.messaging import gateway as gateways
from app.messaging.decisions import DecisionStore, MemoryDecisions
from app.messaging.gateway import GuardGateway
from app.messaging.inbox import ReplyInbox
from app.service import VigilService
from app.settings import AccessSettings, HttpSettings, Settings
from app.topology import DETECTION_STREAM, Header
from tests.support import decision_record, only_strict

REFUSED = "kappa-omega"
"""In a text that the queue does not take."""
MESSAGES_LIMIT = 2


@dataclass
class Queue:
    """Stands for JetStream."""

    refused: str = REFUSED
    published: list[bytes] = field(default_factory=list)
    message_ids: list[str] = field(default_factory=list)

    async def publish(self, subject: str, payload: bytes, *, headers: dict[str, str], **_: Any) -> SimpleNamespace:
        if self.refused.encode() in payload:
            raise NatsTimeoutError
        self.published.append(payload)
        self.message_ids.append(headers[Header.MESSAGE_ID])
        return SimpleNamespace(duplicate=False)


@pytest.fixture
def queue() -> Queue:
    return Queue()


@pytest.fixture
def service(queue: Queue, tmp_path: Path) -> VigilService:
    http = HttpSettings(messages_limit=MESSAGES_LIMIT)
    settings = Settings(state_dir=tmp_path, access=AccessSettings(mode="open"), http=http)
    gateway = GuardGateway(cast("Any", None), ReplyInbox(), MemoryDecisions(), settings, pin=only_strict)
    gateway.jetstream = cast("Any", queue)
    service = VigilService(settings)
    service._backbone = cast("Any", SimpleNamespace(gateway=gateway))
    return service


@pytest.fixture
async def client(service: VigilService) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(application.build(service, service.settings, "0"))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client


async def posted(client: httpx.AsyncClient, *requests: dict[str, Any]) -> httpx.Response:
    return await client.post("/guard/batch", json={"requests": requests, "wait": False})


def decisions_of(service: VigilService) -> DecisionStore:
    return cast("Any", service)._backbone.gateway._decisions  # type: ignore[no-any-return]


def decided(request_id: UUID, text: str, verdict: Verdict = Verdict.ALLOWED) -> DecisionRecord:
    subject = GuardedText(digest=text_digest(text), length=len(text), mode=Mode.FULL, source=Source.INPUT)
    detection = DetectionReport(branches={}, model_version="test")
    job = DecideJob(subject=subject, detection=detection, pii=PiiReport(), redacted_text=None)
    record = decision_record(job, Envelope(request_id=request_id, received_at=now()))
    return record.model_copy(update={"answer": record.answer.model_copy(update={"decision": verdict})})


async def test_a_batch_is_accepted_in_order(client: httpx.AsyncClient, queue: Queue) -> None:
    response = await posted(client, {"text": "one", "request_id": str(UUID(int=1))}, {"text": "two"})
    assert response.status_code == 202
    first, second = response.json()["request_ids"]
    assert first == str(UUID(int=1))
    assert [GuardRequest.model_validate_json(each).text for each in queue.published] == ["one", "two"]
    assert str(GuardRequest.model_validate_json(queue.published[1]).request_id) == second


@pytest.mark.parametrize(
    ("bad", "status", "field"),
    [
        ({"text": "two", "policy": "nope"}, 422, "requests.1.policy"),
        ({"messages": [{"role": "user", "content": "a"}] * (MESSAGES_LIMIT + 1)}, 422, "requests.1.messages"),
        ({"text": "x" * 2000}, 413, "requests.1"),
    ],
    ids=["unknown policy", "too many messages", "too large for a message"],
)
async def test_nothing_of_a_batch_is_published_when_one_request_is_refused(
    bad: dict[str, Any],
    status: int,
    field: str,
    client: httpx.AsyncClient,
    queue: Queue,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gateways, "HEADER_ROOM_BYTES", DETECTION_STREAM.max_message_bytes - 1000)
    response = await posted(client, {"text": "one"}, bad, {"text": "three"})
    assert response.status_code == status
    assert [each["field"] for each in response.json()["errors"]] == [field]
    assert queue.published == []


@pytest.mark.parametrize("other", [{"text": "two"}, {"text": "one", "dry_run": True}])
@pytest.mark.parametrize("known", [True, False])
async def test_an_id_that_two_requests_differ_in_is_told_before_anything_is_published(
    *, other: dict[str, Any], known: bool, service: VigilService, client: httpx.AsyncClient, queue: Queue
) -> None:
    first = {"text": "one", "request_id": str(UUID(int=1))}
    if known:
        await decisions_of(service).keep_first(decided(UUID(int=1), "one"))
    requests = [{"text": "zero"}, {**first, **other}] if known else [first, {**first, **other}]
    response = await posted(client, *requests)
    assert response.status_code == 409
    assert [each["field"] for each in response.json()["errors"]] == ["requests.1.request_id"]
    assert queue.published == []


async def test_a_repeat_of_what_is_decided_is_accepted_and_not_published_again(
    service: VigilService, client: httpx.AsyncClient, queue: Queue
) -> None:
    await decisions_of(service).keep_first(decided(UUID(int=1), "one"))
    same = {"text": "one", "request_id": str(UUID(int=1))}
    response = await posted(client, same, same)
    assert (response.status_code, response.json()["request_ids"]) == (202, [str(UUID(int=1))] * 2)
    assert queue.published == []


async def test_what_expired_is_published_as_another_attempt(
    service: VigilService, client: httpx.AsyncClient, queue: Queue
) -> None:
    same = {"text": "one", "request_id": str(UUID(int=1))}
    await posted(client, same)
    await decisions_of(service).keep_first(decided(UUID(int=1), "one", Verdict.EXPIRED))
    assert (await posted(client, same)).status_code == 202
    first, second = queue.message_ids
    assert first != second, "JetStream drops what has the id of an earlier message"


async def test_what_a_key_may_not_ask_for_is_told_before_anything_is_published(service: VigilService) -> None:
    caller = Principal(policies=("strict",), limits=Limits(text_length=3))
    with pytest.raises(PolicyNotAllowed):
        await service.prepare(GuardRequest(text="one", policy="nope"), caller)
    with pytest.raises(InvalidRequest, match="at most 3"):
        await service.prepare(GuardRequest(text="three"), caller)


async def test_each_request_is_answered_where_the_queue_took_only_some(client: httpx.AsyncClient, queue: Queue) -> None:
    own = str(UUID(int=2))
    response = await posted(client, {"text": "one"}, {"text": REFUSED, "request_id": own}, {"text": "three"})
    assert response.status_code == 200
    first, second, third = response.json()["results"]
    published = [GuardRequest.model_validate_json(each) for each in queue.published]
    assert [first, third] == [{"status": 202, "request_id": str(each.request_id)} for each in published]
    assert (second["status"], second["problem"]["status"], second["problem"]["request_id"]) == (503, 503, own)


async def test_a_batch_of_which_the_queue_took_nothing_was_not_accepted(client: httpx.AsyncClient) -> None:
    response = await posted(client, {"text": REFUSED}, {"text": f"{REFUSED} again"})
    assert response.status_code == 503
    assert response.headers["retry-after"]
    assert response.json()["type"].endswith("messaging-unavailable")
