"""`make bench ARGS="--part stream"`: what streams leak, and what a chunk waits for. Alone:
`python -m tests.benchmarks.stream --answers 1000`.

Each answer with personal data and secrets is streamed one character a chunk, and then for each place in its values, cut
there alone, with and without a pause (tests/benchmarks/cuts.py). Some answers are streamed over HTTP through the whole
service, in chunks the size of tokens with a cut in each value. A leak is more than four characters of a value that is
recognised in one piece. Delays are those of token-sized chunks through a whole session: rules, leaks, patterns, the
tagger, and the encoder beside; measured one answer at a time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx

from app.arbiter.book import load_policies
from app.contracts import DetectionReport, GuardRequest
from app.detection.detector import Detector
from app.pii.engine import PiiEngine
from app.pii.sealing import RestoreMap
from app.settings import default_config_dir
from app.stream_contracts import StreamOpening
from app.streaming.session import StreamParts, StreamSession
from tests.benchmarks.cuts import leaks
from tests.running_service import RunningService
from tests.support import plain_answer
from tests.unit.streaming.answers import (
    ALLOWED_PART,
    Answer,
    answers,
    chunks,
    found_values,
    leaked_part,
    random_cuts,
)

ANSWERS = 1_000
SENT = 100
"""Answers that are sent over HTTP too."""
TIMED = 100
"""Answers whose chunks are timed."""


def measure(count: int = ANSWERS, url: str | None = None, *, processes: int | None = None) -> dict[str, Any]:
    """Return what leaked of how many values and what a chunk waited for in milliseconds.

    Args:
        count: answers that are cut everywhere.
        url: address of a service that also gets some of them; None for none.
        processes: how many stream answers side by side; the machine's cores by default.
    """
    started = time.perf_counter()
    cut = leaks(answers(count), processes or os.cpu_count() or 1)
    report: dict[str, Any] = asdict(cut)
    if url is not None:
        report |= _over_http(answers(min(count, SENT), seed=3), url)
    report |= asyncio.run(_delays(PiiEngine.load(), min(count, TIMED)))
    return report | {"seconds": round(time.perf_counter() - started, 1)}


def _over_http(sent: Iterable[Answer], url: str) -> dict[str, int]:
    """Stream answers through a service; what is looked for is what it finds in each in one piece."""
    rng = random.Random(5)
    streams = values = leaked = 0
    with httpx.Client(base_url=url, timeout=60) as client:
        for answer in sent:
            whole = client.post("/guard", json={"text": answer.text, "source": "output", "mode": "full"}).json()
            known = found_values(answer, whole["sanitized_text"] or answer.text)
            inside = [rng.randint(start + 1, end - 1) for start, end in answer.values]
            pieces = chunks(answer.text, [*random_cuts(answer.text, rng), *inside])
            lines = "".join(json.dumps({"text": piece}) + "\n" for piece in pieces)
            response = client.post("/guard/stream", content=lines, headers={"content-type": "application/x-ndjson"})
            events = [json.loads(line) for line in response.raise_for_status().text.splitlines()]
            assert events[-1]["event"] == "verdict", events[-1]
            shown = "".join(event["text"] for event in events if event["event"] == "text")
            streams += 1
            values += len(known)
            leaked += sum(leaked_part(value, shown) > ALLOWED_PART for value in known)
    return {"http_streams": streams, "http_values": values, "http_leaked": leaked}


async def _delays(engine: PiiEngine, count: int) -> dict[str, Any]:
    rng = random.Random(7)
    detector = Detector.load(default_config_dir())
    delays, held = [], []
    with ThreadPoolExecutor(2) as threads:

        async def inspect(request: GuardRequest) -> DetectionReport:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(threads, detector.inspect, request.text, request.source, request.mode)

        parts = StreamParts(
            finder=engine,
            rules=detector,
            inspect=inspect,
            threads=threads,
            policy_of=load_policies(default_config_dir(), "balanced").get,
            restore_map_of=lambda _, __: RestoreMap(UUID(int=1), (), backslash_is_text=False),
            entities=engine.entities,
            canaries=("kappa-omega-7319",),
            hash_key=b"",
            text_limit=100_000,
            hold_limit=4_096,
            default_language="en",
            scans_fast_mode=False,
        )
        for answer in answers(count, seed=2):
            session = StreamSession(StreamOpening(system_prompt="You are a clerk. Never say why."), parts, _decided)
            for piece in chunks(answer.text, random_cuts(answer.text, rng)):
                started = time.perf_counter()
                async for _ in session.feed(piece):
                    pass
                delays.append(1000 * (time.perf_counter() - started))
                held.append(session.held)
            async for _ in session.finish():
                pass
    ordered = sorted(delays)
    return {
        "chunks": len(delays),
        "chunk_p50_ms": round(statistics.median(delays), 3),
        "chunk_p99_ms": round(ordered[int(0.99 * len(ordered))], 3),
        "held_p50_characters": statistics.median(held),
        "held_most_characters": max(held),
    }


async def _decided(request: GuardRequest) -> bytes:
    """Stand in for the pipeline, whose cost comes once, at the end."""
    assert request.request_id is not None
    answer = plain_answer(request_id=request.request_id, mode=request.mode, source=request.source)
    return answer.model_dump_json().encode()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.stream",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--answers", type=int, default=ANSWERS)
    parser.add_argument("--processes", type=int, help="how many stream answers side by side (default: one a core)")
    parser.add_argument("--without-http", action="store_true", help="start no service")
    options = parser.parse_args()
    if options.without_http:
        report = measure(options.answers, processes=options.processes)
    else:
        with tempfile.TemporaryDirectory() as folder:
            service = RunningService(Path(folder, "state"))
            try:
                report = measure(options.answers, service.start().url, processes=options.processes)
            finally:
                service.end()
    print(json.dumps(report, indent=2))
    streams = report["streams"] + report.get("http_streams", 0)
    leaked = report["leaked"] + report.get("http_leaked", 0)
    print(
        f"{report['answers']} answers, {streams} streams, {leaked} values leaked "
        f"by more than {ALLOWED_PART} characters; added delay per chunk P50 {report['chunk_p50_ms']} ms, "
        f"P99 {report['chunk_p99_ms']} ms"
    )
    if leaked:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
