"""All drills with their short and full sizes."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from tests.drills import event_log, handlers, killed, messages, overload, servers, topology
from tests.drills.harness import Drill, Say, Size
from tests.drills.ledger import Account

SHORT, FULL = 300, 5000


@dataclass(frozen=True, slots=True)
class Entry:
    name: str
    run: Callable[[Drill], Awaitable[None]]
    short: Size
    full: Size

    async def account(self, folder: Path, size: Size, say: Say = lambda _: None) -> Account:
        """Run the drill and return what was counted."""
        drill = Drill(self.name, folder, size, say)
        started = time.monotonic()
        try:
            await self.run(drill)
            account = await drill.settle()
        finally:
            drill.end()
        account.seconds = round(time.monotonic() - started, 1)
        return account


def quick(*, faults: int = 1, lasts_s: float = 0.0) -> Size:
    return Size(SHORT, faults, lasts_s, quick=True)


DRILLS = {
    entry.name: entry
    for entry in (
        Entry("service killed", killed.service_killed, quick(), Size(FULL, 20)),
        Entry("one of two replicas killed", killed.replica_killed, quick(), Size(FULL)),
        Entry("service stopped", killed.service_stopped, quick(), Size(FULL, 5)),
        Entry("message server killed", servers.server_killed, quick(), Size(FULL, 10)),
        Entry("message server paused", servers.server_paused, quick(lasts_s=6), Size(FULL, lasts_s=20)),
        Entry("leader of a cluster killed", servers.leader_killed, quick(), Size(FULL, 3)),
        Entry("event log away", event_log.event_log_away, quick(lasts_s=5), Size(FULL, lasts_s=60)),
        Entry("poison messages", messages.poison, quick(), Size(FULL)),
        Entry("duplicates", messages.duplicates, quick(), Size(FULL)),
        Entry("handler fails twice", handlers.fails_twice, quick(), Size(FULL)),
        Entry("handler always fails", handlers.always_fails, quick(), Size(FULL)),
        Entry("handler kills its worker", handlers.kills_its_worker, quick(), Size(FULL, 5)),
        Entry("consumer deleted", topology.consumer_deleted, quick(), Size(FULL)),
        Entry("stream deleted", topology.stream_deleted, quick(), Size(FULL)),
        Entry("overload", overload.overload, quick(lasts_s=1.5), Size(FULL, lasts_s=10)),
    )
}
