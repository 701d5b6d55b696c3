"""`make bench ARGS="--part stream"`: what streams leak, and what a chunk waits for. Alone, without a service:
`python -m tests.benchmarks.stream`.

Each answer with personal data and secrets is streamed one character a chunk, which cuts every value everywhere, and
then once for each place in its values, cut there alone. A leak is more than four characters of a value that is
recognised in one piece. Delays are those of token-sized chunks through a whole session: rules, leaks, patterns, the
tagger, and the encoder beside.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from app.arbiter.book import load_policies
from app.contracts import DetectionReport, GuardAnswer, GuardRequest, PiiReport, StreamOpening, ThreatLevel, Verdict
from app.detection.detector import Detector
from app.pii.engine import PiiEngine
from app.pii.redaction import Redactor
from app.settings import default_config_dir
from app.streaming.redaction import Rules, StreamRedactor
from app.streaming.session import StreamParts, StreamSession
from tests.unit.streaming.answers import ALLOWED_PART, answers, chunks, found_values, leaked_part, random_cuts

ANSWERS = 1_000
TIMED = 100
"""Answers whose chunks are timed."""


def measure(count: int = ANSWERS) -> dict[str, Any]:
    """Return how many values leaked of how many, and what a chunk waited for in milliseconds."""
    engine = PiiEngine.load()
    return {**_leaks(engine, count), **asyncio.run(_delays(engine, min(count, TIMED)))}


def _leaks(engine: PiiEngine, count: int) -> dict[str, Any]:
    values = leaked = unlike = streams = 0
    for answer in answers(count):
        whole = engine.scan(answer.text, None, []).redacted_text
        known = found_values(answer, whole)
        values += len(known)
        cuttings = [list(answer.text)]
        cuttings += [chunks(answer.text, [cut]) for start, end in answer.values for cut in range(start + 1, end)]
        for pieces in cuttings:
            redactor = StreamRedactor(engine, Rules(Redactor(), entities=engine.entities))
            shown = "".join([*map(redactor.feed, pieces), redactor.finish()])
            streams += 1
            leaked += sum(leaked_part(value, shown) > ALLOWED_PART for value in known)
            unlike += shown != whole
    return {"answers": count, "streams": streams, "values": values, "leaked": leaked, "unlike_one_piece": unlike}


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
            placeholders_of=lambda _, __: (),
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
    answer = GuardAnswer(
        request_id=request.request_id,
        decision=Verdict.ALLOWED,
        score=0,
        threat_level=ThreatLevel.LOW,
        categories=[],
        explanations=[],
        branches={},
        findings=[],
        boosts=[],
        pii=PiiReport(),
        sanitized_text=None,
        mode=request.mode,
        source=request.source,
        policy="balanced",
        latency_ms=0,
        model_version="",
    )
    return answer.model_dump_json().encode()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.stream", description=__doc__)
    parser.add_argument("--answers", type=int, default=ANSWERS)
    print(json.dumps(measure(parser.parse_args().answers), indent=2))


if __name__ == "__main__":
    main()
