"""`vigil consumers`: who is behind, by how much, and whether a worker is connected."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.command import JsonOption, ServerOption, examples, group, opened, run
from app.cli.render import Figure, ago, emit, facts, note, say, span, table
from app.cli.streams import NANOSECONDS, show_differences, standing, summary
from app.topology import CONSUMERS

if TYPE_CHECKING:
    from app.messaging.reports import ConsumerReport

commands = group("Consumers: pending, in work, redelivered, lag; and how they differ from the topology.")

StreamArgument = Annotated[str | None, typer.Argument(help="Stream name; every stream of the topology without it.")]


@commands.command("ls", epilog=examples("vigil consumers ls", "vigil consumers ls VIGIL_DETECTION -j"))
def ls(stream: StreamArgument = None, server: ServerOption = None, as_json: JsonOption = False) -> None:
    """List consumers: pending, ack pending, redelivered, lag, and pulls that wait for work."""

    async def work() -> None:
        async with opened(server) as admin:
            found = await admin.consumers(stream)
        if as_json:
            emit([summary(each) for each in found])
            return
        rows = [
            (
                each.name,
                " ".join(each.filter_subjects),
                each.pending,
                each.ack_pending,
                each.redelivered,
                Figure(span(each.lag_s)),
                each.waiting,
                standing(each),
            )
            for each in found
        ]
        table(
            ("Consumer", "Filters", "Pending", "Ack pending", "Redelivered", "Lag", "Waiting pulls", "Topology"), rows
        )
        _note_missing(found, stream)

    run(work())


@commands.command("info", epilog=examples("vigil consumers info pii-worker", "vigil consumers info pii-worker -j"))
def info(
    name: Annotated[str, typer.Argument(help="Durable name.")],
    stream: Annotated[str | None, typer.Option("--stream", help="Its stream, where the topology does not say.")] = None,
    server: ServerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one consumer in full, and where it differs from the topology."""

    async def work() -> None:
        async with opened(server) as admin:
            found = await admin.consumer(name, stream)
        if as_json:
            emit(asdict(found))
            return
        facts(
            [
                ("Consumer", found.name),
                ("Stream", found.stream),
                ("Filters", ", ".join(found.filter_subjects)),
                ("Ack wait", _ack_wait(found)),
                ("Max deliver", found.config.get("max_deliver", -1)),
                ("Pending", found.pending),
                ("Ack pending", f"{found.ack_pending} of {found.max_ack_pending}"),
                ("Redelivered", found.redelivered),
                ("Lag", span(found.lag_s)),
                ("Oldest never delivered", span(found.oldest_pending_s)),
                ("Waiting pulls", found.waiting),
                ("Last delivered", ago(found.last_delivered_at)),
                ("Last acknowledged", ago(found.last_acked_at)),
                ("Acknowledged up to", f"stream sequence {found.ack_floor_sequence}"),
                ("Topology", standing(found)),
            ]
        )
        show_differences(found.differences)
        if not found.waiting:
            say()
            say("No pull waits: no worker is connected, or all that are have their hands full.")

    run(work())


@commands.command("report", epilog=examples("vigil consumers report", "vigil consumers report VIGIL_DETECTION"))
def report(stream: StreamArgument = None, server: ServerOption = None, as_json: JsonOption = False) -> None:
    """Compare consumers, those most behind first, as `nats consumer report` does."""

    async def work() -> None:
        async with opened(server) as admin:
            found = await admin.consumers(stream)
        found.sort(key=lambda each: (each.lag_s, each.unprocessed), reverse=True)
        if as_json:
            emit([summary(each) for each in found])
            return
        rows = [
            (
                each.name,
                Figure(_ack_wait(each)),
                int(each.config.get("max_deliver", -1)),
                each.ack_pending,
                each.redelivered,
                each.unprocessed,
                Figure(span(each.lag_s)),
                each.waiting,
                each.ack_floor_sequence,
                ago(each.last_delivered_at),
                ago(each.last_acked_at),
            )
            for each in found
        ]
        columns = ("Consumer", "Ack wait", "Max deliver", "Ack pending", "Redelivered", "Unprocessed", "Lag")
        table((*columns, "Waiting pulls", "Ack floor", "Last delivery", "Last ack"), rows)

    run(work())


def _ack_wait(consumer: ConsumerReport) -> str:
    return span(consumer.config.get("ack_wait", 0) / NANOSECONDS)


def _note_missing(found: list[ConsumerReport], stream: str | None) -> None:
    names = {each.name for each in found}
    missing = [spec.durable for spec in CONSUMERS if spec.durable not in names and stream in (None, spec.stream)]
    if missing:
        note(f"Missing: {', '.join(missing)}. `vigil streams apply` makes what is missing.")
