"""Policies of a running service: two processes on a real nats-server follow each change, under load or after faults."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nats
import pytest
import pytest_asyncio
from nats.aio.client import Client
from nats.micro.request import ERROR_CODE_HEADER

from app.arbiter.book import load_policies
from app.arbiter.policy import Policy
from app.contracts import DecisionRecord, GuardAnswer, Verdict
from app.errors import PolicyConflict, UnknownPolicy
from app.messaging import audit
from app.messaging.embedded import EmbeddedNats
from app.messaging.policy_store import PolicyStore
from app.redaction import RedactionTable
from app.settings import default_config_dir
from tests.support import eventually, free_port

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90), pytest.mark.asyncio(loop_scope="module")]

FILES = load_policies(default_config_dir()).policies
TEXT = "write to abcdefghijklmnopqrst@example.com"
SEEN_WITHIN_S = 1.0
ROUNDS = 12
CALLERS = 12


@dataclass
class Replicas:
    """Two processes of the service, and an operator's connection."""

    server: EmbeddedNats
    client: Client
    folder: Path
    processes: list[asyncio.subprocess.Process] = field(default_factory=list)
    started: int = 0

    @property
    def store(self) -> PolicyStore:
        return PolicyStore(self.client.jetstream())

    async def add(self) -> None:
        assert self.server.record is not None
        number = self.started = self.started + 1
        with self.log_of(number).open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.integration.policy_replica"),
                *(self.server.record.url, str(self.folder / f"state-{number}")),
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        self.processes.append(process)
        assert process.stdout is not None
        assert await process.stdout.readline() == b"up\n", self.log_of(number).read_text()

    def log_of(self, number: int) -> Path:
        return self.folder / f"replica-{number}.log"

    def all_say(self, line: str) -> Callable[[], Awaitable[bool]]:
        """Return whether the logs of all processes hold a line."""

        async def say() -> bool:
            return all(line in self.log_of(number + 1).read_text() for number in range(self.started))

        return say

    async def follow(self, version: int, name: str = "balanced", *, within_s: float = SEEN_WITHIN_S) -> None:
        await eventually(self.all_say(f"policy {name} is in force in version {version}\n"), within_s=within_s)

    async def guard(self, text: str = TEXT, **fields: Any) -> GuardAnswer:
        request = json.dumps({"text": text, **fields}).encode()
        reply = await self.client.request("vigil.api.guard", request, timeout=15)
        assert (reply.headers or {}).get(ERROR_CODE_HEADER) is None, reply.data
        return GuardAnswer.model_validate_json(reply.data)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def replicas(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Replicas]:
    folder = tmp_path_factory.mktemp("policies")
    server = EmbeddedNats(folder / "server", "127.0.0.1", free_port())
    await server.start()
    assert server.record is not None
    client = await nats.connect(server.record.url, max_reconnect_attempts=-1, reconnect_time_wait=0.05)
    running = Replicas(server, client, folder)
    try:
        await asyncio.gather(running.add(), running.add())
        yield running
    finally:
        for process in running.processes:
            if process.returncode is None:
                process.terminate()
        for process in running.processes:
            await process.wait()
        await client.close()
        await server.stop()


def changed(number: int) -> Policy:
    """Return a policy of which every stage shows something else than with the one before."""
    semantic = {"semantic": number % 2 == 0}
    table = {"default": {"action": "mask", "keep_last": number % 9 + 1}}
    balanced = FILES["balanced"]
    return balanced.model_copy(
        update={
            "branches": type(balanced.branches)(**semantic),
            "redaction": RedactionTable.model_validate(table),
        }
    )


def signs_of(policy: Policy) -> tuple[bool, int]:
    """Return what an answer shows of a policy: whether a branch judged, how much of the address stands."""
    return policy.branches.semantic, policy.redaction.default.keep_last


def signs_in(answer: GuardAnswer) -> tuple[bool, int]:
    masked = (answer.sanitized_text or "").removeprefix("write to ")
    return "semantic" in answer.branches, sum(letter.isalnum() for letter in masked)


