"""Of hundreds of marked values none reaches a log, a metric, an error, a dead letter's listing or the event log."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import nats
import pytest

from tests.running_service import CHECKOUT, RunningService
from tests.support import eventually

pytestmark = pytest.mark.integration

FILES = ("english.jsonl", "polish.jsonl")
SHORTEST = 7
"""Characters of a value that cannot stand anywhere by chance."""
INITIAL = 3
"""Characters from which a value is looked for inside of words too."""
EVENTS = (
    "import sys, clickhouse_connect\n"
    "client = clickhouse_connect.get_client(interface='chdb', path=sys.argv[1])\n"
    "print(client.raw_query('SELECT * FROM vigil.events FORMAT JSONEachRow').decode())\n"
)


def texts() -> Iterator[str]:
    for name in FILES:
        for line in (CHECKOUT / "data" / "pii" / name).read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if row["spans"]:
                yield row["text"]


def guarded(client: httpx.Client, text: str) -> set[str]:
    """Guard a text in both modes, and send it in three wrong ways; return the values that were found in it."""
    answer = client.post("/guard", json={"text": text}).raise_for_status().json()
    client.post("/guard", json={"text": text, "mode": "fast"}).raise_for_status()
    wrong = (
        client.post("/guard", json={"text": text, "mode": text}),
        client.post("/guard", content=json.dumps({"text": text}).encode()[:-2]),
        client.post("/restore", json={"text": text, "restore_map": text}),
    )
    assert all(response.status_code >= 400 for response in wrong)
    said = [json.dumps(answer["explanations"], ensure_ascii=False), *(response.text for response in wrong)]
    found = {text[each["start"] : each["end"]] for each in answer["pii"]["entities"]}
    for value in found:
        # An initial or a country code stands in many a word; by itself it must not stand anywhere either.
        spilled = re.compile(re.escape(value) if len(value) >= INITIAL else rf"(?<!\w){re.escape(value)}(?!\w)")
        assert not any(spilled.search(each) for each in said)
    return {value for value in found if len(value) >= SHORTEST}


async def bury(url: str, bodies: list[str]) -> None:
    """Send messages that no stage can read, and wait until all lie in the dead-letter queue."""
    client = await nats.connect(url)
    jetstream = client.jetstream()
    for body in bodies:
        await jetstream.publish("vigil.pii.scan", body.encode())

    async def all_lie_there() -> bool:
        return (await jetstream.stream_info("VIGIL_DLQ")).state.messages >= len(bodies)

    await eventually(all_lie_there, within_s=30)
    await client.close()


def listed(service: RunningService, *command: str) -> str:
    arguments = [sys.executable, "-m", "app.cli", "-s", service.nats_url, *command]
    environment = os.environ | {"VIGIL_STATE_DIR": str(service.state_dir)}
    run = subprocess.run(arguments, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False)
    return run.stdout + run.stderr


def test_no_personal_value_stands_where_operators_look(new_service: Callable[..., RunningService]) -> None:
    service = new_service().start()
    chosen = list(texts())[::3]
    with httpx.Client(base_url=service.url, timeout=60) as client, ThreadPoolExecutor(4) as callers:
        values = set().union(*callers.map(lambda text: guarded(client, text), chosen))
        asyncio.run(bury(service.nats_url, [json.dumps({"text": text}) for text in chosen[:10]]))
        seen = {
            "metrics": client.get("/metrics").text,
            "health": client.get("/health/ready").text,
            "doctor": listed(service, "doctor"),
            **{
                f"dlq {what}": listed(service, "dlq", *what.split())
                for what in ("ls", "ls -j", "stats", "show 1", "show 2 -j")
            },
        }
    assert len(values) > 200
    assert "vigil.pii.scan" in seen["dlq ls"] + seen["dlq show 1"]
    assert service.stop() == 0
    seen["log"] = service.log
    path = str((Path(service.state_dir) / "clickhouse").resolve())
    seen["events"] = subprocess.run(
        [sys.executable, "-c", EVENTS, path], capture_output=True, text=True, check=True
    ).stdout
    assert seen["events"].count("request_id") == 2 * len(chosen)
    spilled = {(place, value) for place, content in seen.items() for value in values if value in content}
    assert spilled == set()
