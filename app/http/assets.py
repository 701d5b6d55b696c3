"""Finds the browser files of the documentation pages on this machine and names each by its content.

Swagger UI comes with the package fastapi-offline; the AsyncAPI viewer is fetched by `make assets` and may be absent.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from app.errors import ConfigurationError

OWN_FILES: Final = Path(__file__).parent / "static"
FETCHED_FILES: Final = Path(__file__).parents[2] / "assets"
SWAGGER_PACKAGE: Final = "fastapi_offline"
"""Only its files are used; it is never imported."""
MEDIA_TYPES: Final = {".css": "text/css", ".js": "text/javascript"}
"""RFC 9239 for scripts. Not `mimetypes`, whose answer depends on the machine: browsers are told not to guess."""
DIGEST_LENGTH: Final = 12
"""Hex digits of SHA-256 in a file's address: 48 bits tell the versions of one file apart."""


@dataclass(frozen=True, slots=True)
class Asset:
    """One file a documentation page loads."""

    path: Path
    url: str
    """Relative to the root of the service; changes with the content, so a browser may keep the file for good."""
    media_type: str


@dataclass(frozen=True, slots=True)
class Viewer:
    """What a page loads to show a document: the vendor's script and style, then the own script that starts it."""

    script: Asset
    style: Asset
    start: Asset


@dataclass(frozen=True, slots=True)
class DocsAssets:
    swagger: Viewer
    asyncapi: Viewer | None
    """None when the viewer was not fetched: the page is then a plain one."""
    plain_style: Asset

    def files(self) -> tuple[Asset, ...]:
        viewers = [viewer for viewer in (self.swagger, self.asyncapi) if viewer]
        return (
            self.plain_style,
            *(asset for viewer in viewers for asset in (viewer.script, viewer.style, viewer.start)),
        )


def find_assets(fetched: Path = FETCHED_FILES) -> DocsAssets:
    """Look for the files and read each once.

    Raises:
        ConfigurationError: a file that the installation must carry is missing.
    """
    viewer = fetched / "asyncapi"
    return DocsAssets(
        swagger=Viewer(
            script=describe_asset("swagger", swagger_folder() / "swagger-ui-bundle.js"),
            style=describe_asset("swagger", swagger_folder() / "swagger-ui.css"),
            start=describe_asset("swagger", OWN_FILES / "swagger.js"),
        ),
        asyncapi=Viewer(
            script=describe_asset("asyncapi", viewer / "bundle.js"),
            style=describe_asset("asyncapi", viewer / "style.css"),
            start=describe_asset("asyncapi", OWN_FILES / "asyncapi.js"),
        )
        if (viewer / "bundle.js").is_file()
        else None,
        plain_style=describe_asset("asyncapi", OWN_FILES / "plain.css"),
    )


def swagger_folder() -> Path:
    package = find_spec(SWAGGER_PACKAGE)
    if package is None or not package.submodule_search_locations:
        raise ConfigurationError(f"the package {SWAGGER_PACKAGE.replace('_', '-')} is not installed")
    return Path(package.submodule_search_locations[0]) / "static"


def describe_asset(group: str, path: Path) -> Asset:
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:DIGEST_LENGTH]
    except OSError as error:
        raise ConfigurationError(f"a file of the documentation pages cannot be read: {path.name}") from error
    url = f"assets/{group}/{path.stem}.{digest}{path.suffix}"
    return Asset(path=path, url=url, media_type=MEDIA_TYPES[path.suffix])
