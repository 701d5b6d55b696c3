"""Drills with bad messages: poison past the service, and the same request sent twice in every way."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any
from uuid import uuid4

from nats.aio.client import Client
from nats.js import JetStreamContext

from app.topology import Header, Subject
from tests.drills.callers import Connection, send
from tests.drills.harness import Drill, endless
from tests.drills.ledger import Outcome

POISON_SHARE = 0.01
REPEATED_SHARE = 0.05
REPLY_WITHIN_S = 15.0


async def poison(drill: Drill) -> None:
    """Not JSON, a wrong schema and a subject that no consumer matches: published past the service, 1 % of the load."""
    sweep_s = "1" if drill.size.quick else "30"
    await drill.start(drill.service(environment={"VIGIL_WORKERS__SWEEP_INTERVAL_S": sweep_s}))
    number = max(3, round(POISON_SHARE * drill.size.requests))
    payloads = {}
    async with drill.load(), drill.jetstream() as jetstream:
        for at in range(number):
            await drill.after_answers(round(0.8 * drill.size.requests / number))
            request_id = str(uuid4())
            subject, payload = _poison(at, request_id)
            entry = drill.ledger.open({"request_id": request_id, "poison": payload.decode()})
            await jetstream.publish(subject, payload, headers={str(Header.CORRELATION_ID): request_id})
            entry.close(Outcome.ACKNOWLEDGED)
            payloads[request_id] = payload
    drill.note(f"{number} poison messages")
    await drill.until_queue_is_empty()
    buried = {grave.request_id: grave for grave in await drill.graves()}
    unchanged = sum(buried[each].payload == payload for each, payload in payloads.items() if each in buried)
    drill.account.figures["poison"] = {"sent": number, "dead_lettered_unchanged": unchanged}
    drill.expect(
        unchanged == number, f"{number - unchanged} poison messages are not in the dead-letter queue unchanged"
    )


def _poison(number: int, request_id: str) -> tuple[str, bytes]:
    kinds = (
        (Subject.GUARD_INPUT, f"not JSON {request_id}".encode()),
        (Subject.GUARD_INPUT, json.dumps({"text": 5, "request_id": request_id}).encode()),
        ("vigil.guard.a.b", json.dumps({"text": "nobody reads this", "request_id": request_id}).encode()),
    )
    return kinds[number % len(kinds)]


async def duplicates(drill: Drill) -> None:
    """5 % of the requests are sent twice: at once, later, and past the service with and without a message id."""
    service = await drill.start(drill.service())
    pairs = [request for request, _ in zip(endless(), range(round(REPEATED_SHARE * drill.size.requests)), strict=False)]
    client = await drill.connect()
    connections = [await Connection.open(service.port) for _ in range(2)]
    ways = (_at_once, _later, _published_without_id, _published_with_id)
    counts: dict[str, int] = {}
    try:
        async with drill.load(connections=12):
            for number, request in enumerate(pairs):
                way = ways[number % len(ways)]
                first, second = await way(drill, client, connections, request)
                name = way.__name__.strip("_").replace("_", " ")
                counts[name] = counts.get(name, 0) + 1
                drill.expect(
                    first is not None and first == second,
                    f"{name}: the second answer differs: {_told(first)} and {_told(second)}",
                )
    finally:
        await client.close()
    drill.account.figures["pairs"] = counts
    drill.note(f"{len(pairs)} requests sent twice: " + ", ".join(f"{n} {name}" for name, n in counts.items()))


Answer = dict[str, Any] | None


def _told(answer: Answer) -> str:
    return "none" if answer is None else str(answer.get("decision") or answer.get("title"))


async def _over_http(drill: Drill, connection: Connection, request: dict[str, Any]) -> Answer:
    entry = drill.ledger.open(request)
    await send(connection, entry)
    return entry.answer


async def _at_once(
    drill: Drill, client: Client, connections: list[Connection], request: dict[str, Any]
) -> tuple[Answer, Answer]:
    first, second = await asyncio.gather(*(_over_http(drill, connection, request) for connection in connections))
    return first, second


async def _later(
    drill: Drill, client: Client, connections: list[Connection], request: dict[str, Any]
) -> tuple[Answer, Answer]:
    first = await _over_http(drill, connections[0], request)
    await drill.after_answers(20)
    return first, await _over_http(drill, connections[1], request)


async def _published_without_id(
    drill: Drill, client: Client, connections: list[Connection], request: dict[str, Any]
) -> tuple[Answer, Answer]:
    """JetStream takes it as another message; the caller behind its inbox gets the one decision."""
    first, second = await asyncio.gather(
        _over_http(drill, connections[0], request), _published(drill, client, request, {}, connections[1])
    )
    return first, second


async def _published_with_id(
    drill: Drill, client: Client, connections: list[Connection], request: dict[str, Any]
) -> tuple[Answer, Answer]:
    """JetStream knows the second by its message id and keeps one; whoever is told so reads the decision."""
    named = {str(Header.MESSAGE_ID): f"{request['request_id']}:guard"}
    first, second = await asyncio.gather(
        _published(drill, client, request, named, connections[1]), _over_http(drill, connections[0], request)
    )
    return first, second


async def _published(
    drill: Drill, client: Client, request: dict[str, Any], headers: dict[str, str], connection: Connection
) -> Answer:
    entry = drill.ledger.open(request)
    inbox = client.new_inbox()
    replies = await client.subscribe(inbox)
    jetstream: JetStreamContext = client.jetstream(timeout=10)
    try:
        acknowledged = await jetstream.publish(
            Subject.GUARD_INPUT,
            json.dumps(request).encode(),
            headers={**headers, str(Header.REPLY_TO): inbox, str(Header.CORRELATION_ID): request["request_id"]},
        )
        entry.close(Outcome.ACKNOWLEDGED)
        if acknowledged.duplicate:
            return await _read(connection, request["request_id"])
        answer: dict[str, Any] = json.loads((await replies.next_msg(REPLY_WITHIN_S)).data)
    except TimeoutError:
        drill.account.hanging += 1
        return None
    else:
        return answer
    finally:
        await replies.unsubscribe()


async def _read(connection: Connection, request_id: str) -> Answer:
    """Read a decision that is being made."""
    limit = time.monotonic() + REPLY_WITHIN_S
    while time.monotonic() < limit:
        response = await connection.request("GET", f"/guard/{request_id}")
        if response.status == 200:
            return response.json()
        await asyncio.sleep(0.02)
    return None
