"""What several readers of key-value buckets share."""

from __future__ import annotations

from typing import Any, Final

from nats.js import JetStreamContext
from nats.js.kv import KeyValue

SNAPSHOT_TIMEOUT_S: Final = 5.0


async def snapshot(
    jetstream: JetStreamContext, name: str, keys: str = ">", *, meta_only: bool = False
) -> list[KeyValue.Entry]:
    """Return the last entry of every key of a bucket that matches, deleted ones too.

    nats-py tells too early that a watch has seen everything when the server has sent it all and none of it has been
    taken yet; so the stream is asked before whether it holds anything.

    Args:
        jetstream: where the bucket is.
        name: of the bucket.
        keys: pattern of the keys.
        meta_only: leave the values out.

    Raises:
        nats.js.errors.NotFoundError: there is no such bucket.
        nats.errors.TimeoutError: the server stopped in the middle.
    """
    bucket = await jetstream.key_value(name)
    held = await jetstream.stream_info(f"KV_{name}", subjects_filter=f"$KV.{name}.{keys}")
    expected = len(held.state.subjects or {})
    watcher: Any = await bucket.watch(keys, meta_only=meta_only)
    try:
        found: dict[str, KeyValue.Entry] = {}
        told_too_early = False
        while not told_too_early or len(found) < expected:
            entry = await watcher.updates(timeout=SNAPSHOT_TIMEOUT_S)
            if entry is not None:
                found[entry.key] = entry
            elif found or not expected:
                break
            else:
                told_too_early = True
        return list(found.values())
    finally:
        await watcher.stop()
