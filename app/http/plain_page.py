"""Builds the AsyncAPI page that needs no script: every subject, who sends and who receives on it, every schema."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Final
from urllib.parse import unquote

from app.http.assets import Asset

Node = Mapping[str, Any]
"""An object of the AsyncAPI document: a channel, an operation, a message or a JSON Schema."""

TYPE_KEYWORDS: Final = frozenset({"$ref", "type", "items", "anyOf", "oneOf", "allOf", "enum", "const"})
"""What `describe_type` shows."""
UNSHOWN_KEYWORDS: Final = TYPE_KEYWORDS | {"title", "description"}
"""What a field's column of constraints leaves out: the type, and the texts that stand in columns of their own."""


def asyncapi_plain_page(specification: Node, style: Asset) -> str:
    """Return an AsyncAPI 3 document as one HTML page; everything taken from the document is escaped."""
    title = f"{specification['info']['title']} AsyncAPI"
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)}</title><link rel="icon" href="data:,">'
        f'<link rel="stylesheet" href="{escape(style.url)}"></head><body>'
        f"<h1>{escape(title)} {escape(str(specification['info'].get('version', '')))}</h1>"
        f"<p>{escape(specification['info'].get('description', ''))}</p>"
        f"<h2>Subjects</h2>{''.join(channels(specification))}"
        f"<h2>Schemas</h2>{''.join(schemas(specification))}</body></html>"
    )


def channels(specification: Node) -> Iterator[str]:
    for name, channel in sorted(specification.get("channels", {}).items()):
        actions = [
            operation["action"]
            for operation in specification.get("operations", {}).values()
            if resolve(specification, operation["channel"]) is channel
        ]
        messages = "".join(message(specification, reference) for reference in channel.get("messages", {}).values())
        yield (
            f"<section><h3><code>{escape(channel.get('address') or name)}</code></h3>"
            f"<p>{escape(', '.join(actions) or 'no operation')} &middot; {escape(name)}</p>"
            f"<p>{escape(channel.get('description', ''))}</p>"
            f"{messages}</section>"
        )


def message(specification: Node, reference: Node) -> str:
    found = resolve(specification, reference)
    payload = found.get("payload", {})
    return f"<h4>{escape(found.get('title', 'message'))}</h4><p>{describe_type(payload)}</p>" + (
        field_table(payload) if "properties" in payload else ""
    )


def schemas(specification: Node) -> Iterator[str]:
    for name, schema in sorted(specification.get("components", {}).get("schemas", {}).items()):
        content = field_table(schema) if "properties" in schema else f"<p>{describe_type(schema)}</p>"
        yield (
            f'<section id="{escape(anchor(name))}"><h3>{escape(name)}</h3>'
            f"<p>{escape(schema.get('description', ''))}</p>{content}</section>"
        )


def field_table(schema: Node) -> str:
    required = frozenset(schema.get("required", ()))
    rows = (
        f"<tr><td><code>{escape(name)}</code></td><td>{describe_type(field)}</td>"
        f"<td>{'yes' if name in required else ''}</td><td>{constraints(field)}</td>"
        f"<td>{escape(field.get('description', ''))}</td></tr>"
        for name, field in schema["properties"].items()
    )
    header = "<tr><th>Field</th><th>Type</th><th>Required</th><th>Limits and default</th><th>Meaning</th></tr>"
    return f"<table>{header}{''.join(rows)}</table>"


def describe_type(schema: Node) -> str:
    """Return a JSON Schema's type as HTML; another schema is linked, not repeated."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f'<a href="#{escape(anchor(name))}">{escape(name)}</a>'
    for keyword in ("anyOf", "oneOf", "allOf"):
        if keyword in schema:
            return " or ".join(map(describe_type, schema[keyword]))
    if "const" in schema:
        return f"<code>{escape(json.dumps(schema['const']))}</code>"
    if "enum" in schema:
        return ", ".join(f"<code>{escape(json.dumps(value))}</code>" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {describe_type(schema.get('items', {}))}"
    return escape(str(schema.get("format") or schema.get("type") or "any value"))


def constraints(schema: Node) -> str:
    shown = {keyword: value for keyword, value in schema.items() if keyword not in UNSHOWN_KEYWORDS}
    return ", ".join(f"{escape(keyword)} <code>{escape(json.dumps(value))}</code>" for keyword, value in shown.items())


def resolve(specification: Node, node: Node) -> Node:
    """Follow a reference inside the document (RFC 6901, as a fragment: percent-encoded) to what it names."""
    while "$ref" in node:
        found: Any = specification
        for step in unquote(node["$ref"]).removeprefix("#/").split("/"):
            found = found[step.replace("~1", "/").replace("~0", "~")]
        node = found
    return node


def anchor(schema_name: str) -> str:
    return f"schema-{schema_name}"
