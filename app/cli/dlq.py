"""`vigil dlq`: read, count, replay and purge dead letters; payloads stay hidden unless asked for."""

from __future__ import annotations

import asyncio
import base64
import re
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from app.cli.command import (
    BeforeFilter,
    Exit,
    ForceOption,
    JsonOption,
    ServerOption,
    SinceFilter,
    examples,
    group,
    opened,
    run,
    settings_of_service,
    stopped_by_signals,
)
from app.cli.render import Figure, ago, clock, emit, facts, note, progress, say, size, table

if TYPE_CHECKING:
    from app.messaging.dead_letter_queue import DeadLetterEntry, DeadLetterFilter, DeadLetterQueue, Replayed

commands = group("Dead letters: list, show, count, replay, purge.")

AT_ONCE: Final = 16
"""Entries worked on at once: 1,000 take about a second, and the workers keep most of the machine."""
BUCKETS: Final = tuple(timedelta(seconds=seconds) for seconds in (60, 300, 900, 3600, 6 * 3600, 86_400, 7 * 86_400))
MOST_BUCKETS: Final = 24

INTERRUPTED: Final = "Interrupted: what was under way is finished; run the same command again for the rest."
CONSUMER: Final = re.compile(r"[^\s.*>]+(\.[^\s.*>]+)*")
"""What can stand behind `vigil.dlq.` in a subject; a stranger's may have several tokens."""


def consumer_of(text: str) -> str:
    """Read the name of a durable: the server answers no question about a subject that cannot be one."""
    if not CONSUMER.fullmatch(text):
        raise typer.BadParameter("is no name of a consumer: it holds no spaces and no wildcards")
    return text


ConsumerFilter = Annotated[
    str | None,
    typer.Option("--consumer", "-c", parser=consumer_of, metavar="NAME", help="Only of this durable, as pii-worker."),
]
ErrorFilter = Annotated[str | None, typer.Option("--error", "-e", help="Only of this error type, as InvalidRequest.")]
SubjectFilter = Annotated[
    str | None, typer.Option("--subject", help="Only of this original subject; wildcards as 'vigil.guard.*'.")
]
Sequences = Annotated[list[int] | None, typer.Argument(metavar="[SEQ]...", help="Sequences, as `ls` shows them.")]


@dataclass(frozen=True, slots=True)
class ErrorCount:
    """How often one error type led one consumer's messages here."""

    consumer: str
    error_type: str
    count: int
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True)
class PeriodCount:
    start: datetime
    count: int


@dataclass(frozen=True, slots=True)
class DeadLetterStatistics:
    total: int
    bytes: int
    first_at: datetime | None
    last_at: datetime | None
    errors: list[ErrorCount]
    """Most frequent first."""
    period_s: float
    periods: list[PeriodCount]
    """Without gaps, oldest first."""


@commands.command(
    "ls", epilog=examples("vigil dlq ls", "vigil dlq ls --consumer pii-worker --since 1h", "vigil dlq ls -j")
)
def ls(
    consumer: ConsumerFilter = None,
    error: ErrorFilter = None,
    subject: SubjectFilter = None,
    since: SinceFilter = None,
    before: BeforeFilter = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Only the newest so many.")] = 50,
    server: ServerOption = None,
    as_json: JsonOption = False,
) -> None:
    """List dead letters, oldest first; never a payload."""

    async def work() -> None:
        wanted = _filter(consumer, error, subject, since, before)
        newest: deque[DeadLetterEntry] = deque(maxlen=limit)
        found = 0
        async with _queue(server) as queue:
            async for entry in queue.scan(wanted):
                found += 1
                newest.append(entry)
        if as_json:
            emit([_brief(entry) for entry in newest])
            return
        rows = [
            (
                entry.sequence,
                clock(entry.stored_at),
                entry.consumer,
                entry.error_type,
                entry.subject,
                entry.deliveries,
                Figure(size(entry.size_bytes)),
                entry.request_id,
            )
            for entry in newest
        ]
        columns = ("Seq", "Since", "Consumer", "Error", "Original subject", "Deliveries", "Size", "Request id")
        table(columns, rows)
        if found > len(newest):
            note(f"The newest {len(newest)} of {found:,}; --limit shows more.")

    run(work())


