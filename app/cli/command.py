"""What all commands share: options, the connection, exit codes, and errors as one line."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from app.cli.render import printable
from app.errors import (
    ConfigurationError,
    EventLogUnavailable,
    InvalidRequest,
    MessagingUnavailable,
    PolicyUnreadable,
    VigilError,
)
from app.identity import now
from app.settings import Settings, load_settings

if TYPE_CHECKING:
    from app.messaging.admin import Admin

HELP: Final = {"help_option_names": ["-h", "--help"]}
UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
DURATION: Final = re.compile(r"(?:\d+(?:\.\d+)?[smhdw])+")


class Exit(IntEnum):
    """Exit codes of every command."""

    OK = 0
    PROBLEM = 1
    """A problem was found, or something does not exist."""
    USAGE = 2
    UNREACHABLE = 3
    """No server or service answers, or the event log is away."""
    KEPT = 4
    """Streams or buckets keep more copies than the settings say, or are as a later version wrote them."""
    INTERRUPTED = 130


named_before_command: Final[ContextVar[str | None]] = ContextVar("server_named_before_command", default=None)
"""The server of `vigil -s URL COMMAND`."""

ServerOption = Annotated[
    str | None,
    typer.Option(
        "-s",
        "--server",
        metavar="URL",
        help="NATS server, in place of NATS_URL or the embedded server.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("-j", "--json", help="Print JSON.")]
ForceOption = Annotated[bool, typer.Option("-f", "--force", help="Do not ask.")]


def examples(*lines: str) -> str:
    """Return the part of a help page that shows how a command is used."""
    return "\n".join(("\b", "Examples:", *(f"  {line}" if line.startswith("vigil") else line for line in lines)))


def group(help_text: str) -> typer.Typer:
    return typer.Typer(no_args_is_help=True, rich_markup_mode=None, context_settings=HELP, help=help_text)


def duration(text: str | timedelta, option: str | None = None) -> timedelta:
    """Read a duration as `30s`, `1h30m` or `7d`; a default is one already.

    Raises:
        typer.BadParameter: it is none; names the option, which the parser of one alone knows without being told.
    """
    hint = f"'{option}'" if option is not None else None
    if isinstance(text, timedelta):
        return text
    if not DURATION.fullmatch(text):
        raise typer.BadParameter(f"{text!r} is no duration; write 30s, 15m, 1h30m, 7d or 2w", param_hint=hint)
    parts = re.findall(r"([\d.]+)([smhdw])", text)
    try:
        return timedelta(seconds=sum(float(number) * UNITS[unit] for number, unit in parts))
    except OverflowError:
        raise typer.BadParameter(f"{text!r} is too long", param_hint=hint) from None


def moment(text: str) -> datetime:
    """Read a time: a duration before now, or an ISO 8601 time (UTC where it names no zone)."""
    if DURATION.fullmatch(text):
        return moved(now(), -duration(text))
    try:
        told = datetime.fromisoformat(text)
        return told.astimezone(UTC) if told.tzinfo else told.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"{text!r} is neither a duration, as 1h or 7d, nor an ISO 8601 time") from None


def moved(start: datetime, by: timedelta) -> datetime:
    """Return a time that lies so far from another.

    Raises:
        typer.BadParameter: the calendar does not reach so far.
    """
    try:
        return start + by
    except OverflowError:
        raise typer.BadParameter("is further away than the years 1 to 9999 reach") from None


SinceFilter = Annotated[
    datetime | None,
    typer.Option("--since", parser=moment, metavar="AGE|TIME", help="Not older than 1h, 7d or an ISO 8601 time."),
]
BeforeFilter = Annotated[
    datetime | None,
    typer.Option("--before", parser=moment, metavar="AGE|TIME", help="Older than 1h, 7d or an ISO 8601 time."),
]


def readable(name: str) -> Path:
    """Read the name of a file; `-` is standard input, which the path type of the command line takes for a file."""
    file = Path(name)
    if name != "-" and (not file.exists() or file.is_dir()):
        raise typer.BadParameter(f"{name!r} is no file")
    return file


def text_of(file: Path) -> str:
    """Return what a UTF-8 file holds to the character, line ends too; `-` is standard input.

    Raises:
        ConfigurationError: it cannot be read, or is not UTF-8.
    """
    from_stdin = str(file) == "-"
    try:
        return (sys.stdin.buffer.read() if from_stdin else file.read_bytes()).decode()
    except (OSError, UnicodeDecodeError) as error:
        name = "standard input" if from_stdin else file
        raise ConfigurationError(f"{name}: cannot be read as UTF-8: {type(error).__name__}") from None


def settings_of_service() -> Settings:
    """Return the service's settings.

    Raises:
        typer.Exit: they cannot be used; the reason is printed.
    """
    try:
        return load_settings()
    except VigilError as error:
        raise failed(error) from None


@contextlib.asynccontextmanager
async def opened(server: str | None) -> AsyncIterator[Admin]:
    """Connect to NATS as the command's options and the settings say."""
    from app.messaging.admin import Admin

    async with Admin.opened(settings_of_service(), chosen(server)) as admin:
        yield admin


def chosen(server: str | None) -> str | None:
    """Return the server named after the command's name, or before it."""
    return server or named_before_command.get()


def run(work: Coroutine[Any, Any, Exit | None]) -> None:
    """Do a command's work and leave with its exit code; an error becomes one line on standard error."""
    try:
        code = asyncio.run(work)
    except VigilError as error:
        raise failed(error) from None
    raise typer.Exit(code or Exit.OK)


def failed(error: VigilError) -> typer.Exit:
    """Print what went wrong and return the exit for it."""
    typer.echo(f"vigil: {printable(error.message)}", err=True)
    if isinstance(error, MessagingUnavailable | EventLogUnavailable):
        return typer.Exit(Exit.UNREACHABLE)
    # What is stored is nothing that the command was given.
    usage = isinstance(error, ConfigurationError | InvalidRequest) and not isinstance(error, PolicyUnreadable)
    return typer.Exit(Exit.USAGE if usage else Exit.PROBLEM)


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[asyncio.Event]:
    """Give an event that Ctrl-C or SIGTERM sets, to finish what is under way; a second signal ends at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    caught = []

    def on_signal(number: signal.Signals) -> None:
        stop.set()
        loop.remove_signal_handler(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(RuntimeError, ValueError):  # Only the main thread has signals.
            loop.add_signal_handler(number, on_signal, number)
            caught.append(number)
    try:
        yield stop
    finally:
        for number in caught:
            loop.remove_signal_handler(number)
