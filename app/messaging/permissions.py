"""What each user of the message server may do, from the topology: written into config/nats/permissions.inc.

`make permissions` writes the file anew; a test fails while it differs from this table. NATS permissions are lists of
subjects that are allowed, everything else is refused. A wildcard stands for whole tokens, and a stream's name is one
token: so each stream and bucket is named, and nothing of another application in the same account is within reach.

Nobody may delete or purge a stream: no command does so, and whoever takes a secret shall not be able to either. The
one exception is the service's and is for forgetting: decisions that are kept for some minutes can be purged.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from app.topology import (
    BUCKETS,
    DECISIONS_BUCKET,
    OWN_INBOX,
    STREAM_CHUNKS,
    STREAMS,
    BucketSpec,
    StreamSpec,
    Subject,
    matches,
)

CLIENT_INBOX: Final = "_INBOX.client"
"""Where clients get replies. A client that uses another prefix, the usual `_INBOX` included, may listen nowhere."""


class Role(StrEnum):
    SERVICE = "service"
    OPERATOR = "operator"
    CLIENT = "client"


@dataclass(frozen=True, slots=True)
class Permissions:
    """Subjects; what is not listed is refused."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def permissions() -> dict[Role, Permissions]:
    """Return what each role may do."""
    return {
        Role.SERVICE: Permissions(
            publish=(
                *_work(),
                # Acknowledgements, and answers to callers, whose inboxes may have any prefix.
                *(f"$JS.ACK.{stream.name}.>" for stream in STREAMS),
                "_INBOX.>",
                # A bucket's messages cannot be deleted, and a marker in their place would hold the request id.
                f"$JS.API.STREAM.PURGE.{store_of(DECISIONS_BUCKET)}",
            ),
            # Its micro service, and what answers `nats micro` and `vigil doctor`.
            subscribe=(*_requests(), "$SRV.>", f"{OWN_INBOX}.>"),
        ),
        Role.OPERATOR: Permissions(
            publish=(
                *_work(),
                "$JS.API.INFO",
                "$JS.API.STREAM.LIST",
                *(f"$JS.API.CONSUMER.LIST.{store}" for store in _stores()),
                "$SRV.>",
            ),
            # `vigil watch` shows everything that is under way.
            subscribe=("vigil.>", f"{OWN_INBOX}.>"),
        ),
        Role.CLIENT: Permissions(
            # Not vigil.api.decision, by which replicas read each other's event log: it knows no tenants.
            # Chunks go to a subject that only the stream's opener is told.
            publish=(
                *("vigil.guard.*", Subject.DETECTION_BATCH, Subject.API_GUARD, Subject.API_RESTORE),
                *(Subject.API_STREAM, STREAM_CHUNKS),
            ),
            subscribe=(f"{CLIENT_INBOX}.>",),
        ),
    }


def as_configuration() -> str:
    """Return the roles as variables of a nats-server configuration, to be included."""
    return "\n".join(_lines()) + "\n"


def _work() -> Iterator[str]:
    """What service and operator share: the streams and buckets, and everything that is published."""
    for stream in STREAMS:
        yield from (subject for subject in stream.subjects if subject.startswith("vigil."))
    yield from _requests()
    yield from (f"$KV.{bucket.name}.>" for bucket in BUCKETS)
    for store in _stores():
        yield from (f"$JS.API.STREAM.{verb}.{store}" for verb in ("INFO", "CREATE", "UPDATE", "MSG.GET"))
        # Durable and short-lived consumers, with and without a name and a filter in the subject.
        yield from (f"$JS.API.CONSUMER.CREATE.{store}", f"$JS.API.CONSUMER.CREATE.{store}.>")
        verbs = ("DURABLE.CREATE", "INFO", "DELETE", "MSG.NEXT")
        yield from (f"$JS.API.CONSUMER.{verb}.{store}.>" for verb in verbs)
    for stream in STREAMS:
        if not stream.append_only:
            yield f"$JS.API.STREAM.MSG.DELETE.{stream.name}"
    for bucket in BUCKETS:
        yield from (f"$JS.API.DIRECT.GET.{bucket.stream}", f"$JS.API.DIRECT.GET.{bucket.stream}.>")
        # Flow control of those who watch a bucket.
        yield f"$JS.FC.{bucket.stream}.>"


def _requests() -> Iterator[str]:
    """Subjects of plain requests: those that no stream captures."""
    captured = [pattern for stream in STREAMS for pattern in stream.subjects]
    yield from (subject for subject in Subject if not any(matches(subject, pattern) for pattern in captured))
    yield STREAM_CHUNKS


def _stores() -> Iterator[str]:
    """Streams as the API names them, those under buckets too."""
    yield from (store_of(stream) for stream in STREAMS)
    yield from (store_of(bucket) for bucket in BUCKETS)


def store_of(spec: StreamSpec | BucketSpec) -> str:
    return spec.name if isinstance(spec, StreamSpec) else spec.stream


def _lines() -> Iterator[str]:
    yield "# What each user of the message server may do; everything else is refused. Included by the other files."
    yield "# Written by `make permissions` from app/messaging/permissions.py, which says why; do not edit it by hand."
    for role, granted in permissions().items():
        yield ""
        yield f"{role.upper()}_PERMISSIONS {{"
        for name in ("publish", "subscribe"):
            yield f"  {name}: ["
            yield from (f'    "{subject}"' for subject in dict.fromkeys(getattr(granted, name)))
            yield "  ]"
        yield "}"


if __name__ == "__main__":
    sys.stdout.write(as_configuration())
