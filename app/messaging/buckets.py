"""What several readers of key-value buckets share."""

from __future__ import annotations

from typing import Any, Final

from nats.js import JetStreamContext
from nats.js.kv import KeyValue

SNAPSHOT_TIMEOUT_S: Final = 5.0


async def held(jetstream: JetStreamContext, name: str, keys: str = ">") -> dict[str, int]:
    """Return how many entries, the last and those of the history, a bucket holds of each key that matches.

    Raises:
        nats.js.errors.NotFoundError: there is no such bucket.
    """
    info = await jetstream.stream_info(f"KV_{name}", subjects_filter=f"$KV.{name}.{keys}")
    return {subject.removeprefix(f"$KV.{name}."): count for subject, count in (info.state.subjects or {}).items()}


async def present(
    watcher: Any, expected: dict[str, int], *, history: bool = False, timeout_s: float = SNAPSHOT_TIMEOUT_S
) -> list[KeyValue.Entry]:
    """Return what a watch that was just opened begins with: all that the bucket holds, in order.

    nats-py tells too early that a watch has seen everything when the server has sent it all and none of it has been
    taken yet; so what the bucket held before, `expected`, is waited for.

    Args:
        watcher: of nats-py, whose methods have no types.
        expected: what `held` said before the watch was opened.
        history: whether it watches all entries of a key and not the last one alone.
        timeout_s: seconds to wait for each entry.

    Raises:
        nats.errors.TimeoutError: the server stopped in the middle.
    """
    found: list[KeyValue.Entry] = []
    told_too_early = False
    while not told_too_early or (
        len(found) < sum(expected.values()) if history else len({entry.key for entry in found}) < len(expected)
    ):
        entry = await watcher.updates(timeout=timeout_s)
        if entry is not None:
            found.append(entry)
        elif found or not expected:
            break
        else:
            told_too_early = True
    return found


async def snapshot(
    jetstream: JetStreamContext, name: str, keys: str = ">", *, meta_only: bool = False
) -> list[KeyValue.Entry]:
    """Return the last entry of every key of a bucket that matches, deleted ones too.

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
    expected = await held(jetstream, name, keys)
    watcher: Any = await bucket.watch(keys, meta_only=meta_only)
    try:
        return list({entry.key: entry for entry in await present(watcher, expected)}.values())
    finally:
        await watcher.stop()
