"""`vigil doctor`: looks at everything twice, says what is wrong and what to do about it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Final

import typer

from app.cli.command import Exit, JsonOption, ServerOption, duration, examples, opened, run, settings_of_service
from app.cli.diagnosis import Finding, Level, Observation, Sample, diagnose, unreachable
from app.cli.exposure import open_points
from app.cli.render import emit, say, table
from app.errors import EventLogUnavailable, MessagingUnavailable, UnknownResource
from app.identity import now
from app.topology import DETECTION_STREAM

if TYPE_CHECKING:
    from app.messaging.admin import Admin
    from app.messaging.dead_letter_queue import DeadLetterEntry
    from app.settings import Settings

EXAMPLES = examples(
    "vigil doctor",
    "vigil doctor --interval 10s --max-lag 5s",
    "vigil doctor --security",
    "vigil doctor -j | jq '.checks[] | select(.level != \"ok\")'",
    "",
    "Exit status 1 when a check fails, the server that cannot be reached included.",
)
SAMPLES: Final = 4
"""A worker that is between two pulls at one sample waits at another."""
DEAD_LETTER_WINDOW: Final = timedelta(hours=1)
MOST_DEAD_LETTERS: Final = 5000

Pause = Callable[[], Awaitable[None]]


def doctor(
    interval: Annotated[
        timedelta, typer.Option("--interval", parser=duration, metavar="TIME", help="How long to look for growth.")
    ] = timedelta(seconds=2),
    max_lag: Annotated[
        timedelta, typer.Option("--max-lag", parser=duration, metavar="TIME", help="Age of a message that is too old.")
    ] = timedelta(seconds=30),
    security: Annotated[
        bool, typer.Option("--security", help="Say what is open in the configuration; look at nothing that runs.")
    ] = False,
    host: Annotated[
        str, typer.Option("--host", envvar="HOST", help="With --security: the address the service listens at.")
    ] = "127.0.0.1",
    server: ServerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find out what is wrong, and what to do about it."""
    if security:
        raise typer.Exit(_report(open_points(settings_of_service(), host), "secure", as_json=as_json))

    async def pause() -> None:
        await asyncio.sleep(interval.total_seconds() / (SAMPLES - 1))

    async def work() -> Exit:
        findings = await examine(settings_of_service(), server, pause=pause, max_lag=max_lag)
        return _report(findings, "healthy", as_json=as_json)

    run(work())


def _report(findings: list[Finding], verdict: str, *, as_json: bool) -> Exit:
    fine = not any(each.level is Level.FAILURE for each in findings)
    if as_json:
        emit({verdict: fine, "checks": findings})
    elif findings:
        table(("", "Check", "Seen"), [(each.level, each.check, each.seen) for each in findings])
        _show_cures(findings)
    return Exit.OK if fine else Exit.PROBLEM


async def examine(
    settings: Settings, server: str | None, *, pause: Pause, max_lag: timedelta = timedelta(seconds=30)
) -> list[Finding]:
    """Look at everything and return the answers; `pause` is awaited between two samples."""
    event_log_fault = await _clickhouse_fault(settings)
    try:
        async with opened(server) as admin:
            observation = await _observe(admin, settings, event_log_fault, pause, max_lag)
    except MessagingUnavailable as error:
        findings = unreachable(error.message)
        if event_log_fault is not None:
            findings.append(Finding("event log", Level.FAILURE, event_log_fault, "is ClickHouse running?"))
        return findings
    return diagnose(observation)


async def _observe(
    admin: Admin, settings: Settings, event_log_fault: str | None, pause: Pause, max_lag: timedelta
) -> Observation:
    server = await admin.server()
    samples = [await _sample(admin)]
    for _ in range(SAMPLES - 1):
        await pause()
        samples.append(await _sample(admin))
    instances = await admin.instances()
    if instances and event_log_fault is None:
        event_log_fault = await admin.event_log_fault()
    return Observation(
        server=server,
        samples=samples,
        instances=instances,
        event_log_fault=event_log_fault,
        clickhouse_configured=settings.clickhouse_url is not None,
        dead_letters=await _recent_dead_letters(admin, settings),
        at=now(),
        max_lag_s=max_lag.total_seconds(),
    )


async def _sample(admin: Admin) -> Sample:
    try:
        subject_counts = await admin.subject_counts(DETECTION_STREAM.name)
    except UnknownResource:
        subject_counts = {}
    consumers = {each.name: each for each in await admin.consumers()}
    return Sample({each.name: each for each in await admin.streams()}, consumers, subject_counts)


async def _recent_dead_letters(admin: Admin, settings: Settings) -> list[DeadLetterEntry]:
    from app.messaging.dead_letter_queue import DeadLetterFilter, DeadLetterQueue

    queue = DeadLetterQueue(admin, settings.nats.publish_timeout_s)
    newest: deque[DeadLetterEntry] = deque(maxlen=MOST_DEAD_LETTERS)
    try:
        async for entry in queue.scan(DeadLetterFilter(since=now() - DEAD_LETTER_WINDOW)):
            newest.append(entry)
    except UnknownResource:
        return []
    return list(newest)


async def _clickhouse_fault(settings: Settings) -> str | None:
    """Return why the configured ClickHouse server cannot be used; None when it can, or when none is configured."""
    if settings.clickhouse_url is None:
        return None
    from app.events.log import EventLog

    try:
        await EventLog.probe(settings)
    except EventLogUnavailable as error:
        return error.message
    return None


def _show_cures(findings: list[Finding]) -> None:
    cures = [each for each in findings if each.cure is not None]
    if not cures:
        return
    say()
    say("What to do")
    for each in cures:
        say(f"  {each.check}: {each.cure}")
