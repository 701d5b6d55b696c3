"""`vigil streams`: what lies in the streams, how they differ from the topology, and making them equal to it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from app.cli.command import Exit, JsonOption, ServerOption, examples, group, opened, run
from app.cli.render import Figure, ago, emit, facts, note, say, size, span, table
from app.topology import STREAMS

if TYPE_CHECKING:
    from app.messaging.reports import Change, ConsumerReport, Difference, StreamReport

NANOSECONDS: Final = 10**9
DURATIONS: Final = frozenset({"max_age", "duplicate_window", "ack_wait", "inactive_threshold"})
"""Fields that JetStream writes in nanoseconds."""

commands = group("Streams: list, look into, compare with the topology, reconcile.")


@commands.command("ls", epilog=examples("vigil streams ls", "vigil streams ls -j | jq '.[].messages'"))
def ls(server: ServerOption = None, as_json: JsonOption = False) -> None:
    """List streams: subjects, messages, bytes, consumers, last activity."""

    async def work() -> None:
        async with opened(server) as admin:
            found = await admin.streams()
        if as_json:
            emit([summary(each) for each in found])
            return
        rows = [
            (
                each.name,
                " ".join(each.subjects),
                each.messages,
                Figure(size(each.bytes)),
                each.consumers,
                ago(each.last_at),
                standing(each),
            )
            for each in found
        ]
        table(("Stream", "Subjects", "Messages", "Bytes", "Consumers", "Last message", "Topology"), rows)
        _note_missing(found)

    run(work())


@commands.command("info", epilog=examples("vigil streams info VIGIL_DETECTION", "vigil streams info VIGIL_DLQ -j"))
def info(
    name: Annotated[str, typer.Argument(help="Stream name.")], server: ServerOption = None, as_json: JsonOption = False
) -> None:
    """Show one stream in full, and where it differs from the topology."""

    async def work() -> None:
        async with opened(server) as admin:
            found = await admin.stream(name)
            counts = await admin.subject_counts(name)
        if as_json:
            emit({**asdict(found), "subject_counts": counts})
            return
        facts(
            [
                ("Stream", found.name),
                ("Subjects", ", ".join(found.subjects)),
                ("Retention", found.retention),
                ("Storage", f"{found.storage}, {found.replicas} replica(s)"),
                ("Leader", found.leader),
                ("Messages", found.messages),
                ("Bytes", f"{size(found.bytes)} of {size(found.max_bytes)}"),
                ("Sequences", f"{found.first_sequence} to {found.last_sequence}, {found.deleted} deleted in between"),
                ("First message", found.first_at),
                ("Last message", found.last_at),
                ("Consumers", found.consumers),
                ("Topology", standing(found)),
            ]
        )
        say()
        say("Configuration")
        facts(sorted((field, _shown(field, value)) for field, value in found.config.items() if field != "metadata"))
        show_differences(found.differences)
        if counts:
            say()
            table(("Subject", "Messages"), sorted(counts.items()))

    run(work())


@commands.command("report", epilog=examples("vigil streams report"))
def report(server: ServerOption = None, as_json: JsonOption = False) -> None:
    """Compare streams by size, as `nats stream report` does."""

    async def work() -> None:
        async with opened(server) as admin:
            found = await admin.streams()
        found.sort(key=lambda each: each.bytes, reverse=True)
        if as_json:
            emit([summary(each) for each in found])
            return
        rows = [
            (
                each.name,
                each.storage,
                each.retention,
                each.consumers,
                each.messages,
                Figure(size(each.bytes)),
                Figure(f"{100 * each.bytes / each.max_bytes:.1f} %" if each.max_bytes else "-"),
                each.deleted,
                each.replicas,
                each.leader,
                ago(each.first_at) if each.messages else "-",
            )
            for each in found
        ]
        columns = ("Stream", "Storage", "Retention", "Consumers", "Messages", "Bytes", "Full", "Deleted")
        table((*columns, "Replicas", "Leader", "Oldest"), rows)

    run(work())


@commands.command("apply", epilog=examples("vigil streams apply --dry-run", "vigil streams apply"))
def apply(
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Only show what would change.")] = False,
    lower_replicas: Annotated[
        bool,
        typer.Option("--lower-replicas", help="Also take copies away beyond VIGIL_NATS__REPLICAS."),
    ] = False,
    lower_version: Annotated[
        bool,
        typer.Option("--lower-version", help="Also set back what a later version has written."),
    ] = False,
    server: ServerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make streams, consumers and buckets equal to the topology, as the service does at start.

    What has more copies than VIGIL_NATS__REPLICAS says keeps them, what a later version has written stays so, and the
    exit code is 4 then.
    """

    async def work() -> Exit:
        async with opened(server) as admin:
            done = await admin.reconcile(dry_run=dry_run, lower_replicas=lower_replicas, lower_version=lower_version)
        kept, newer = done.left.replicas, done.left.newer
        left = Exit.KEPT if kept or newer else Exit.OK
        if as_json:
            emit({"dry_run": dry_run, "changes": done.changes, "kept": kept, "newer": newer})
            return left
        if not done.changes and left is Exit.OK:
            say("Nothing to change: the server is equal to the topology.")
        for change in done.changes:
            say(("would " if dry_run else "") + _told(change, done=not dry_run))
            for difference in change.differences:
                say(f"    {_difference(difference)}")
        left_it = "would leave" if dry_run else "left"
        for each in kept:
            say(f"{left_it} {each.kind} {each.name} with {each.present} replicas: the settings say {each.declared}")
        for later in newer:
            say(f"{left_it} {later.kind} {later.name} as version {later.present} of the topology wrote it")
        if kept:
            note("Set VIGIL_NATS__REPLICAS to what is there, or give --lower-replicas to take copies away.")
        if newer:
            note(
                f"This program's version of the topology is {newer[0].declared}: use the later program's command, or "
                "give --lower-version once no replica of that runs."
            )
        return left

    run(work())


def summary(report: Any) -> dict[str, Any]:
    """Return a stream or consumer report without the server's full configuration."""
    return {name: value for name, value in asdict(report).items() if name != "config"}


def standing(report: StreamReport | ConsumerReport) -> str:
    """Return in a few words how something stands to the topology."""
    if not report.declared:
        return "not in it"
    if report.newer is not None:
        return f"of a later version ({report.newer})"
    return "differs: " + ", ".join(each.field for each in report.differences) if report.differences else "ok"


def show_differences(differences: tuple[Difference, ...]) -> None:
    if not differences:
        return
    say()
    lower = any(each.field == "num_replicas" and each.declared < each.present for each in differences)
    command = "vigil streams apply --lower-replicas" if lower else "vigil streams apply"
    say(f"Differences to the topology (`{command}` removes them)")
    for each in differences:
        say(f"    {_difference(each)}")


def _note_missing(found: list[StreamReport]) -> None:
    names = {each.name for each in found}
    missing = [spec.name for spec in STREAMS if spec.name not in names]
    if missing:
        note(f"Missing: {', '.join(missing)}. `vigil streams apply` makes what is missing.")


def _told(change: Change, *, done: bool) -> str:
    verb = {"create": "created", "update": "updated", "delete": "deleted"}[change.action] if done else change.action
    return f"{verb} {change.kind} {change.name}"


def _difference(each: Difference) -> str:
    return f"{each.field}: {_shown(each.field, each.present)} -> {_shown(each.field, each.declared)}"


def _shown(field: str, value: object) -> str:
    if value is None:
        return "(not set)"
    if field in DURATIONS and isinstance(value, int) and value > 0:
        return span(value / NANOSECONDS)
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
