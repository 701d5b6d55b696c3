"""A process that appends batches to the embedded event log for ever and prints each one that was acknowledged.

`python -m tests.integration.event_log_writer STATE_DIR`; the test that started it kills it.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from pathlib import Path
from uuid import UUID

from app.events.log import EventLog
from app.settings import Settings
from tests.unit.events.records import plain_record

BATCH_SIZE = 500


def request_ids(batch: int) -> list[UUID]:
    """Return the ids of one batch: the same in this process and in the test."""
    return [UUID(int=batch * BATCH_SIZE + row + 1) for row in range(BATCH_SIZE)]


async def write(state_dir: Path) -> None:
    log = await EventLog.open(Settings(state_dir=state_dir, clickhouse_url=None))
    for batch in itertools.count():
        await log.append([plain_record(request_id) for request_id in request_ids(batch)])
        print(batch, flush=True)  # noqa: T201 - the acknowledgement that the test reads


if __name__ == "__main__":
    asyncio.run(write(Path(sys.argv[1])))
