"""A drill at work: services under load, faults with their recovery, and the account at the end."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import fcntl
import functools
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import uuid4

import nats
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig
from nats.js.errors import NotFoundError, ServiceUnavailableError

from app.messaging.declarations import consumer_config
from app.topology import DETECTION_STREAM, DLQ_STREAM, PIPELINE_CONSUMERS, Header
from tests.drills.callers import Callers, Connection, send
from tests.drills.ledger import CERTAINLY_REFUSED, Account, Entry, Grave, Ledger, Outcome, Row
from tests.running_service import CHECKOUT, RunningService
from tests.support import eventually

TEXTS: Final = [
    json.loads(line)["text"]
    for path in sorted((CHECKOUT / "data" / "detection").glob("*.jsonl"))
    for line in path.read_text().splitlines()[:25]
]
EVERY_NTH_FULL: Final = 10
"""One of so many requests is also scanned for personal data."""
EMPTY_WITHIN_S: Final = 150.0
"""Three deliveries of 30 s and the retries between them."""
RECOVERED_WITHIN_S: Final = 90.0
LOAD_WITHIN_S: Final = 300.0
STOP_LIMIT_S: Final = 20.0
REPEATED_SAMPLE, QUICK_REPEATED_SAMPLE = 300, 50
"""Of the answered and of the refused requests so many are sent again at the end; of the others all are."""
QUICK_ACK_WAIT_S: Final = 2.0
"""In a short drill what was in work at a kill comes again after so many seconds, not after the consumers' own."""
POLL_S: Final = 0.05
ROWS: Final = """
import json, sys, clickhouse_connect
client = clickhouse_connect.get_client(interface="chdb", path=sys.argv[1])
query = "SELECT toString(request_id), count(), toString(any(decision)) FROM vigil.events GROUP BY 1"
print(json.dumps(client.query(query).result_rows))
"""

Say = Callable[[str], None]
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Size:
    """How long a drill is."""

    requests: int
    faults: int = 1
    lasts_s: float = 0.0
    """Length of an outage, or of one step of the load."""
    quick: bool = False
    """Messages that were in work at a kill come again soon."""


def endless(
    *, full: bool = True, marked: Callable[[int, str], str] | None = None, deadline_ms: int | None = None
) -> Iterator[dict[str, Any]]:
    """Make requests with ids of their own; `marked` changes the text of the nth."""
    more = {} if deadline_ms is None else {"deadline_ms": deadline_ms}
    for number in itertools.count():
        text = TEXTS[number % len(TEXTS)]
        yield {
            "text": marked(number, text) if marked else text,
            "mode": "full" if full and number % EVERY_NTH_FULL == 0 else "fast",
            "request_id": str(uuid4()),
            **more,
        }


