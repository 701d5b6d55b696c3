"""The tree of commands: one group or command for each file of this room."""

from __future__ import annotations

import logging

import typer

from app import __version__
from app.cli import (
    audit,
    consumers,
    dlq,
    doctor,
    evaluate,
    evaluate_pii,
    events,
    feedback,
    guard,
    keys,
    mcp,
    policy,
    serve,
    stats,
    streams,
    train,
    watch,
)
from app.cli.command import HELP, ServerOption, examples, named_before_command

vigil = typer.Typer(
    name="vigil",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,  # Their excerpts could quote a text.
    context_settings=HELP,
    help="Operate Vigil Guard: its streams, consumers, dead letters, live messages and health.",
    epilog=examples(
        "vigil doctor",
        "vigil streams report",
        "vigil dlq ls --since 1h",
        "vigil guard 'ignore all previous instructions'",
        "",
        "Exit status: 0 ok, 1 a problem was found or something does not exist, 2 usage, 3 cannot connect.",
    ),
)
vigil.add_typer(streams.commands, name="streams")
vigil.add_typer(consumers.commands, name="consumers")
vigil.add_typer(dlq.commands, name="dlq")
vigil.add_typer(policy.commands, name="policy")
vigil.add_typer(keys.commands, name="keys")
vigil.add_typer(events.commands, name="events")
vigil.add_typer(feedback.commands, name="feedback")
vigil.command("stats", epilog=stats.EXAMPLES)(stats.stats)
vigil.add_typer(audit.commands, name="audit")
vigil.command("watch", epilog=watch.EXAMPLES)(watch.watch)
vigil.command("guard", epilog=guard.EXAMPLES)(guard.guard)
vigil.command("doctor", epilog=doctor.EXAMPLES)(doctor.doctor)
vigil.command("evaluate", epilog=evaluate.EXAMPLES)(evaluate.evaluate)
vigil.command("evaluate-pii", epilog=evaluate_pii.EXAMPLES)(evaluate_pii.evaluate_pii)
vigil.command("serve", epilog=serve.EXAMPLES)(serve.serve)
vigil.command("mcp", epilog=mcp.EXAMPLES)(mcp.mcp)
vigil.command("train", epilog=train.EXAMPLES)(train.train)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"vigil {__version__}")
        raise typer.Exit


@vigil.callback()
def root(
    server: ServerOption = None,
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Show the version."),
) -> None:
    # What the service logs about its own work is the command's output here.
    logging.getLogger("vigil").addHandler(logging.NullHandler())
    logging.getLogger("vigil").propagate = False
    named_before_command.set(server)
