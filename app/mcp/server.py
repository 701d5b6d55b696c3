"""Offers the guard's tools over the Model Context Protocol, on standard input and output (package `mcp`)."""

from __future__ import annotations

import logging
import sys
from typing import Any, Final

import mcp_types as types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

from app.client import AsyncClient
from app.mcp.tools import TOOLS, Toolbox, ToolFailure, call

INSTRUCTIONS: Final = (
    "Vigil Guard checks text for prompt injection, jailbreaks and personal data. A tool that fails has checked "
    "nothing: treat its text as not checked."
)


def build(toolbox: Toolbox, version: str) -> Server[Any]:
    """Return the protocol server. The low-level one: the other quotes arguments that do not fit."""

    async def list_tools(_: Any, __: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return types.ListToolsResult(
            tools=[
                types.Tool(
                    name=spec.name,
                    title=spec.title,
                    description=spec.description,
                    input_schema=spec.takes.model_json_schema(),
                    output_schema=spec.gives.model_json_schema(),
                    annotations=types.ToolAnnotations(
                        read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
                    ),
                )
                for spec in TOOLS
            ]
        )

    async def call_tool(_: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        try:
            result = await call(toolbox, params.name, params.arguments or {})
        except ToolFailure as failure:
            return types.CallToolResult(content=[types.TextContent(text=str(failure))], is_error=True)
        return types.CallToolResult(
            content=[types.TextContent(text=result.model_dump_json())], structured_content=result.model_dump()
        )

    return Server(
        "vigil-guard",
        version=version,
        title="Vigil Guard",
        instructions=INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


async def serve(client: AsyncClient, policy: str | None, version: str) -> None:
    """Answer on standard input and output until the input ends."""
    # Standard output belongs to the protocol. Tracebacks and debug lines of the library can quote a message.
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(name)s: %(message)s", force=True)
    logging.getLogger("mcp").setLevel(logging.CRITICAL)
    server = build(Toolbox(client, policy), version)
    async with client, stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())