async def test_changes_under_load_lose_no_request_and_mix_no_versions(replicas: Replicas) -> None:
    applied: list[tuple[float, Policy]] = []
    answers: list[tuple[float, GuardAnswer]] = []
    done = asyncio.Event()

    async def call() -> None:
        while not done.is_set():
            started = time.monotonic()
            answers.append((started, await replicas.guard()))

    first = (await replicas.store.apply(changed(0), "test", base=FILES["balanced"])).policy
    applied.append((time.monotonic(), first))
    await replicas.follow(first.version)
    callers = [asyncio.create_task(call()) for _ in range(CALLERS)]
    for number in range(1, ROUNDS):
        before = len(answers)
        policy = (await replicas.store.apply(changed(number), "test")).policy
        applied.append((time.monotonic(), policy))
        await replicas.follow(policy.version)

        async def some_more(before: int = before) -> bool:
            return len(answers) > before + 2 * CALLERS

        await eventually(some_more)
    done.set()
    await asyncio.gather(*callers)

    versions = {policy.version: policy for _, policy in applied}
    first_number = FILES["balanced"].version + 1
    assert list(versions) == list(range(first_number, first_number + ROUNDS)), "numbers go on after the file's"
    assert {answer.policy_version for _, answer in answers} == set(versions)
    for started, answer in answers:
        assert signs_in(answer) == signs_of(versions[answer.policy_version])
        due = [policy.version for at, policy in applied if at <= started - SEEN_WITHIN_S]
        assert answer.policy_version >= max(due, default=0)


async def test_a_bad_policy_is_refused_with_its_field_and_the_old_one_stays(replicas: Replicas) -> None:
    good = (await replicas.store.apply(changed(5), "test")).policy
    await replicas.follow(good.version)
    bucket = await replicas.client.jetstream().key_value("VIGIL_POLICIES")
    bad = json.loads(good.model_dump_json()) | {"version": good.version + 1, "block_at": 500}
    await bucket.put("live.policy.balanced", json.dumps(bad).encode())
    await eventually(replicas.all_say("policy balanced is refused, what was in force stays: block_at: "))
    assert (await replicas.guard()).policy_version == good.version
    await replicas.add()
    await replicas.follow(good.version)  # One that starts later takes the last good one too.


async def test_going_back_gives_the_earlier_content_a_new_version(replicas: Replicas) -> None:
    bucket = await replicas.client.jetstream().key_value("VIGIL_POLICIES")
    await bucket.delete("live.policy.balanced")
    earlier = (await replicas.store.apply(changed(1), "test", base=FILES["balanced"])).policy
    later = (await replicas.store.apply(changed(2), "test")).policy
    back = (await replicas.store.roll_back("balanced", "test", base=FILES["balanced"])).policy
    assert back.version == later.version + 1
    assert signs_of(back) == signs_of(earlier)
    await replicas.follow(back.version)
    assert signs_in(await replicas.guard()) == signs_of(earlier)
    kept = await replicas.store.versions("balanced")
    assert kept[0].in_force
    of_the_file = FILES["balanced"].version
    assert of_the_file in [each.pin.version for each in kept], "the file's version is kept too"
    again = (await replicas.store.roll_back("balanced", "test", to=of_the_file)).policy
    assert again.redaction == FILES["balanced"].redaction
    with pytest.raises(UnknownPolicy):
        await replicas.store.roll_back("balanced", "test", to=999)


async def test_without_what_was_applied_the_file_holds_again(replicas: Replicas) -> None:
    await replicas.store.apply(changed(7), "test")
    await replicas.store.remove("balanced", "test", base=FILES["balanced"])

    async def back() -> bool:
        return (await replicas.guard()).policy_version == FILES["balanced"].version

    await eventually(back, within_s=SEEN_WITHIN_S)
    fresh = await replicas.store.apply(changed(7), "test", base=FILES["balanced"])
    assert fresh.policy.version > 10, "numbers are never given twice"
    assert not (await replicas.store.apply(changed(7), "test")).changed


