"""What is forgotten is found nowhere any more: no stream, bucket or table has it, nor what was in work meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import nats
import pytest
from nats.js import JetStreamContext

from app.events.engine import Engine
from app.identity import text_digest
from app.messaging.stored import stored_messages
from app.settings import Settings
from tests.integration.events.conftest import HASH_KEY, Vigil, guarded, parsed
from tests.running_service import RunningService

pytestmark = pytest.mark.integration

TABLES = ("events_log", "event_texts", "feedback", "system.mutations", "system.parts_columns")


def in_nats(service: RunningService, work: Callable[[JetStreamContext], Any]) -> Any:
    async def scenario() -> Any:
        client = await nats.connect(service.nats_url)
        try:
            return await work(client.jetstream())
        finally:
            await client.close()

    return asyncio.run(scenario())


def all_messages(service: RunningService) -> str:
    """Return everything that lies in any stream or bucket."""

    async def read(jetstream: JetStreamContext) -> str:
        return repr(
            [
                (message.subject, dict(message.headers), message.payload.decode("utf-8", "replace"))
                for info in await jetstream.streams_info()
                async for message in stored_messages(jetstream, info.config.name or "")
            ]
        )

    told: str = in_nats(service, read)
    return told


def all_rows(service: RunningService) -> str:
    """Return every row of every table of a stopped service's event log."""
    engine = Engine(Settings(state_dir=service.state_dir, clickhouse_url=None))
    engine.open()
    try:
        return repr([engine._opened.query(f"SELECT * FROM {table}").result_rows for table in TABLES])  # noqa: S608
    finally:
        engine.close()


def bury(service: RunningService, request_id: str, text: str) -> None:
    """Put a request into the dead-letter queue, as a worker does with one it cannot read."""
    body = json.dumps({"text": text, "request_id": request_id, "mode": "none"}).encode()

    async def publish(jetstream: JetStreamContext) -> None:
        await jetstream.publish("vigil.guard.input", body, headers={"correlation_id": request_id})

    in_nats(service, publish)

    def buried(_: httpx.Client) -> bool:
        return f"'{request_id}'" in all_messages(service)

    service.wait_for(buried)


def test_nothing_of_a_request_is_left_anywhere(service: RunningService, client: httpx.Client, vigil: Vigil) -> None:
    text = f"My card is 4111 1111 1111 1111 and my word is {uuid4()}"
    other = guarded(client, service, f"Another one {uuid4()}", mode="fast")["request_id"]
    request_id = guarded(client, service, text)["request_id"]
    digest = text_digest(text, HASH_KEY.encode())
    given = {"verdict": "correct", "comment": "mine", "text": text}
    client.post(f"/guard/{request_id}/feedback", json=given).raise_for_status()
    service.wait_for(lambda http: http.get(f"/events/{request_id}").json()["feedback"])
    bury(service, request_id, text)
    assert digest in all_messages(service)

    answer = client.post("/admin/forget", json={"request_id": request_id})
    assert answer.status_code == 200, answer.text
    report = answer.json()
    assert (report["state"], report["kind"]) == ("done", "request")
    assert report["removed"] == {
        "events": 1,
        "texts": 1,
        "feedback": 1,
        "decisions": 1,
        "queued": 0,
        "dead_letters": 1,
    }
    assert client.get(f"/admin/forget/{report['forget_id']}").json() == report
    assert client.get(f"/guard/{request_id}").status_code == 404
    assert client.get(f"/events/{request_id}").status_code == 404
    assert client.get(f"/guard/{other}").status_code == 200
    again = client.post("/admin/forget", json={"request_id": request_id}).json()
    assert again["state"] == "done"
    assert set(again["removed"].values()) == {0}
    entries = client.get("/admin/audit", params={"action": "forget"}).json()["entries"]
    assert [each["action"] for each in entries[:4]] == ["forget.done", "forget.ask", "forget.done", "forget.ask"]
    assert "dead_letters: 1" in entries[2]["detail"]
    assert entries[3]["actor"] == "anonymous"
    left = all_messages(service)
    assert service.stop() == 0
    left += all_rows(service)
    service.start()
    left += all_messages(service)
    for secret in (request_id, request_id.replace("-", ""), digest, text, text[-36:]):
        assert secret not in left
    assert other in left
    assert client.get(f"/guard/{request_id}").status_code == 404


def test_a_text_is_forgotten_by_itself_and_by_its_digest(
    service: RunningService, client: httpx.Client, vigil: Vigil
) -> None:
    first, second = f"First {uuid4()}", f"Second {uuid4()}"
    ids = [guarded(client, service, text, mode="fast")["request_id"] for text in (first, first, second)]
    told = parsed(vigil("events", "forget", "--text", "-", "-f", "-j", stdin=first))
    assert (told["state"], told["removed"]["events"], told["removed"]["decisions"]) == ("done", 2, 2)
    told = parsed(vigil("events", "forget", "--text-hash", text_digest(second, HASH_KEY.encode()), "-f", "-j"))
    assert (told["state"], told["removed"]["events"]) == ("done", 1)
    assert [client.get(f"/events/{each}").status_code for each in ids] == [404] * 3
    # What comes later is meant by no order.
    guarded(client, service, first, mode="fast")
    left = all_messages(service)
    assert second not in left
    assert parsed(vigil("audit", "ls", "-j", "-n", "1", "--action", "forget.ask"))["entries"][0]["actor"][:4] == "cli:"


def test_what_comes_from_the_queue_after_the_order_does_not_come_back(
    service: RunningService, client: httpx.Client
) -> None:
    """A log event, received before the order, reaches the stream only after it was carried out."""
    request_id = guarded(client, service, f"Late {uuid4()}", mode="fast", metadata={"mark": "late"})["request_id"]
    detail = client.get(f"/events/{request_id}").json()["record"]
    assert client.post("/admin/forget", json={"request_id": request_id}).json()["state"] == "done"
    after = guarded(client, service, f"After {uuid4()}", mode="fast")["request_id"]
    event = json.dumps(detail).encode()

    async def publish(jetstream: JetStreamContext) -> None:
        await jetstream.publish("vigil.logs.event", event, headers={"correlation_id": request_id})

    in_nats(service, publish)
    later = guarded(client, service, f"Later {uuid4()}", mode="fast")["request_id"]
    assert client.get(f"/events/{request_id}").status_code == 404
    assert {client.get(f"/events/{each}").status_code for each in (after, later)} == {200}
    assert request_id not in all_messages(service)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "body"),
        ({"request_id": str(uuid4()), "tenant": "acme"}, "body"),
        ({"text_hash": "ab"}, "text_hash"),
        ({"tenant": "Not A Tenant"}, "tenant"),
        ({"request_id": "none"}, "request_id"),
    ],
)
def test_an_order_that_names_nothing_or_too_much_is_refused(
    client: httpx.Client, body: dict[str, str], field: str
) -> None:
    refused = client.post("/admin/forget", json=body)
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, field)
    assert client.get(f"/admin/forget/{uuid4()}").status_code == 404
    assert client.get("/admin/forget/none").status_code == 422