class Drill:
    def __init__(self, name: str, folder: Path, size: Size, say: Say = lambda _: None) -> None:
        self.size = size
        self.folder = folder
        self.ledger = Ledger()
        self.account = Account(name)
        self.random = random.Random(1)  # noqa: S311 - moments of faults, the same in each run
        self.services: list[RunningService] = []
        self.nats_url: str | None = None
        """Set where the drill brings its own servers."""
        self.rows_folder: Path | None = None
        """Folder of the event log's engine where it is not the service's own."""
        self.before_reading: Callable[[], None] = lambda: None
        self.before_starting: Callable[[], None] = lambda: None
        self.lost_by_definition: set[str] = set()
        self._say = say
        self._at_end: list[Callable[[], None]] = []

    # Parts

    def service(self, **options: Any) -> RunningService:
        """Prepare a service; all of one drill share a state folder and a message server."""
        if self.services:
            options.setdefault("nats_port", self.services[0].nats_port)
        service = RunningService(self.folder / "state", **options)
        self.services.append(service)
        return service

    async def start(self, service: RunningService) -> RunningService:
        self.before_starting()
        await asyncio.to_thread(service.start)
        return service

    async def kill(self, service: RunningService) -> None:
        await asyncio.to_thread(service.kill)

    async def stop(self, service: RunningService) -> None:
        """End a service as an operator would; a stop that fails or takes too long is counted."""
        started = time.monotonic()
        status = await asyncio.to_thread(service.stop)
        if status != 0 or time.monotonic() - started > STOP_LIMIT_S:
            self.account.bad_stops += 1
            self.note(f"a stop ended with status {status} after {time.monotonic() - started:.1f} s")

    @property
    def server_pid(self) -> int:
        """Process id of the embedded message server."""
        return int(json.loads((self.folder / "state" / "nats" / "server.json").read_text())["pid"])

    @property
    def url(self) -> str:
        return self.nats_url or self.services[0].nats_url

    @asynccontextmanager
    async def jetstream(self) -> AsyncIterator[JetStreamContext]:
        client = await self.connect()
        try:
            yield client.jetstream(timeout=10)
        finally:
            await client.close()

    async def connect(self) -> Client:
        async def quiet(_: Exception) -> None:
            """The drill breaks the server on purpose."""

        return await nats.connect(self.url.split(","), error_cb=quiet, max_reconnect_attempts=200)

    # Load and faults

    @asynccontextmanager
    async def load(
        self, requests: Iterator[dict[str, Any]] | None = None, *, connections: int = 16, rate: float | None = None
    ) -> AsyncIterator[Callers]:
        """Keep the services under load while the block runs, and until enough requests have been sent."""
        ports = [service.port for service in self.services]
        callers = Callers(self.ledger, ports, requests or endless(), connections=connections, rate=rate)
        sending = asyncio.create_task(callers.run())
        try:
            yield callers
            await self.until(
                lambda: len(self.ledger.entries) >= self.size.requests or sending.done(),
                "end of the load",
                within_s=LOAD_WITHIN_S,
            )
        finally:
            callers.stop()
            await sending

    def note(self, what: str) -> None:
        self.account.broken.append(what)
        self._say(f"  {what}")

    def expect(self, held: bool, what: str) -> None:
        """Count as a fault what does not hold."""
        if not held:
            self.account.unexpected.append(what)
            self._say(f"  NOT AS PROMISED: {what}")

    def on_end(self, end: Callable[[], None]) -> None:
        """Have a part that the drill brought ended with it."""
        self._at_end.append(end)

    async def eventually_exists(self, ask: Callable[[], Awaitable[object]]) -> None:
        """Return once a stream or consumer is there again."""

        async def exists() -> bool:
            try:
                await ask()
            except (NatsError, TimeoutError):
                return False
            return True

        await eventually(exists, within_s=RECOVERED_WITHIN_S)

    async def answered(self, ask: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """Return what JetStream answers; a cluster that has just changed its leader may leave a request unanswered."""
        limit = time.monotonic() + RECOVERED_WITHIN_S
        while True:
            try:
                return await ask()
            except (NatsTimeoutError, ServiceUnavailableError, TimeoutError):
                if time.monotonic() > limit:
                    raise
                await asyncio.sleep(POLL_S)

    async def after_answers(self, number: int) -> None:
        """Return once so many more requests have been answered."""
        wanted = self.ledger.answered + number
        await self.until(lambda: self.ledger.answered >= wanted, f"{number} more answers")

    async def recovered(self, since: float, *, answers: int = 1) -> float:
        """Return the seconds from a moment to the first answer to a request that was sent after it."""
        await self.until(lambda: self.ledger.answered_since(since) is not None, "an answer after the fault")
        first = self.ledger.answered_since(since)
        assert first is not None
        assert first.ended_at is not None
        took_s = first.ended_at - since
        self.account.recovery_s.append(round(took_s, 2))
        return took_s

    async def until(self, condition: Callable[[], bool], what: str, *, within_s: float = RECOVERED_WITHIN_S) -> None:
        limit = time.monotonic() + within_s
        while not condition():
            if time.monotonic() > limit:
                raise AssertionError(f"{self.account.name}: no {what} within {within_s:g} s\n{self._log_tail()}")
            await asyncio.sleep(POLL_S)

    # Account

    async def settle(self) -> Account:
        """Wait for the end of all work, stop, count, and send what was not answered once more.

        At full length the rows are read before anything is sent again. A short drill saves that stop and start: it asks
        the service what it knows, and reads the rows at the end. A repeat that finds its decision adds no row, so what
        was decided and not logged is seen all the same, unless its record is in the dead-letter queue.
        """
        await self.until_queue_is_empty()
        self.account.restarts_needed += sum(
            each.process is not None and each.process.poll() is not None for each in self.services
        )
        graves = await self.graves()
        service = next(each for each in self.services if each.process is not None)
        before: dict[str, Row] | None = None
        if self.size.quick:
            known = await self._known(service)
        else:
            await self._stop_all()
            before = await asyncio.to_thread(self.rows)
            await self.start(service)
            known = set(before)
        again = await self._repeat(service, {grave.request_id for grave in graves} - known)
        await self._until_queue_is_empty()
        buried = {grave.request_id for grave in await self.graves()}
        await self._stop_all()
        rows = await asyncio.to_thread(self.rows)
        self.account.count(self.ledger.entries)
        kept = before or {request_id: row for request_id, row in rows.items() if request_id in known}
        self.account.compare(self.ledger.entries, kept, graves, self.lost_by_definition)
        self.account.lost += len((known | again) - rows.keys() - buried - self.lost_by_definition)
        self.account.duplicate_rows = sum(row.visible - 1 for row in rows.values())
        self.account.left_behind = self._left_behind()
        return self.account

    async def _known(self, service: RunningService) -> set[str]:
        """Return the request ids of which the service knows a decision, or that they expired."""
        refused = self.ledger.with_outcome(*CERTAINLY_REFUSED)
        asked = [
            *self._sample(refused),
            *(each for each in self.ledger.entries if each.outcome not in CERTAINLY_REFUSED),
        ]
        waiting = iter({entry.request_id for entry in asked})
        known = set()

        async def one_reader() -> None:
            connection = await Connection.open(service.port)
            for request_id in waiting:
                if (await connection.request("GET", f"/guard/{request_id}")).status in {200, 410}:
                    known.add(request_id)

        await asyncio.gather(*(one_reader() for _ in range(8)))
        return known

    async def graves(self) -> list[Grave]:
        """Read the dead-letter queue."""
        found = []
        async with self.jetstream() as jetstream:
            state = (await self.answered(functools.partial(jetstream.stream_info, DLQ_STREAM.name))).state
            for sequence in range(max(state.first_seq, 1), state.last_seq + 1):
                with contextlib.suppress(NotFoundError):
                    read = functools.partial(jetstream.get_msg, DLQ_STREAM.name, seq=sequence)
                    message = await self.answered(read)
                    headers = message.headers or {}
                    found.append(
                        Grave(
                            headers[Header.CORRELATION_ID],
                            f"{headers[Header.DEAD_STREAM]}:{headers[Header.DEAD_SEQUENCE]}",
                            headers[Header.DEAD_ERROR_TYPE],
                            message.data or b"",
                        )
                    )
        return found

    def rows(self) -> dict[str, Row]:
        """Read the event log while no service has it open."""
        self.before_reading()
        folder = self.rows_folder or self.folder / "state" / "clickhouse"
        command = [sys.executable, "-c", ROWS, str(folder.resolve())]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return {request_id: Row(visible, decision) for request_id, visible, decision in json.loads(output)}

    async def _repeat(self, service: RunningService, dead: set[str]) -> set[str]:
        """Send again what was not answered and some of what was; return the ids that were."""
        first: dict[str, Entry] = {}
        for entry in self.ledger.entries:
            if "text" in entry.request and entry.outcome is not Outcome.ACKNOWLEDGED:
                known = first.get(entry.request_id)
                if known is None or entry.outcome is Outcome.DECIDED:
                    first[entry.request_id] = entry
        answered = [each for each in first.values() if each.outcome is Outcome.DECIDED]
        refused = [each for each in first.values() if each.outcome in CERTAINLY_REFUSED]
        others = [each for each in first.values() if each.outcome not in {Outcome.DECIDED, *CERTAINLY_REFUSED}]
        chosen = [*others, *self._sample(answered), *self._sample(refused)]
        chosen = [each for each in chosen if each.request_id not in dead]
        waiting = iter(chosen)

        async def one_caller() -> None:
            connection: Connection | None = None
            for before in waiting:
                if connection is None or not connection.usable:
                    connection = await Connection.open(service.port)
                repeat = Entry(before.request, time.monotonic())
                await send(connection, repeat)
                self.account.repeated += 1
                if repeat.outcome is not Outcome.DECIDED:
                    self.account.repeats_unanswered += 1
                    self.note(f"a repeated request, first {before.outcome!r}, ended with {repeat.outcome!r}")
                elif before.answer is not None and before.outcome is Outcome.DECIDED:
                    self.account.repeats_different += repeat.answer != before.answer

        await asyncio.gather(*(one_caller() for _ in range(8)))
        return {each.request_id for each in chosen}

    def _sample(self, entries: list[Entry]) -> list[Entry]:
        most = QUICK_REPEATED_SAMPLE if self.size.quick else REPEATED_SAMPLE
        return self.random.sample(entries, min(most, len(entries)))

    async def set_ack_wait(self, seconds: float | None = None) -> None:
        """Let what is in work on a dead connection come again soon; without a time, set it right again.

        A short wait holds for living workers too: on a busy machine they may take longer, and be taken for dead.
        """
        async with self.jetstream() as jetstream:
            for spec in PIPELINE_CONSUMERS:
                wanted: ConsumerConfig = consumer_config(spec)
                if seconds is not None:
                    wanted = dataclasses.replace(wanted, ack_wait=seconds)
                await self.answered(functools.partial(jetstream.add_consumer, spec.stream, wanted))

    async def until_queue_is_empty(self) -> None:
        """Wait for the end of all work; what is left after the limit is counted."""
        if not self.size.quick:
            await self._until_queue_is_empty()
            return
        await self.set_ack_wait(QUICK_ACK_WAIT_S)
        await self._until_queue_is_empty()
        await self.set_ack_wait()

    async def _until_queue_is_empty(self) -> None:
        limit = time.monotonic() + EMPTY_WITHIN_S
        async with self.jetstream() as jetstream:
            while True:
                try:
                    left = (await jetstream.stream_info(DETECTION_STREAM.name)).state.messages
                except (NatsError, TimeoutError):
                    left = -1
                if left == 0:
                    return
                if time.monotonic() > limit:
                    self.account.left_in_queue += max(left, 1)
                    self.note(f"{left} messages left in the work queue")
                    return
                await asyncio.sleep(POLL_S)

    async def _stop_all(self) -> None:
        for service in self.services:
            if service.process is not None:
                await self.stop(service)

    def _left_behind(self) -> list[str]:
        """Return processes of this drill that still run, and locks that are still held."""
        state = str((self.folder / "state").resolve())
        found = [f"process {pid}" for pid in _processes_naming(state)]
        if (self.folder / "state" / "nats" / "server.json").exists():
            found.append("server.json")
        for path in (self.folder / "state").rglob("*.lock"):
            with path.open("ab") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    found.append(path.name)
        return found

    def _log_tail(self) -> str:
        return "\n".join(self.services[0].log.splitlines()[-30:]) if self.services else ""

    def end(self) -> None:
        """End whatever still runs."""
        for end in self._at_end:
            end()
        for service in self.services:
            service.end()
        for pid in _processes_naming(str((self.folder / "state").resolve())):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _processes_naming(folder: str) -> Iterable[int]:
    """Return the processes of this machine whose command line or environment names a folder."""
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if (process / "stat").read_text().rpartition(")")[2].split()[0] == "Z":
                continue
            named = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            if folder.encode() in named:
                yield int(process.name)