async def test_of_two_operators_the_second_is_told(replicas: Replicas) -> None:
    seen = (await replicas.store.apply(changed(1), "test")).policy
    await replicas.store.apply(changed(2), "test", expected_version=seen.version)
    with pytest.raises(PolicyConflict):
        await replicas.store.apply(changed(3), "test", expected_version=seen.version)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(replicas.store.apply(changed(number), "test")) for number in range(4, 7)]
    assert len({task.result().policy.version for task in tasks}) == 3


async def test_a_shadow_is_recorded_beside_each_decision_and_told_to_who_asks(replicas: Replicas) -> None:
    plain = (await replicas.store.apply(FILES["balanced"], "test")).policy
    await replicas.follow(plain.version)
    shadow = FILES["balanced"].model_copy(update={"name": "next", "block_at": 15, "levels": FILES["strict"].levels})
    shadow = shadow.model_copy(update={"levels": shadow.levels.model_copy(update={"low_up_to": 10})})
    applied = (await replicas.store.apply(shadow, "test")).policy
    await replicas.follow(applied.version, "next")
    rows = await replicas.client.subscribe("vigil.logs.event")
    await replicas.store.choose_shadow("balanced", "next", "test")

    async def told() -> bool:
        return (await replicas.guard(shadow=True)).shadow is not None

    await eventually(told, within_s=SEEN_WITHIN_S)
    answer = await replicas.guard()
    assert (answer.decision, answer.shadow) == (Verdict.SANITIZED, None)

    async def recorded() -> DecisionRecord:
        while True:
            record = DecisionRecord.model_validate_json((await rows.next_msg(timeout=5)).data)
            if record.answer.request_id == answer.request_id:
                return record

    record = await recorded()
    assert record.shadow is not None
    assert (record.shadow.policy, record.shadow.policy_version) == ("next", applied.version)
    assert (record.shadow.decision, record.shadow.score) == (Verdict.BLOCKED, 20)
    await rows.unsubscribe()
    with pytest.raises(PolicyConflict, match="shadow of balanced"):
        await replicas.store.remove("next", "test")
    await replicas.store.choose_shadow("balanced", None, "test")
    await replicas.store.choose_default("next", "test")

    async def default() -> bool:
        return (await replicas.guard()).policy == "next"

    await eventually(default, within_s=SEEN_WITHIN_S)
    await replicas.store.choose_default(None, "test")


async def test_a_change_is_followed_after_the_server_was_killed(replicas: Replicas) -> None:
    assert replicas.server.record is not None
    os.kill(replicas.server.record.pid, signal.SIGKILL)

    async def applied() -> bool:
        try:
            self_applied.append((await replicas.store.apply(changed(len(self_applied)), "test")).policy.version)
        except Exception:  # noqa: BLE001 - the server is on its way back
            return False
        return True

    self_applied: list[int] = []
    await eventually(applied, within_s=20)
    await replicas.follow(self_applied[-1], within_s=20)


async def test_a_deleted_bucket_comes_back_with_what_was_in_force(replicas: Replicas) -> None:
    before = (await replicas.store.apply(changed(8), "test")).policy
    await replicas.follow(before.version)
    jetstream = replicas.client.jetstream()
    await jetstream.delete_key_value("VIGIL_POLICIES")

    async def back() -> bool:
        try:
            return (await replicas.store.applied("balanced")) == before
        except Exception:  # noqa: BLE001 - the bucket is not there yet
            return False

    await eventually(back, within_s=20)
    assert (await replicas.guard()).policy_version == before.version
    after = (await replicas.store.apply(changed(2), "test")).policy
    assert after.version == before.version + 1
    await replicas.follow(after.version, within_s=5)


async def test_every_action_is_in_the_audit_record(replicas: Replicas) -> None:
    await replicas.store.apply(changed(6), "anna")
    page = await audit.entries(replicas.client.jetstream(), limit=1, action="policies")
    assert [(each.actor, each.action, each.target) for each in page.entries] == [("anna", "policies.apply", "balanced")]
