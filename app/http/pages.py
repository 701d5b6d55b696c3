"""Serves the documentation pages, /docs (OpenAPI) and /asyncapi (AsyncAPI), which load nothing from another host."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from html import escape
from typing import Any, Final

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response

from app.errors import ConfigurationError
from app.http.assets import DocsAssets, Viewer, find_assets
from app.http.plain_page import asyncapi_plain_page

SWAGGER_SCRIPTS: Final = "'self'"
ASYNCAPI_SCRIPTS: Final = "'self' 'unsafe-eval'"
"""The viewer's parser compiles JSON Schemas to functions (ajv); seen: without this it stops at its first line."""
NO_SCRIPTS: Final = "'none'"
ASSET_HEADERS: Final = {
    # An asset's address changes with its content.
    "Cache-Control": "public, max-age=31536000, immutable",
    "X-Content-Type-Options": "nosniff",
}


def page_headers(scripts: str) -> dict[str, str]:
    """Return the headers of a page that runs scripts only from these Content-Security-Policy sources."""
    # The viewers style elements that they make, and carry icons as data addresses.
    policy = (
        f"default-src 'none'; script-src {scripts}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "Cache-Control": "no-cache",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }


def asyncapi_page(specification: Mapping[str, Any], viewer: Viewer) -> str:
    """Return the page that shows an AsyncAPI document with @asyncapi/react-component, as FastStream's own page does."""
    return page(
        title=f"{specification['info']['title']} AsyncAPI",
        viewer=viewer,
        body=f'<script type="application/json" id="specification">{json_in_html(specification)}</script>'
        '<div id="asyncapi"></div>',
    )


def swagger_page(title: str, openapi_url: str, viewer: Viewer) -> str:
    """Return the page that shows the OpenAPI document found at `openapi_url`, relative to the page."""
    return page(title=title, viewer=viewer, body=f'<div id="swagger" data-openapi="{escape(openapi_url)}"></div>')


def page(title: str, viewer: Viewer, body: str) -> str:
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)}</title><link rel="icon" href="data:,">'
        f'<link rel="stylesheet" href="{escape(viewer.style.url)}">'
        "<style>html { font-family: system-ui, sans-serif; line-height: 1.5 } body { margin: 0 }</style>"
        f"</head><body>{body}"
        f'<script src="{escape(viewer.script.url)}"></script><script src="{escape(viewer.start.url)}"></script>'
        "</body></html>"
    )


def json_in_html(value: object) -> str:
    """Return JSON that stands inside a script element: no character of it can end the element."""
    encoded = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return encoded.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def mount_docs(app: FastAPI, asyncapi: Callable[[], str], assets: DocsAssets | None = None) -> None:
    """Add GET /docs, /asyncapi, /asyncapi.json and the files under /assets/ that the pages load.

    `asyncapi` returns the AsyncAPI document as JSON text; it is called once, at the first request for it.

    Raises:
        ConfigurationError: the app still has FastAPI's own pages, which load scripts from other hosts, or no OpenAPI
            address; or a file that the installation must carry is missing.
    """
    if app.docs_url or app.redoc_url or not app.openapi_url:
        raise ConfigurationError("the app needs docs_url=None, redoc_url=None and an openapi_url")
    found = assets or find_assets()
    served = {asset.url: asset for asset in found.files()}
    specification_json = cache(asyncapi)
    openapi_url = app.openapi_url.lstrip("/")

    @cache
    def asyncapi_html() -> str:
        specification = json.loads(specification_json())
        if found.asyncapi:
            return asyncapi_page(specification, found.asyncapi)
        return asyncapi_plain_page(specification, found.plain_style)

    async def show_docs(_: Request) -> Response:
        return HTMLResponse(swagger_page(app.title, openapi_url, found.swagger), headers=page_headers(SWAGGER_SCRIPTS))

    async def show_asyncapi(_: Request) -> Response:
        scripts = ASYNCAPI_SCRIPTS if found.asyncapi else NO_SCRIPTS
        return HTMLResponse(asyncapi_html(), headers=page_headers(scripts))

    async def send_asyncapi_json(_: Request) -> Response:
        return Response(specification_json(), headers={"Cache-Control": "no-cache"}, media_type="application/json")

    async def send_asset(request: Request) -> Response:
        asset = served.get(f"assets/{request.path_params['name']}")
        if asset is None:
            raise HTTPException(status_code=404)
        return FileResponse(asset.path, headers=ASSET_HEADERS, media_type=asset.media_type)

    app.add_route("/docs", show_docs, include_in_schema=False)
    app.add_route("/asyncapi", show_asyncapi, include_in_schema=False)
    app.add_route("/asyncapi.json", send_asyncapi_json, include_in_schema=False)
    app.add_route("/assets/{name:path}", send_asset, include_in_schema=False)
