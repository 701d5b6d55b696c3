"""Open-loop load: requests leave at fixed times whether or not earlier ones were answered.

Latency counts from the time a request should have left, so a service that falls behind cannot hide it (Tene,
"coordinated omission"). Run as a process of its own: `python -m tests.benchmarks.open_loop URL BODIES RATE SECONDS`
prints one JSON object; BODIES holds one JSON body a line.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.running_service import CHECKOUT

WARM_UP_S = 2.0
TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class OpenResult:
    rate: float
    """Requests a second that were offered."""
    sent: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    worst_ms: float
    refused: int
    """Answered with a status other than 200, or not at all."""

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def open_loop(url: str, requests: Sequence[bytes], *, rate: float, seconds: float) -> OpenResult:
    """Offer load from a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder, "bodies")
        listed.write_bytes(b"\n".join(requests))
        command = [sys.executable, "-m", "tests.benchmarks.open_loop", url, str(listed), str(rate), str(seconds)]
        output = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    return OpenResult(**json.loads(output))


class Offered:
    """Connections are kept and reused; a new one is opened when all are busy."""

    def __init__(self, url: str, requests: Sequence[bytes]) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        self._requests = [f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body for body in requests]
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.latencies_ms: list[float] = []
        self.statuses: Counter[int] = Counter()

    async def offer(self, rate: float, seconds: float, *, counted: bool) -> None:
        loop = asyncio.get_running_loop()
        begin = loop.time()
        sent = []
        for number in range(int(rate * seconds)):
            due = begin + number / rate
            if (ahead := due - loop.time()) > 0:
                await asyncio.sleep(ahead)
            sent.append(asyncio.create_task(self._send(number, due, counted)))
        await asyncio.gather(*sent)

    async def _send(self, number: int, due: float, counted: bool) -> None:
        try:
            status = await asyncio.wait_for(self._answered(number), TIMEOUT_S)
        except (OSError, EOFError, TimeoutError, ValueError):
            status = 0
        if counted:
            self.statuses[status] += 1
            if status == 200:
                self.latencies_ms.append((asyncio.get_running_loop().time() - due) * 1000)

    async def _answered(self, number: int) -> int:
        reader, writer = self._kept() or await asyncio.open_connection(self._host, self._port)
        writer.write(self._requests[number % len(self._requests)])
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
        if b"connection: close" in head:
            writer.close()
        else:
            self._idle.append((reader, writer))
        return int(head[9:12])

    def _kept(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """Return a connection that the server has not ended meanwhile: it keeps none that is idle for seconds."""
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof():
                return reader, writer
            writer.close()
        return None


async def _run(url: str, requests: Sequence[bytes], rate: float, seconds: float) -> OpenResult:
    offered = Offered(url, requests)
    await offered.offer(rate, WARM_UP_S, counted=False)
    await offered.offer(rate, seconds, counted=True)
    ordered = sorted(offered.latencies_ms) or [float("inf")]
    p50, p90, p99 = (ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in (0.5, 0.9, 0.99))
    sent = offered.statuses.total()
    return OpenResult(rate, sent, p50, p90, p99, ordered[-1], sent - offered.statuses[200])


def main() -> None:
    url, bodies, rate, seconds = sys.argv[1:]
    requests = Path(bodies).read_bytes().split(b"\n")
    try:
        import uvloop

        result = uvloop.run(_run(url, requests, float(rate), float(seconds)))
    except ImportError:
        result = asyncio.run(_run(url, requests, float(rate), float(seconds)))
    print(json.dumps(result.as_dict()))


if __name__ == "__main__":
    main()
