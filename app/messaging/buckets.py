"""What several readers of key-value buckets share."""

from __future__ import annotations

from typing import Any, Final

from nats.js.kv import KeyValue

SNAPSHOT_TIMEOUT_S: Final = 5.0


async def snapshot(bucket: KeyValue, keys: str = ">") -> list[KeyValue.Entry]:
    """Return the last entry of every key that matches, deleted ones too.

    Raises:
        nats.errors.TimeoutError: the server stopped in the middle.
    """
    watcher: Any = await bucket.watch(keys)
    try:
        found: list[KeyValue.Entry] = []
        while (entry := await watcher.updates(timeout=SNAPSHOT_TIMEOUT_S)) is not None:
            found.append(entry)
        return found
    finally:
        await watcher.stop()
