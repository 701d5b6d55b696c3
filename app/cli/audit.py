"""`vigil audit`: what administrators did, newest first."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer

from app.cli.command import JsonOption, ServerOption, examples, group, opened, run
from app.cli.render import emit, note, table

commands = group("The audit record: every action of an administrator.")


def actor() -> str:
    """Return who runs the command, as the record names it."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # A container's user may have no name.
        return "cli:unknown"


@commands.command(
    "ls", epilog=examples("vigil audit ls", "vigil audit ls --action keys", "vigil audit ls -n 500 --cursor 1200 -j")
)
def ls(
    action: Annotated[
        str | None, typer.Option("--action", help="Only this action, as keys.create, or all on a subject, as keys.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="Most entries.")] = 50,
    cursor: Annotated[str | None, typer.Option("--cursor", help="Go on after an earlier page.")] = None,
    server: ServerOption = None,
    as_json: JsonOption = False,
) -> None:
    """List recorded actions, newest first."""

    async def work() -> None:
        async with opened(server) as admin:
            page = await admin.audit(limit=limit, cursor=cursor, action=action)
        if as_json:
            emit(page)
            return
        rows = [
            (str(each.sequence), each.at, each.actor, each.action, each.target, each.detail) for each in page.entries
        ]
        table(("Seq", "At", "Actor", "Action", "Target", "Detail"), rows)
        if page.next_cursor is not None:
            note(f"There are older ones: --cursor {page.next_cursor}")

    run(work())
