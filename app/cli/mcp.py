"""`vigil mcp`: the guard as tools for a model, over the Model Context Protocol on standard input and output."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app import __version__
from app.cli.command import Exit, examples, failed, run
from app.errors import ConfigurationError, VigilError

if TYPE_CHECKING:
    from app.client import AsyncClient

EXAMPLES = examples(
    "vigil mcp",
    "vigil mcp --url https://guard.example.com --key-file guard.key --policy strict",
    "",
    "It speaks to a running service over HTTP, and is started by the program that holds the model.",
)
MISSING = "`vigil mcp` needs the package mcp: pip install 'mcp>=2.3,<3'"


def mcp(
    url: Annotated[str, typer.Option("--url", envvar="VIGIL_URL", help="Where the service is.")] = (
        "http://127.0.0.1:8000"
    ),
    key_file: Annotated[
        Path | None,
        typer.Option("--key-file", help="File with the API key, in place of VIGIL_API_KEY.", show_default=False),
    ] = None,
    key: Annotated[str | None, typer.Option(envvar="VIGIL_API_KEY", hidden=True)] = None,
    policy: Annotated[str | None, typer.Option("--policy", help="Policy of every request.", show_default=False)] = None,
) -> None:
    """Offer guard, redact and restore as tools to a model (MCP over stdio)."""
    try:
        client = _client(url, key_file, key)
    except VigilError as error:
        raise failed(error) from None
    run(_serve(client, policy))


def _client(url: str, key_file: Path | None, key: str | None) -> AsyncClient:
    if find_spec("mcp") is None:
        raise ConfigurationError(MISSING)
    from app.client import AsyncClient

    if key_file is not None:
        try:
            key = key_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"--key-file cannot be read: {type(error).__name__}") from None
    try:
        return AsyncClient(url, on_failure="raise", api_key=key or None)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None


async def _serve(client: AsyncClient, policy: str | None) -> Exit:
    from app.mcp.server import serve

    await serve(client, policy, __version__)
    return Exit.OK
