"""`vigil stats`: counts over time as a chart in the terminal, asked of the running service."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import typer

from app.cli.command import (
    BeforeFilter,
    JsonOption,
    ServerOption,
    SinceFilter,
    duration,
    examples,
    opened,
    run,
)
from app.cli.events import (
    CategoryFilter,
    DecisionFilter,
    FeedbackFilter,
    KeyFilter,
    MaxScore,
    MinScore,
    ModeFilter,
    PiiFilter,
    PolicyFilter,
    SourceFilter,
    TenantFilter,
    filters,
)
from app.cli.render import clock, emit, say, span, table
from app.log_contracts import Stats, StatsGroup, StatsQuery
from app.validation import checked

EXAMPLES = examples(
    "vigil stats",
    "vigil stats --by category -d BLOCKED --since 7d",
    "vigil stats --by tenant --since 30d --bucket 1d -j",
)
LEVELS: Final = " ▁▂▃▄▅▆▇█"
BAR: Final = 30
"""Width of the longest bar, in characters."""


def stats(
    by: Annotated[StatsGroup, typer.Option("--by", help="What counts are told apart by.")] = StatsGroup.DECISION,
    bucket: Annotated[
        str | None, typer.Option("--bucket", metavar="AGE", help="Width of a point, as 5m or 1d.")
    ] = None,
    decision: DecisionFilter = None,
    category: CategoryFilter = None,
    source: SourceFilter = None,
    mode: ModeFilter = None,
    policy: PolicyFilter = None,
    tenant: TenantFilter = None,
    key_id: KeyFilter = None,
    since: SinceFilter = None,
    before: BeforeFilter = None,
    min_score: MinScore = None,
    max_score: MaxScore = None,
    pii: PiiFilter = None,
    feedback: FeedbackFilter = None,
    server: ServerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Count events over time, of the last day by default."""

    async def work() -> None:
        wanted = filters(
            decision, category, source, mode, policy, tenant, key_id, since, before, min_score, max_score, pii, feedback
        )
        bucket_s = int(duration(bucket, "--bucket").total_seconds()) if bucket is not None else None
        query = checked(StatsQuery, wanted | {"by": by, "bucket_s": bucket_s})
        async with opened(server) as admin:
            found = await admin.archive.stats(query)
        if as_json:
            emit(found)
        else:
            _draw(found)

    run(work())


def _draw(found: Stats) -> None:
    say(f"{found.total:,} events from {clock(found.since)} to {clock(found.before)}, a point is {span(found.bucket_s)}")
    if found.latency_ms is not None:
        told = ", ".join(f"{name.upper()} {value:,.0f} ms" for name, value in found.latency_ms.model_dump().items())
        say(f"Latency: {told}")
    if not found.series:
        return
    say()
    # One scale for all: lines that are drawn each on its own scale cannot be compared.
    highest = max(max(each.counts) for each in found.series)
    largest = found.series[0].total
    rows = [(each.name, each.total, bar(each.total, largest), sparkline(each.counts, highest)) for each in found.series]
    table((found.by.capitalize(), "Count", "", "Over time"), rows)


def sparkline(counts: Sequence[int], highest: int) -> str:
    """Return one character for each count, its height a share of the highest; a count of one is never invisible."""
    steps = len(LEVELS) - 1
    return "".join(LEVELS[min(steps, -(-count * steps // highest))] if highest else LEVELS[0] for count in counts)


def bar(count: int, largest: int) -> str:
    """Return a bar whose length is a share of the largest's; never empty for a count."""
    return "█" * max(round(BAR * count / largest), 1) if count else ""
