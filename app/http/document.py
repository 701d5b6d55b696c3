"""The OpenAPI document made whole: bodies that endpoints read themselves, and refusals that come from around them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.problems import MEDIA_TYPE

Node = dict[str, Any]

BODY_REFUSALS: Final = {
    "400": "The body is not JSON.",
    "413": "The body or text is too large.",
    "415": "The body is not application/json, or is compressed.",
}
REFUSALS: Final = {
    "401": "No key, or one that is not known.",
    "403": "The key may not do this, or a page of another site asks.",
    "429": "The limit of the key, or of the service, is reached; see Retry-After.",
    "408": "The request came too slowly.",
    "503": "Not ready or too busy; see Retry-After.",
}
OPEN: Final = ("/health", "/livez", "/readyz")
PATTERN: Final = "422"
"""Each endpoint tells how it refuses a field that does not fit; its other refusals have that shape."""
METHODS: Final = frozenset({"get", "put", "post", "delete", "patch"})


def completed(build: Callable[[], Node], bodies: Sequence[type[BaseModel]]) -> Callable[[], Node]:
    """Return a function that builds the document once, with what FastAPI cannot know of."""

    @cache  # Everyone may ask for it, and FastAPI keeps only its own part.
    def document() -> Node:
        openapi = build()
        _, schemas = models_json_schema(
            [(model, "validation") for model in bodies], ref_template="#/components/schemas/{model}"
        )
        openapi["components"]["schemas"].update(schemas["$defs"])
        for path, operation in _operations(openapi):
            _complete(path, operation)
        return openapi

    return document


def _operations(openapi: Node) -> Iterator[tuple[str, Node]]:
    for path, item in openapi["paths"].items():
        yield from ((path, operation) for method, operation in item.items() if method in METHODS)


def _complete(path: str, operation: Node) -> None:
    responses: Node = operation["responses"]
    for status, response in responses.items():
        content: Node = response.get("content", {})
        if status >= "400" and MEDIA_TYPE in content and "application/json" in content:
            # FastAPI puts every model under JSON; ours is told as a problem.
            content[MEDIA_TYPE] = content.pop("application/json")
    shape: Node = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    if PATTERN in responses:
        shape = responses[PATTERN].get("content", shape)
    wanted = dict(BODY_REFUSALS) if "requestBody" in operation else {}
    if not path.startswith(OPEN):
        wanted |= REFUSALS
    else:
        wanted |= {"403": REFUSALS["403"]}
    for status, description in wanted.items():
        responses.setdefault(status, {"description": description, "content": shape})