@commands.command("show", epilog=examples("vigil dlq show 17", "vigil dlq show 17 --payload"))
def show(
    sequence: Annotated[int, typer.Argument(metavar="SEQ", help="Sequence, as `ls` shows it.", min=1)],
    payload: Annotated[bool, typer.Option("--payload", help="Show the payload too: it holds a user's text.")] = False,
    server: ServerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one dead letter: what went wrong, and its headers; the payload only with --payload."""

    async def work() -> None:
        async with _queue(server) as queue:
            entry, body = await queue.read(sequence)
        if as_json:
            emit(_brief(entry) | {"headers": entry.headers} | (_body(body) if payload else {}))
            return
        facts(
            [
                ("Sequence", entry.sequence),
                ("In the queue since", f"{clock(entry.stored_at)} ({ago(entry.stored_at)})"),
                ("Consumer", entry.consumer),
                ("Error", entry.error_type),
                ("Message", entry.error_message),
                ("Original subject", entry.subject),
                ("Deliveries", entry.deliveries),
                ("Request id", entry.request_id),
                ("Payload", size(entry.size_bytes)),
            ]
        )
        say()
        say("Headers")
        facts(sorted(entry.headers.items()))
        if payload:
            say()
            for line in body.decode("utf-8", "backslashreplace").splitlines():
                say(line)

    run(work())


@commands.command("stats", epilog=examples("vigil dlq stats", "vigil dlq stats --since 24h -j"))
def stats(
    consumer: ConsumerFilter = None,
    error: ErrorFilter = None,
    subject: SubjectFilter = None,
    since: SinceFilter = None,
    before: BeforeFilter = None,
    server: ServerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Count dead letters by consumer and error type, and over time."""

    async def work() -> None:
        async with _queue(server) as queue:
            entries = [
                replace(entry, headers={})
                async for entry in queue.scan(_filter(consumer, error, subject, since, before))
            ]
        counted = statistics(entries)
        if as_json:
            emit(counted)
            return
        say(f"{counted.total:,} dead letters, {size(counted.bytes)}")
        if not counted.total:
            return
        say()
        rows = [
            (each.consumer, each.error_type, each.count, clock(each.first_at), ago(each.last_at))
            for each in counted.errors
        ]
        table(("Consumer", "Error", "Count", "First", "Last"), rows)
        say()
        most = max(each.count for each in counted.periods)
        bars = [(clock(each.start), each.count, "█" * round(30 * each.count / most)) for each in counted.periods]
        table(("From", "Count", ""), bars)

    run(work())


@commands.command(
    "replay",
    epilog=examples(
        "vigil dlq replay 17 18",
        "vigil dlq replay --all --error EventLogUnavailable --dry-run",
        "vigil dlq replay --all --consumer pii-worker -f",
        "",
        "An entry leaves the queue once JetStream has stored the message under its original subject. Running this",
        "twice, or again after it was interrupted, replays no entry twice.",
    ),
)
def replay(
    sequences: Sequences = None,
    everything: Annotated[bool, typer.Option("--all", help="Every entry that the filters leave.")] = False,
    consumer: ConsumerFilter = None,
    error: ErrorFilter = None,
    subject: SubjectFilter = None,
    since: SinceFilter = None,
    before: BeforeFilter = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="Only the oldest so many.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be replayed.")] = False,
    force: ForceOption = False,
    server: ServerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send dead letters to their original subjects again; each keeps its request id."""
    _check_choice(sequences, everything)

    async def work() -> Exit:
        wanted = _filter(consumer, error, subject, since, before, sequences)
        async with _queue(server) as queue:
            chosen = await _choose(queue, wanted, sequences, limit)
            if dry_run:
                _show_plan(chosen, as_json)
                return Exit.OK
            if everything and chosen and not force:
                await _confirm(f"Replay {len(chosen):,} dead letters?")
            results = await _replay(queue, [entry.sequence for entry in chosen])
        interrupted = len(results) < len(chosen)
        return _show_results([*results, *_absent(sequences, chosen)], as_json, interrupted=interrupted)

    run(work())


@commands.command(
    "purge", epilog=examples("vigil dlq purge 17", "vigil dlq purge --all --before 7d", "vigil dlq purge --all -f")
)
def purge(
    sequences: Sequences = None,
    everything: Annotated[bool, typer.Option("--all", help="Every entry that the filters leave.")] = False,
    consumer: ConsumerFilter = None,
    error: ErrorFilter = None,
    subject: SubjectFilter = None,
    since: SinceFilter = None,
    before: BeforeFilter = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="Only the oldest so many.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be removed.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Write over the bytes on disk at once: some 100 entries a second.")
    ] = False,
    force: ForceOption = False,
    server: ServerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove dead letters for good; asks first, unless --force is given."""
    _check_choice(sequences, everything)

    async def work() -> Exit:
        wanted = _filter(consumer, error, subject, since, before, sequences)
        async with _queue(server) as queue:
            chosen = await _choose(queue, wanted, sequences, limit)
            if dry_run:
                _show_plan(chosen, as_json)
                return Exit.OK
            if chosen and not force:
                await _confirm(f"Remove {len(chosen):,} dead letters for good?")
            done, missing = await _remove(queue, chosen, overwrite=overwrite), _absent(sequences, chosen)
        removed, interrupted = sum(done), len(done) < len(chosen)
        if as_json:
            absent = [each.sequence for each in missing]
            emit({"removed": removed, "not_found": absent, "interrupted": interrupted})
        else:
            say(f"{removed:,} removed.")
            for each in missing:
                note(f"{each.sequence}: not in the queue")
        if interrupted:
            note(INTERRUPTED)
            return Exit.INTERRUPTED
        return Exit.PROBLEM if missing or removed < len(chosen) else Exit.OK

    run(work())


