"""Closed-loop load: N connections that send the next prompt as soon as the last is answered.

wrk generates it where it is installed (it costs little of the machine it shares with the service); else a plain
asyncio client does, which costs more and so shows lower figures. The result says which.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Final

LUA_SCRIPT: Final = """
local bodies = {}
for line in io.lines("%(bodies)s") do bodies[#bodies + 1] = line end
local at = 0
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
function request() at = at %% #bodies + 1; return wrk.format(nil, nil, nil, bodies[at]) end
function done(summary, latency, requests)
  io.write(string.format("RESULT %%d %%d %%f %%f %%f %%d\\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(90), latency:percentile(99), summary.errors.status
    + summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout))
end
"""


@dataclass(frozen=True, slots=True)
class LoadResult:
    generator: str
    connections: int
    requests_per_s: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    errors: int

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def bodies(texts: Sequence[str], mode: str) -> list[bytes]:
    return [json.dumps({"text": text, "mode": mode}).encode() for text in texts]


def closed_loop(url: str, requests: Sequence[bytes], *, connections: int, seconds: float) -> LoadResult:
    if shutil.which("wrk"):
        return _with_wrk(url, requests, connections, seconds)
    return asyncio.run(_with_asyncio(url, requests, connections, seconds))


def _with_wrk(url: str, requests: Sequence[bytes], connections: int, seconds: float) -> LoadResult:
    with tempfile.TemporaryDirectory() as folder:
        listed, script = Path(folder, "bodies"), Path(folder, "load.lua")
        listed.write_bytes(b"\n".join(requests))
        script.write_text(LUA_SCRIPT % {"bodies": listed})
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "10s", "-s", str(script), url]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"RESULT (\d+) (\d+) ([\d.]+) ([\d.]+) ([\d.]+) (\d+)", output)
    if found is None:
        raise RuntimeError(f"wrk gave no result: {output}")
    done, microseconds, p50, p90, p99, errors = map(float, found.groups())
    return LoadResult("wrk", connections, done / microseconds * 1e6, p50 / 1000, p90 / 1000, p99 / 1000, int(errors))


async def _with_asyncio(url: str, requests: Sequence[bytes], connections: int, seconds: float) -> LoadResult:
    host, _, port = url.removeprefix("http://").partition("/")[0].partition(":")
    path = "/" + url.removeprefix("http://").partition("/")[2]
    number, errors = count(), 0
    latencies_ms: list[float] = []
    until = time.perf_counter() + seconds

    async def one_connection() -> None:
        nonlocal errors
        reader, writer = await asyncio.open_connection(host, int(port))
        while (started := time.perf_counter()) < until:
            body = requests[next(number) % len(requests)]
            writer.write(
                f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", head)
            await reader.readexactly(int(length.group(1)) if length else 0)
            errors += not head.startswith(b"HTTP/1.1 200")
            latencies_ms.append((time.perf_counter() - started) * 1000)
        writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(one_connection() for _ in range(connections)))
    took = time.perf_counter() - started
    latencies_ms.sort()
    p50, p90, p99 = (latencies_ms[min(len(latencies_ms) - 1, int(len(latencies_ms) * q))] for q in (0.5, 0.9, 0.99))
    return LoadResult("asyncio", connections, len(latencies_ms) / took, p50, p90, p99, errors)
