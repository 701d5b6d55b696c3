"""`vigil watch`: messages as they are published, live; headers on demand, texts hidden unless asked for."""

from __future__ import annotations

import asyncio
import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.command import JsonOption, ServerOption, examples, opened, run, stopped_by_signals
from app.cli.render import emit_line, note, say, size
from app.topology import Subject

if TYPE_CHECKING:
    from app.messaging.reports import WatchedMessage

EXAMPLES = examples(
    "vigil watch",
    "vigil watch 'vigil.guard.*' --headers",
    "vigil watch 'vigil.dlq.>' --count 1 --json",
    "",
    "A plain subscription beside the workers: it takes nothing from them and shows what comes from now on.",
    f"Without subjects all but {Subject.USAGE}, which each replica sends every second.",
)


def watch(
    subjects: Annotated[list[str] | None, typer.Argument(help="Subjects; wildcards as in NATS.")] = None,
    headers: Annotated[bool, typer.Option("--headers", help="Show headers.")] = False,
    text: Annotated[bool, typer.Option("--text", help="Show payloads: they hold users' texts.")] = False,
    count: Annotated[int | None, typer.Option("--count", "-n", min=1, help="Leave after so many messages.")] = None,
    server: ServerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show messages as they are published: time, subject, size, request id."""

    for subject in subjects or ():
        if not subject or re.search(r"\s", subject):
            raise typer.BadParameter(f"{subject!r} is no subject")

    async def work() -> None:
        wanted = subjects or ["vigil.>"]
        async with opened(server) as admin:
            with stopped_by_signals() as stop:
                live = asyncio.create_task(_follow(admin, wanted))
                ended = asyncio.create_task(stop.wait())
                await asyncio.wait({live, ended}, return_when=asyncio.FIRST_COMPLETED)
                ended.cancel()
                live.cancel()
                await asyncio.gather(live, return_exceptions=True)
                if live.done() and not live.cancelled():
                    live.result()

    async def _follow(admin: Any, wanted: list[str]) -> None:
        shown = 0
        async with admin.watched(wanted) as messages:
            note(f"Watching {' '.join(wanted)}; Ctrl-C ends it.")
            async for message in messages:
                if not subjects and message.subject == Subject.USAGE:
                    continue
                _show(message, headers=headers, text=text, as_json=as_json)
                shown += 1
                if shown == count:
                    return

    run(work())


def _show(message: WatchedMessage, *, headers: bool, text: bool, as_json: bool) -> None:
    payload = message.payload.decode("utf-8", "backslashreplace")
    if as_json:
        hidden = {"payload"} | (set() if headers else {"headers"})
        line = {name: value for name, value in asdict(message).items() if name not in hidden}
        emit_line(line | ({"payload": payload} if text else {}))
        return
    time = message.at.strftime("%H:%M:%S.%f")[:-3]
    say(f"{time}  {message.subject:<24} {size(message.size_bytes):>9}  {message.request_id or '-'}")
    if headers:
        for name, value in sorted(message.headers.items()):
            say(f"    {name}: {value}")
    if text:
        for row in payload.splitlines():
            say(f"    {row}")
