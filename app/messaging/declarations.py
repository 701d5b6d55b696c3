"""The topology as FastStream's JetStream declarations, and what FastStream leaves undone at start.

FastStream's `start()` creates what is absent. It only adds subjects to a stream that exists with another
configuration, logs other refusals without failing, and takes a consumer that exists as it is. `reconcile` makes
streams, consumers and buckets equal to the topology, or fails; copies beyond the settings' number it keeps, and what a
later version of the topology has written.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, replace
from typing import Any, Final

from faststream.nats import JStream
from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    KeyValueConfig,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.errors import APIError, NotFoundError

from app.messaging.reports import KeptReplicas, KeptVersion, Left
from app.topology import (
    BUCKETS,
    CONSUMERS,
    STREAMS,
    TOPOLOGY_VERSION,
    VERSION_KEY,
    BucketSpec,
    ConsumerSpec,
    Retention,
    StreamSpec,
    version_of,
)

logger: Final = logging.getLogger("vigil.topology")

CONSUMER_REFUSED: Final = 10012
CANNOT_CHANGE: Final = re.compile(r"\bcan ?not (?:be updated|update)\b")
"""JetStream's error code of a consumer that it does not make or change (nats-server's errors.json), and words in which
it says that a field keeps its value (nats-server 2.15); the code has other causes too."""
VERSION: Final = {VERSION_KEY: str(TOPOLOGY_VERSION)}
"""What the metadata of a stream, consumer or bucket says that this program has written."""
RETENTIONS: Final = {Retention.WORK_QUEUE: RetentionPolicy.WORK_QUEUE, Retention.LIMITS: RetentionPolicy.LIMITS}


@dataclass(frozen=True, slots=True)
class _Run:
    """One reconciliation: what it may lower, and what it leaves."""

    js: JetStreamContext
    lower_replicas: bool
    lower_version: bool
    left: Left

    def leaves(self, kind: str, name: str, present: StreamConfig | ConsumerConfig) -> bool:
        """Whether a later version has written this; it is noted then."""
        version = version_of(present.metadata)
        if self.lower_version or version <= TOPOLOGY_VERSION:
            return False
        self.left.newer.append(KeptVersion(kind, name, TOPOLOGY_VERSION, version))
        return True


@dataclass(frozen=True, slots=True)
class Declarations:
    """The topology of this deployment: the tables plus the number of replicas."""

    replicas: int
    decision_ttl_s: float

    def stream(self, spec: StreamSpec) -> JStream:
        return JStream(
            name=spec.name,
            subjects=list(spec.subjects),
            retention=RETENTIONS[spec.retention],
            max_age=spec.max_age.total_seconds(),
            max_bytes=spec.max_bytes,
            max_msg_size=spec.max_message_bytes,
            storage=StorageType.FILE,
            num_replicas=self.replicas,
            duplicate_window=spec.duplicate_window.total_seconds(),
            deny_delete=spec.append_only,
            deny_purge=spec.append_only,
            discard=DiscardPolicy.NEW if spec.retention is Retention.WORK_QUEUE else DiscardPolicy.OLD,
        )

    def stream_config(self, spec: StreamSpec) -> StreamConfig:
        return replace(self.stream(spec).config, subjects=list(spec.subjects), metadata=VERSION)

    async def reconcile(
        self, js: JetStreamContext, *, lower_replicas: bool = False, lower_version: bool = False
    ) -> Left:
        """Make the server's streams, consumers and buckets equal to the topology.

        Args:
            js: the server's JetStream.
            lower_replicas: take away copies that a stream or bucket has beyond `replicas`. Without it they stay: where
                the number was only forgotten, a machine that fails later would take messages with it.
            lower_version: set back what a later version of the topology has written. Without it that stays: while
                replicas of two versions run, each would undo what the other needs.

        Returns:
            What keeps more copies than `replicas`, and what a later version has written.

        Raises:
            nats.js.errors.APIError: the server refuses a declaration.
        """
        run = _Run(js, lower_replicas, lower_version, Left())
        for spec in STREAMS:
            await self._reconcile_stream(run, self.stream_config(spec))
        for consumer in CONSUMERS:
            await self._reconcile_consumer(run, consumer.stream, consumer_config(consumer))
        for bucket in BUCKETS:
            await self._reconcile_bucket(run, bucket)
        for each in run.left.replicas:
            logger.warning(
                "%s %s keeps %d replicas; the settings say %d", each.kind, each.name, each.present, each.declared
            )
        if run.left.newer:
            logger.warning(
                "left as a later version of the topology wrote it (this program's is %d): %s",
                TOPOLOGY_VERSION,
                ", ".join(f"{each.kind} {each.name} ({each.present})" for each in run.left.newer),
            )
        return run.left

    async def _reconcile_stream(self, run: _Run, wanted: StreamConfig) -> None:
        js, name = run.js, wanted.name or ""
        try:
            present = (await js.stream_info(name)).config
        except NotFoundError:
            await js.add_stream(wanted)
            logger.info("stream %s created", name)
            return
        if run.leaves("stream", name, present):
            return
        if version_of(present.metadata) <= TOPOLOGY_VERSION:
            # The server sets back what an update does not name, as the operators' placement and compression.
            wanted = replace(present, **{field: value for field, value in vars(wanted).items() if value is not None})
        wanted = replace(wanted, num_replicas=self._copies(run, "stream", name, present), metadata=_marked(present))
        changes = _differences(wanted, present)
        if changes:
            await js.update_stream(wanted)
            logger.warning("stream %s updated: %s", name, ", ".join(changes))

    def _copies(self, run: _Run, kind: str, name: str, present: StreamConfig) -> int:
        """Return how many copies a stream is to have; more than the settings say are noted where they stay."""
        copies = present.num_replicas or 0
        if run.lower_replicas or copies <= self.replicas:
            return self.replicas
        run.left.replicas.append(KeptReplicas(kind, name, self.replicas, copies))
        return copies

    async def _reconcile_consumer(self, run: _Run, stream: str, wanted: ConsumerConfig) -> None:
        js, name = run.js, wanted.durable_name or ""
        try:
            present = (await js.consumer_info(stream, name)).config
        except NotFoundError:
            await js.add_consumer(stream, wanted)
            logger.info("consumer %s created", name)
            return
        if run.leaves("consumer", name, present):
            return
        wanted = replace(wanted, metadata=_marked(present))
        changes = _differences(wanted, present)
        if not changes:
            return
        try:
            await js.add_consumer(stream, wanted)
        except APIError as error:
            if not _says_that_it_cannot_change(error):
                raise
            # As one that pushes, which becomes none that is pulled from. A work queue keeps its messages meanwhile.
            await js.delete_consumer(stream, name)
            await js.add_consumer(stream, wanted)
        logger.warning("consumer %s updated: %s", name, ", ".join(changes))

    async def _reconcile_bucket(self, run: _Run, spec: BucketSpec) -> None:
        js = run.js
        stream, level = f"KV_{spec.name}", logging.WARNING
        ttl_s = self.decision_ttl_s if spec.short_lived else spec.max_age.total_seconds()
        try:
            await js.stream_info(stream)
        except NotFoundError:
            level = logging.DEBUG
            await js.create_key_value(
                KeyValueConfig(
                    bucket=spec.name,
                    history=spec.history,
                    ttl=ttl_s or None,
                    max_bytes=spec.max_bytes,
                    storage=StorageType.FILE,
                    replicas=self.replicas,
                )
            )
            logger.info("bucket %s created", spec.name)
        present = (await js.stream_info(stream)).config
        if run.leaves("bucket", spec.name, present):
            return
        # A full bucket forgets its oldest decisions; KV's default refuses new ones, which would stop all decisions.
        wanted = replace(
            present,
            max_age=ttl_s,
            duplicate_window=min(120.0, ttl_s or 120.0),
            max_bytes=spec.max_bytes,
            max_msgs_per_subject=spec.history,
            num_replicas=self._copies(run, "bucket", spec.name, present),
            metadata=_marked(present),
            discard=DiscardPolicy.OLD if spec.short_lived else DiscardPolicy.NEW,
        )
        changes = _differences(wanted, present)
        if changes:
            await js.update_stream(wanted)
            logger.log(level, "bucket %s updated: %s", spec.name, ", ".join(changes))


def _says_that_it_cannot_change(error: APIError) -> bool:
    """Whether the server refuses to change a consumer in place, and not for something that passes."""
    return error.err_code == CONSUMER_REFUSED and CANNOT_CHANGE.search(error.description or "") is not None


def consumer_config(spec: ConsumerSpec) -> ConsumerConfig:
    single = spec.filter_subjects[0] if len(spec.filter_subjects) == 1 else None
    return ConsumerConfig(
        durable_name=spec.durable,
        filter_subject=single,
        filter_subjects=None if single else list(spec.filter_subjects),
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=spec.ack_wait.total_seconds(),
        max_deliver=spec.max_deliver,
        max_ack_pending=spec.max_ack_pending,
        deliver_policy=DeliverPolicy.ALL,
        metadata=VERSION,
    )


def _marked(present: StreamConfig | ConsumerConfig) -> dict[str, str]:
    """Return the metadata with this program's version; what others have written there stays."""
    return {**(present.metadata or {}), **VERSION}


def _differences(wanted: Any, present: Any) -> list[str]:
    """Return the names of the declared fields in which the server differs; None in a declaration means no opinion."""
    return [
        name
        for name, value in vars(wanted).items()
        if value is not None and value != getattr(present, name) and not _same_order(value, getattr(present, name))
    ]


def _same_order(left: object, right: object) -> bool:
    return isinstance(left, list) and isinstance(right, list) and sorted(left) == sorted(right)
