"""The server's streams and consumers equal the tables of the design, also where they were something else before."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import nats
import pytest
from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    RetentionPolicy,
    StorageType,
    StoreCompression,
    StreamConfig,
)
from nats.js.errors import APIError

from app.messaging.declarations import Declarations
from app.topology import BUCKETS, CONSUMERS, GIGABYTE, STREAMS, TOPOLOGY_VERSION, VERSION_KEY, version_of
from tests.integration.messaging.conftest import Running

pytestmark = pytest.mark.integration

DAY_S = timedelta(days=1).total_seconds()


@pytest.mark.parametrize(
    ("name", "subjects", "retention", "max_age_s", "max_bytes"),
    [
        (
            "VIGIL_DETECTION",
            {"vigil.guard.>", "vigil.detection.>", "vigil.pii.>", "vigil.arbiter.>", "vigil.logs.>"},
            RetentionPolicy.WORK_QUEUE,
            7 * DAY_S,
            10_000_000_000,
        ),
        ("VIGIL_DLQ", {"vigil.dlq.>"}, RetentionPolicy.LIMITS, 30 * DAY_S, 1_000_000_000),
    ],
)
async def test_a_stream_is_as_the_design_says(
    running: Running, name: str, subjects: set[str], retention: RetentionPolicy, max_age_s: float, max_bytes: int
) -> None:
    config = (await running.jetstream.stream_info(name)).config
    assert set(config.subjects or ()) == subjects
    assert config.retention == retention
    assert config.max_age == max_age_s
    assert config.max_bytes == max_bytes
    assert config.storage == StorageType.FILE
    assert config.num_replicas == 1


@pytest.mark.parametrize(
    ("durable", "filters", "ack_wait_s", "max_deliver"),
    [
        ("detection-worker", {"vigil.guard.*", "vigil.detection.>"}, 30, 3),
        ("pii-worker", {"vigil.pii.>"}, 60, 3),
        ("arbiter-worker", {"vigil.arbiter.>"}, 10, 3),
        ("logging-worker", {"vigil.logs.>"}, 30, 5),
    ],
)
async def test_a_consumer_is_as_the_design_says(
    running: Running, durable: str, filters: set[str], ack_wait_s: int, max_deliver: int
) -> None:
    config = (await running.jetstream.consumer_info("VIGIL_DETECTION", durable)).config
    assert set(config.filter_subjects or [config.filter_subject]) == filters
    assert config.durable_name == durable
    assert config.ack_policy == "explicit"
    assert config.ack_wait == ack_wait_s
    assert config.max_deliver == max_deliver
    assert config.deliver_subject is None  # pull
    assert not config.backoff  # It would override ack_wait.


async def test_there_are_no_other_consumers(running: Running) -> None:
    assert len(await running.jetstream.consumers_info("VIGIL_DETECTION")) == 4


@pytest.fixture
async def jetstream(server: str) -> JetStreamContext:
    client = await nats.connect(server)
    return client.jetstream()


async def test_a_stream_with_another_configuration_is_made_equal_and_keeps_its_messages(
    jetstream: JetStreamContext,
) -> None:
    await jetstream.add_stream(
        StreamConfig(
            name="VIGIL_DETECTION",
            subjects=["vigil.guard.>", "vigil.old.>"],
            retention=RetentionPolicy.WORK_QUEUE,
            storage=StorageType.FILE,
            max_age=60,
        )
    )
    await jetstream.publish("vigil.guard.input", b"kept")
    await Declarations(replicas=1, decision_ttl_s=900).reconcile(jetstream)
    info = await jetstream.stream_info("VIGIL_DETECTION")
    assert info.config.max_age == 7 * DAY_S
    assert "vigil.old.>" not in (info.config.subjects or ())
    assert info.state.messages == 1


async def test_a_consumer_with_another_configuration_is_made_equal(jetstream: JetStreamContext) -> None:
    declarations = Declarations(replicas=1, decision_ttl_s=900)
    await declarations.reconcile(jetstream)
    await jetstream.delete_consumer("VIGIL_DETECTION", "arbiter-worker")
    await jetstream.add_consumer(
        "VIGIL_DETECTION",
        ConsumerConfig(
            durable_name="arbiter-worker",
            filter_subject="vigil.arbiter.old",
            ack_policy="explicit",  # type: ignore[arg-type]
            ack_wait=99,
            max_deliver=9,
        ),
    )
    await declarations.reconcile(jetstream)
    config = (await jetstream.consumer_info("VIGIL_DETECTION", "arbiter-worker")).config
    assert (config.filter_subject, config.ack_wait, config.max_deliver) == ("vigil.arbiter.>", 10, 3)


async def push_in_place_of_pull(jetstream: JetStreamContext) -> None:
    """Make a consumer of the topology one that the server changes in no way into what it should be."""
    await jetstream.delete_consumer("VIGIL_DETECTION", "arbiter-worker")
    await jetstream.add_consumer(
        "VIGIL_DETECTION",
        ConsumerConfig(
            durable_name="arbiter-worker",
            filter_subject="vigil.arbiter.>",
            ack_policy=AckPolicy.EXPLICIT,
            deliver_subject="vigil.elsewhere",
            ack_wait=99,
        ),
    )


async def test_a_consumer_that_cannot_be_changed_is_made_anew(jetstream: JetStreamContext) -> None:
    declarations = Declarations(replicas=1, decision_ttl_s=900)
    await declarations.reconcile(jetstream)
    await push_in_place_of_pull(jetstream)
    await declarations.reconcile(jetstream)
    config = (await jetstream.consumer_info("VIGIL_DETECTION", "arbiter-worker")).config
    assert (config.deliver_subject, config.ack_wait) == (None, 10)


@pytest.mark.parametrize(
    ("code", "err_code", "description"),
    [
        (503, 10008, "JetStream system temporarily unavailable"),
        (500, 10012, "insufficient resources"),
    ],
)
async def test_a_consumer_is_kept_when_the_server_refuses_for_something_that_passes(
    jetstream: JetStreamContext, monkeypatch: pytest.MonkeyPatch, code: int, err_code: int, description: str
) -> None:
    declarations = Declarations(replicas=1, decision_ttl_s=900)
    await declarations.reconcile(jetstream)
    await push_in_place_of_pull(jetstream)
    made = (await jetstream.consumer_info("VIGIL_DETECTION", "arbiter-worker")).created

    async def refuse(stream: str, config: ConsumerConfig) -> None:
        raise APIError(code=code, err_code=err_code, description=description)

    with monkeypatch.context() as refusing:
        refusing.setattr(jetstream, "add_consumer", refuse)
        with pytest.raises(APIError):
            await declarations.reconcile(jetstream)
    assert (await jetstream.consumer_info("VIGIL_DETECTION", "arbiter-worker")).created == made


async def test_what_waits_for_a_retry_holds_up_nothing_else(jetstream: JetStreamContext) -> None:
    await Declarations(replicas=1, decision_ttl_s=900).reconcile(jetstream)
    waiting = 2_000
    for _ in range(waiting):
        await jetstream.publish("vigil.pii.scan", b"fails")
    worker = await jetstream.pull_subscribe_bind(consumer="pii-worker", stream="VIGIL_DETECTION")
    failed = 0
    while failed < waiting:
        for message in await worker.fetch(500, timeout=5):
            await message.nak(delay=60)
            failed += 1
    await jetstream.publish("vigil.pii.scan", b"works")
    [message] = await worker.fetch(1, timeout=5)
    assert message.data == b"works"


async def configurations(jetstream: JetStreamContext) -> list[StreamConfig | ConsumerConfig]:
    """Return how all streams, consumers and buckets of the topology are configured."""
    names = [*(spec.name for spec in STREAMS), *(f"KV_{bucket.name}" for bucket in BUCKETS)]
    consumers = [await jetstream.consumer_info(spec.stream, spec.durable) for spec in CONSUMERS]
    return [*[(await jetstream.stream_info(name)).config for name in names], *(info.config for info in consumers)]


async def test_what_a_program_has_made_says_by_which_version_of_the_topology(jetstream: JetStreamContext) -> None:
    await Declarations(replicas=1, decision_ttl_s=900).reconcile(jetstream)
    assert {version_of(each.metadata) for each in await configurations(jetstream)} == {TOPOLOGY_VERSION}


async def test_what_is_there_without_a_version_gets_one_and_keeps_what_others_wrote_beside_it(
    jetstream: JetStreamContext,
) -> None:
    declarations = Declarations(replicas=1, decision_ttl_s=900)
    await declarations.reconcile(jetstream)
    dlq = (await jetstream.stream_info("VIGIL_DLQ")).config
    await jetstream.update_stream(replace(dlq, metadata={"team": "security"}))
    await declarations.reconcile(jetstream)
    metadata = (await jetstream.stream_info("VIGIL_DLQ")).config.metadata or {}
    assert (metadata["team"], version_of(metadata)) == ("security", TOPOLOGY_VERSION)


async def test_what_the_topology_leaves_open_stays_when_a_stream_is_updated(jetstream: JetStreamContext) -> None:
    declarations = Declarations(replicas=1, decision_ttl_s=900)
    await declarations.reconcile(jetstream)
    dlq = (await jetstream.stream_info("VIGIL_DLQ")).config
    own = {"description": "read by security", "compression": StoreCompression.S2, "allow_direct": True}
    await jetstream.update_stream(replace(dlq, **own, max_age=60, duplicate_window=30, metadata={}))
    await declarations.reconcile(jetstream)
    config = (await jetstream.stream_info("VIGIL_DLQ")).config
    assert (config.max_age, version_of(config.metadata)) == (30 * DAY_S, TOPOLOGY_VERSION)
    assert {name: getattr(config, name) for name in own} == own


async def test_what_a_later_version_has_written_stays_until_it_is_lowered(
    jetstream: JetStreamContext, caplog: pytest.LogCaptureFixture
) -> None:
    declarations = Declarations(replicas=1, decision_ttl_s=900)
    await declarations.reconcile(jetstream)
    later = {VERSION_KEY: str(TOPOLOGY_VERSION + 1)}
    changed: dict[str, StreamConfig] = {}
    for name in ("VIGIL_DETECTION", "KV_VIGIL_QUOTAS"):
        config = (await jetstream.stream_info(name)).config
        changed[name] = replace(config, max_bytes=10**6, metadata=later)
        await jetstream.update_stream(changed[name])
    consumer = (await jetstream.consumer_info("VIGIL_DETECTION", "pii-worker")).config
    await jetstream.add_consumer("VIGIL_DETECTION", replace(consumer, ack_wait=99, metadata=later))
    dlq = (await jetstream.stream_info("VIGIL_DLQ")).config
    await jetstream.update_stream(replace(dlq, max_age=60, duplicate_window=30))
    before = await configurations(jetstream)

    left = await declarations.reconcile(jetstream)
    assert [(each.kind, each.name, each.declared, each.present) for each in left.newer] == [
        ("stream", "VIGIL_DETECTION", TOPOLOGY_VERSION, TOPOLOGY_VERSION + 1),
        ("consumer", "pii-worker", TOPOLOGY_VERSION, TOPOLOGY_VERSION + 1),
        ("bucket", "VIGIL_QUOTAS", TOPOLOGY_VERSION, TOPOLOGY_VERSION + 1),
    ]
    after = await configurations(jetstream)
    assert [each for each in after if each not in before] == [dlq]
    assert "stream VIGIL_DETECTION (2), consumer pii-worker (2), bucket VIGIL_QUOTAS (2)" in caplog.text

    left = await declarations.reconcile(jetstream, lower_version=True)
    assert left.newer == []
    assert {version_of(each.metadata) for each in await configurations(jetstream)} == {TOPOLOGY_VERSION}
    assert (await jetstream.stream_info("VIGIL_DETECTION")).config.max_bytes == 10 * GIGABYTE
    assert (await jetstream.consumer_info("VIGIL_DETECTION", "pii-worker")).config.ack_wait == 60


async def test_reconciling_twice_changes_nothing(jetstream: JetStreamContext, caplog: pytest.LogCaptureFixture) -> None:
    declarations = Declarations(replicas=1, decision_ttl_s=900)
    await declarations.reconcile(jetstream)
    caplog.clear()
    await declarations.reconcile(jetstream)
    assert [record.message for record in caplog.records if "updated" in record.message] == []
