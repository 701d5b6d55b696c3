"""Drills with a handler that fails or kills its process on marked texts."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from uuid import uuid4

import httpx

from app.errors import DeliveriesExhausted
from app.topology import DETECTION_WORKER, Header, Subject
from tests.drills import faulty
from tests.drills.harness import Drill, endless
from tests.drills.ledger import Entry, Outcome
from tests.running_service import RunningService

FAULTY = "tests.drills.faulty:app"
ENVIRONMENT = {"VIGIL_WORKERS__RETRY_DELAYS_S": "[0.2, 0.5]"}
"""The clock of the delays, shortened by a setting."""
PATIENT_MS = 20_000
"""Deadline of callers who wait for three deliveries, also on a busy machine."""
FAILING_NTH = 10
HOPELESS_NTH = 50


def marking(marker: str, nth: int) -> Callable[[int, str], str]:
    """Mark every nth text, and give it an id so that failures are counted for it alone."""
    return lambda number, text: f"{marker} {uuid4()} {text}" if number % nth == 0 else text


def _marked(drill: Drill, marker: str) -> list[Entry]:
    return [entry for entry in drill.ledger.entries if marker in entry.request.get("text", "")]


async def fails_twice(drill: Drill) -> None:
    """A handler that fails the first two times for one of ten texts."""
    await drill.start(drill.service(application=FAULTY, environment=ENVIRONMENT))
    requests = endless(marked=marking(faulty.FAILS_TWICE, FAILING_NTH), deadline_ms=PATIENT_MS)
    async with drill.load(requests):
        pass
    marked = _marked(drill, faulty.FAILS_TWICE)
    answered = sum(entry.outcome is Outcome.DECIDED for entry in marked)
    drill.account.figures["failing"] = {"sent": len(marked), "answered": answered}
    drill.note(f"{len(marked)} requests whose handler failed twice: {answered} answered")
    drill.expect(answered == len(marked), f"{len(marked) - answered} requests that failed twice were not answered")
    await drill.until_queue_is_empty()
    graves = await drill.graves()
    drill.expect(not graves, f"{len(graves)} dead letters where the third delivery succeeds")


async def always_fails(drill: Drill) -> None:
    """A handler that always fails for one of fifty texts: their callers are told, the messages are kept."""
    await drill.start(drill.service(application=FAULTY, environment=ENVIRONMENT))
    async with drill.load(endless(marked=marking(faulty.ALWAYS_FAILS, HOPELESS_NTH))):
        pass
    marked = _marked(drill, faulty.ALWAYS_FAILS)
    ended = dict(Counter(str(entry.outcome) for entry in marked))
    await drill.until_queue_is_empty()
    buried = {grave.request_id for grave in await drill.graves()}
    drill.account.figures["failing"] = {"sent": len(marked), "dead_lettered": len(buried), "ended": ended}
    drill.note(f"{len(marked)} requests whose handler always failed: {len(buried)} dead letters")
    drill.expect(
        {entry.request_id for entry in marked} == buried, "the dead letters are not exactly the requests that failed"
    )


async def kills_its_worker(drill: Drill) -> None:
    """A message that kills its worker's process at each delivery; the drill starts the service again each time."""
    service = await drill.start(drill.service(application=FAULTY))
    async with drill.load():
        for number in range(drill.size.faults):
            await drill.after_answers(drill.size.requests // (2 * drill.size.faults))
            request = next(endless(marked=marking(faulty.KILLS, 1)))
            entry = drill.ledger.open(request)
            async with drill.jetstream() as jetstream:
                await jetstream.publish(
                    Subject.GUARD_INPUT,
                    json.dumps(request).encode(),
                    headers={str(Header.CORRELATION_ID): entry.request_id},
                )
            entry.close(Outcome.ACKNOWLEDGED)
            for _ in range(DETECTION_WORKER.max_deliver):
                await drill.until(lambda: _ended(service), "death of the worker")
                await asyncio.to_thread(service.start, wait=False)
                # It may die again before it is ready: the message comes as soon as it asks for one.
                await drill.until(lambda: _ended(service) or _ready(service), "start after a death")
                if not _ended(service):
                    await drill.set_ack_wait(1.0)
            await _until_buried(drill, entry)
            drill.note(
                f"message {number + 1} killed its worker {DETECTION_WORKER.max_deliver} times and is dead-lettered"
            )
    graves = await drill.graves()
    buried = {grave.request_id for grave in graves if grave.error_type == DeliveriesExhausted.__name__}
    sent = {entry.request_id: json.dumps(entry.request).encode() for entry in _marked(drill, faulty.KILLS)}
    unchanged = sum(sent.get(grave.request_id) == grave.payload for grave in graves)
    drill.account.figures["killing"] = {
        "sent": len(sent),
        "dead_lettered_unchanged": unchanged,
        "neighbours_dead_lettered": len(buried - sent.keys()),
    }
    drill.expect(unchanged == len(sent), "a message that killed its worker is not dead-lettered with its payload")


def _ended(service: RunningService) -> bool:
    return service.process is not None and service.process.poll() is not None


def _ready(service: RunningService) -> bool:
    try:
        return httpx.get(f"{service.url}/health/ready", timeout=2).status_code == 200
    except httpx.TransportError:
        return False


async def _until_buried(drill: Drill, entry: Entry) -> None:
    for _ in range(600):
        if any(grave.request_id == entry.request_id for grave in await drill.graves()):
            return
        await asyncio.sleep(0.1)
    drill.expect(False, "a message that killed its worker never came to the dead-letter queue")