def statistics(entries: list[DeadLetterEntry]) -> DeadLetterStatistics:
    """Count entries, given oldest first."""
    if not entries:
        return DeadLetterStatistics(0, 0, None, None, [], BUCKETS[0].total_seconds(), [])
    counts: Counter[tuple[str, str]] = Counter()
    seen: dict[tuple[str, str], tuple[datetime, datetime]] = {}
    for entry in entries:
        key = (entry.consumer, entry.error_type)
        counts[key] += 1
        seen[key] = (seen[key][0] if key in seen else entry.stored_at, entry.stored_at)
    first, last = entries[0].stored_at, entries[-1].stored_at
    width_s = next((each for each in BUCKETS if (last - first) / each < MOST_BUCKETS - 1), BUCKETS[-1]).total_seconds()
    periods = Counter(int(entry.stored_at.timestamp() // width_s) for entry in entries)
    return DeadLetterStatistics(
        total=len(entries),
        bytes=sum(entry.size_bytes for entry in entries),
        first_at=first,
        last_at=last,
        errors=[ErrorCount(*key, count, *seen[key]) for key, count in counts.most_common()],
        period_s=width_s,
        periods=[
            PeriodCount(datetime.fromtimestamp(number * width_s, tz=first.tzinfo), periods[number])
            for number in range(min(periods), max(periods) + 1)
        ],
    )


@asynccontextmanager
async def _queue(server: str | None) -> AsyncIterator[DeadLetterQueue]:
    from app.messaging.dead_letter_queue import DeadLetterQueue

    async with opened(server) as admin:
        yield DeadLetterQueue(admin, settings_of_service().nats.publish_timeout_s)


def _filter(
    consumer: str | None,
    error: str | None,
    subject: str | None,
    since: datetime | None,
    before: datetime | None,
    sequences: list[int] | None = None,
) -> DeadLetterFilter:
    from app.messaging.dead_letter_queue import DeadLetterFilter

    return DeadLetterFilter(consumer, error, subject, since, before, frozenset(sequences or ()))


def _check_choice(sequences: list[int] | None, everything: bool) -> None:
    if bool(sequences) == everything:
        raise typer.BadParameter("name sequences, or give --all (filters narrow it down)")


async def _choose(
    queue: DeadLetterQueue, wanted: DeadLetterFilter, sequences: list[int] | None, limit: int | None
) -> list[DeadLetterEntry]:
    """Return the entries that are meant, oldest first; those that come while this runs are not among them."""
    from app.errors import UnknownResource

    chosen: list[DeadLetterEntry] = []
    if sequences:
        for sequence in sorted(set(sequences)):
            try:
                entry, _ = await queue.read(sequence)
            except UnknownResource:
                continue
            if wanted.admits(entry):
                chosen.append(entry)
        return chosen[:limit]
    async for entry in queue.scan(wanted):
        chosen.append(entry)
        if len(chosen) == limit:
            break
    return chosen


async def _replay(queue: DeadLetterQueue, sequences: list[int]) -> list[Replayed]:
    results: list[Replayed] = []
    with progress("Replaying", len(sequences)) as step, stopped_by_signals() as stop:
        async for result in queue.each(sequences, queue.replay, at_once=AT_ONCE, stop=stop):
            results.append(result)
            step()
    return results


async def _remove(queue: DeadLetterQueue, chosen: list[DeadLetterEntry], *, overwrite: bool) -> list[bool]:
    """Return for each entry that was worked on whether it was still there; fewer than chosen after an interruption."""
    remove = partial(queue.remove, overwrite=overwrite)
    done: list[bool] = []
    with progress("Removing", len(chosen)) as step, stopped_by_signals() as stop:
        async for was_there in queue.each((each.sequence for each in chosen), remove, at_once=AT_ONCE, stop=stop):
            done.append(was_there)
            step()
    return done


async def _confirm(question: str) -> None:
    await asyncio.to_thread(typer.confirm, question, abort=True, err=True)


def _absent(sequences: list[int] | None, chosen: list[DeadLetterEntry]) -> list[Replayed]:
    from app.messaging.dead_letter_queue import Outcome, Replayed

    found = {entry.sequence for entry in chosen}
    reason = "not in the queue, or kept out by a filter"
    return [Replayed(each, Outcome.FAILED, reason=reason) for each in sorted(set(sequences or ()) - found)]


def _show_plan(chosen: list[DeadLetterEntry], as_json: bool) -> None:
    if as_json:
        emit([_brief(entry) for entry in chosen])
        return
    rows = [(each.sequence, each.consumer, each.error_type, each.subject, each.request_id) for each in chosen]
    table(("Seq", "Consumer", "Error", "Original subject", "Request id"), rows)
    note(f"{len(chosen):,} dead letters; nothing was changed.")


def _show_results(results: list[Replayed], as_json: bool, *, interrupted: bool) -> Exit:
    from app.messaging.dead_letter_queue import Outcome

    counts = Counter(each.outcome for each in results)
    if as_json:
        totals = {outcome.name.lower(): counts[outcome] for outcome in Outcome}
        emit(totals | {"interrupted": interrupted, "entries": sorted(results, key=lambda each: each.sequence)})
    else:
        rows = [(each.sequence, each.outcome, each.subject, each.request_id, each.reason) for each in results]
        table(("Seq", "Outcome", "Subject", "Request id", "Reason"), sorted(rows))
        say(", ".join(f"{counts[outcome]:,} {outcome}" for outcome in Outcome) + ".")
    if interrupted:
        note(INTERRUPTED)
        return Exit.INTERRUPTED
    return Exit.PROBLEM if counts[Outcome.FAILED] else Exit.OK


def _brief(entry: DeadLetterEntry) -> dict[str, Any]:
    return {name: value for name, value in asdict(entry).items() if name != "headers"}


def _body(payload: bytes) -> dict[str, str]:
    """Return the payload as text, or in base64 where it is none."""
    try:
        return {"payload": payload.decode()}
    except UnicodeDecodeError:
        return {"payload_base64": base64.b64encode(payload).decode()}
