"""`vigil serve`: the service as `make run` starts it, in place of this process."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from app.cli.command import ServerOption, chosen, examples, settings_of_service

EXAMPLES = examples(
    "vigil serve",
    "vigil serve --host 0.0.0.0 --port 8080 --workers 2",
    "vigil serve -- --log-level debug",
)


def serve(
    options: Annotated[list[str] | None, typer.Argument(metavar="[-- UVICORN OPTIONS]")] = None,
    host: Annotated[str, typer.Option("--host", envvar="HOST")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", envvar="PORT", min=1, max=65_535)] = 8000,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes; they share the embedded parts.")] = 1,
    server: ServerOption = None,
) -> None:
    """Run the service: uvicorn with the recommended options."""
    settings_of_service()  # Told before a process is started, and once however many workers there are.
    named = chosen(server)
    environment = os.environ | ({"NATS_URL": named} if named else {})
    # Signals then reach uvicorn itself, and no second process stands in between.
    os.execve(sys.executable, uvicorn_command(host, port, workers, options or []), environment)  # noqa: S606


def uvicorn_command(host: str, port: int, workers: int, options: list[str]) -> list[str]:
    """Return the command line; `--app-dir` lets it run from any folder."""
    command = [sys.executable, "-m", "uvicorn", "app:main", "--app-dir", str(Path(__file__).parents[2])]
    command += ["--host", host, "--port", str(port), "--loop", "uvloop", "--http", "httptools", "--no-access-log"]
    return [*command, *(["--workers", str(workers)] if workers > 1 else []), *options]
