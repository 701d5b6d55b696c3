"""The callers of a drill: keep-alive HTTP connections that send requests and note how each ended."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self, cast

from tests.drills.ledger import Entry, Ledger, Outcome

DEADLINE_S: Final = 5.0
"""The service's own default; no drill changes it."""
HANGING_S: Final = DEADLINE_S + 2.0
"""A caller without an answer by then counts as hanging."""
LONGEST_PAUSE_S: Final = 1.0
"""What a caller honours of Retry-After, so that a drill ends in time."""
POLL_S: Final = 0.02
_STATUS: Final = re.compile(rb"HTTP/1\.1 (\d{3})")
_LENGTH: Final = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_RETRY_AFTER: Final = re.compile(rb"(?i)\r\nretry-after: *(\d+)")
_CLOSE: Final = re.compile(rb"(?i)\r\nconnection: *close")


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    body: bytes
    retry_after_s: int | None

    def json(self) -> dict[str, Any]:
        read: dict[str, Any] = json.loads(self.body)
        return read


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection for one request at a time; costs a fraction of a full client on a shared machine."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._waiting: asyncio.Future[Response] | None = None

    @classmethod
    async def open(cls, port: int) -> Self:
        """Connect to a service on this machine.

        Raises:
            OSError: nobody listens there.
        """
        _, connection = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return connection

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def request(self, method: str, path: str, body: bytes = b"") -> Response:
        """Send one request and wait for its answer, without limit.

        Raises:
            ConnectionError: the connection ended before the whole answer had come.
        """
        if self._transport is None:
            raise ConnectionResetError
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(
            b"%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            % (method.encode(), path.encode(), len(body))
            + body
        )
        return await self._waiting

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it.

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._received[: end + 2])
        length = _LENGTH.search(head)
        whole = end + 4 + (int(length[1]) if length else 0)
        status = _STATUS.match(head)
        if len(self._received) < whole or status is None:
            return
        body = bytes(self._received[end + 4 : whole])
        del self._received[:whole]
        pause = _RETRY_AFTER.search(head)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(Response(int(status[1]), body, int(pause[1]) if pause else None))
        if _CLOSE.search(head):
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(ConnectionResetError())


class Callers:
    """Connections that send one request after another, and go to another replica when theirs is gone."""

    def __init__(
        self,
        ledger: Ledger,
        ports: Sequence[int],
        requests: Iterator[dict[str, Any]],
        *,
        connections: int = 16,
        rate: float | None = None,
    ) -> None:
        """Prepare the load.

        Args:
            ledger: where each request and its end is noted.
            ports: the replicas' ports; the connections are spread over them.
            requests: bodies of POST /guard, each with a request id.
            connections: how many callers there are.
            rate: requests a second, all callers together; as fast as they are answered without it.
        """
        self._ledger = ledger
        self._ports = ports
        self._requests = requests
        self._connections = connections
        self._starts = itertools.count()
        self._rate = rate
        self._enough = asyncio.Event()
        self._began = time.monotonic()

    def stop(self) -> None:
        """Let each caller finish the request it has sent."""
        self._enough.set()

    async def run(self) -> None:
        """Send until told to stop, or until there are no more requests."""
        self._began = time.monotonic()
        await asyncio.gather(*(self._caller(number) for number in range(self._connections)))

    async def _caller(self, number: int) -> None:
        ports = itertools.cycle([*self._ports[number % len(self._ports) :], *self._ports[: number % len(self._ports)]])
        port = next(ports)
        connection: Connection | None = None
        for request in self._requests:
            await self._pace()
            if self._enough.is_set():
                break
            entry = self._ledger.open(request)
            try:
                if connection is None or not connection.usable:
                    connection = await Connection.open(port)
            except OSError:
                entry.close(Outcome.NOT_REACHED)
                port = await self._reachable(ports)
                continue
            await send(connection, entry)
            if entry.retry_after_s:
                await self._pause(min(entry.retry_after_s, LONGEST_PAUSE_S))
        if connection is not None:
            connection.close()

    async def _pace(self) -> None:
        """Wait for this request's turn; a caller that is late does not make up for it."""
        if self._rate is None:
            return
        turn = self._began + next(self._starts) / self._rate
        late = time.monotonic() - turn
        if late > 1:
            self._began += late
        await self._pause(max(-late, 0.0))

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._enough.wait(), seconds)

    async def _reachable(self, ports: Iterator[int]) -> int:
        """Return the next port on which somebody listens."""
        while not self._enough.is_set():
            port = next(ports)
            try:
                (await Connection.open(port)).close()
            except OSError:
                await self._pause(POLL_S)
            else:
                return port
        return next(ports)


async def send(connection: Connection, entry: Entry) -> None:
    """Send one request and close its entry with how it ended."""
    body = json.dumps(entry.request).encode()
    try:
        async with asyncio.timeout(HANGING_S):
            response = await connection.request("POST", "/guard", body)
    except TimeoutError:
        connection.close()
        entry.close(Outcome.HANGING)
    except ConnectionError:
        entry.close(Outcome.CUT)
    else:
        entry.close(outcome_of(response), response.json(), status=response.status, retry_after_s=response.retry_after_s)


def outcome_of(response: Response) -> Outcome:
    if response.status == 200:
        return Outcome.DECIDED
    if response.status == 504:
        return Outcome.LATE
    if response.status != 503:
        return Outcome.PROBLEM
    overloaded = response.json().get("type", "").endswith("overloaded")
    return Outcome.REFUSED if overloaded else Outcome.UNSURE
