"""A JetStream context that notes what a reconciliation changes, and in a dry run changes nothing.

The dry run goes through the service's own `Declarations.reconcile`, so it cannot say anything else than the real one.
"""

from __future__ import annotations

from typing import Any

from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, ConsumerInfo, KeyValueConfig, StreamConfig, StreamInfo, StreamState
from nats.js.errors import NotFoundError
from nats.js.kv import KeyValue

from app.identity import now
from app.messaging.reports import Change, differences
from app.topology import BUCKET_PREFIX


class Reconciliation(JetStreamContext):
    def __init__(self, connection: Client, *, timeout_s: float, dry_run: bool) -> None:
        super().__init__(connection, timeout=timeout_s)
        self._dry_run = dry_run
        self.changes: list[Change] = []

    async def stream_info(self, name: str, subjects_filter: str | None = None) -> StreamInfo:
        if self._dry_run and self._is_new("stream", "bucket", name=name.removeprefix(BUCKET_PREFIX)):
            return StreamInfo(StreamConfig(name=name), StreamState(0, 0, 0, 0, 0))
        return await super().stream_info(name, subjects_filter)

    async def add_stream(self, config: StreamConfig | None = None, **params: Any) -> StreamInfo:
        wanted = config or StreamConfig(**params)
        if self.changes and (self.changes[-1].kind, wanted.name) == (
            "bucket",
            f"{BUCKET_PREFIX}{self.changes[-1].name}",
        ):
            return await super().add_stream(wanted)  # The stream under a bucket that is noted already.
        self.changes.append(Change("create", "stream", wanted.name or ""))
        return StreamInfo(wanted, StreamState(0, 0, 0, 0, 0)) if self._dry_run else await super().add_stream(wanted)

    async def update_stream(self, config: StreamConfig | None = None, **params: Any) -> StreamInfo:
        wanted = config or StreamConfig(**params)
        name = wanted.name or ""
        kind = "bucket" if name.startswith(BUCKET_PREFIX) else "stream"
        shown = name.removeprefix(BUCKET_PREFIX) if kind == "bucket" else name
        if not self._is_new(kind, name=shown):
            present = (await super().stream_info(name)).config
            self.changes.append(Change("update", kind, shown, differences(wanted.as_dict(), present.as_dict())))
        return StreamInfo(wanted, StreamState(0, 0, 0, 0, 0)) if self._dry_run else await super().update_stream(wanted)

    async def add_consumer(
        self,
        stream: str,
        config: ConsumerConfig | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the overridden signature
        **params: Any,
    ) -> ConsumerInfo:
        wanted = config or ConsumerConfig(**params)
        name = wanted.durable_name or ""
        try:
            present = await super().consumer_info(stream, name)
        except NotFoundError:
            change = Change("create", "consumer", name)
        else:
            change = Change("update", "consumer", name, differences(wanted.as_dict(), present.config.as_dict()))
        planned = ConsumerInfo(name=name, stream_name=stream, config=wanted, created=now())
        info = planned if self._dry_run else await super().add_consumer(stream, wanted, timeout)
        self.changes.append(change)
        return info

    async def delete_consumer(self, stream: str, consumer: str) -> bool:
        self.changes.append(Change("delete", "consumer", consumer))
        return await super().delete_consumer(stream, consumer)

    async def create_key_value(self, config: KeyValueConfig | None = None, **params: Any) -> KeyValue:
        wanted = config or KeyValueConfig(**params)
        self.changes.append(Change("create", "bucket", wanted.bucket))
        if self._dry_run:
            return KeyValue(wanted.bucket, f"{BUCKET_PREFIX}{wanted.bucket}", "", self, False)
        return await super().create_key_value(wanted)

    def _is_new(self, *kinds: str, name: str) -> bool:
        return any(each.action == "create" and each.kind in kinds and each.name == name for each in self.changes)
