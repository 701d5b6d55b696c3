"""Shows that the documentation pages load nothing from another host, escape what they show, and list every subject."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.errors import ConfigurationError
from app.http.assets import OWN_FILES, DocsAssets, find_assets
from app.http.pages import asyncapi_page, mount_docs, swagger_page
from app.http.plain_page import asyncapi_plain_page

HOSTILE = '</script><script src="https://evil.example/x.js"></script><img src=x onerror=alert(1)>&\'"'

SPECIFICATION: dict[str, Any] = {
    "asyncapi": "3.0.0",
    "info": {"title": "Vigil", "version": "1.2.3"},
    "channels": {
        "vigil.guard.input:Guard": {
            "address": "vigil.guard.input",
            "messages": {"SubscribeMessage": {"$ref": "#/components/messages/guard"}},
        },
        "vigil.pii.scan:Publisher": {
            "address": "vigil.pii.scan",
            "messages": {"Message": {"$ref": "#/components/messages/scan~1job"}},
        },
    },
    "operations": {
        "guard": {"action": "receive", "channel": {"$ref": "#/channels/vigil.guard.input:Guard"}},
        "scan": {"action": "send", "channel": {"$ref": "#/channels/vigil.pii.scan:Publisher"}},
    },
    "components": {
        "messages": {
            "guard": {"title": "GuardMessage", "payload": {"$ref": "#/components/schemas/GuardRequest"}},
            "scan/job": {
                "title": "ScanMessage",
                "payload": {"type": "object", "properties": {"inline_field": {"type": "integer", "minimum": 7}}},
            },
        },
        "schemas": {
            "GuardRequest": {
                "type": "object",
                "required": ["text"],
                "properties": {
                    "text": {"type": "string", "description": "What is judged."},
                    "mode": {"$ref": "#/components/schemas/Mode"},
                    "language": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                    "labels": {"type": "array", "items": {"$ref": "#/components/schemas/Mode"}},
                },
            },
            "Mode": {"enum": ["fast", "full"], "type": "string"},
        },
    },
}


class Elements(HTMLParser):
    """Collects what a browser would act on: the elements, the addresses they name and the JSON the page carries."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.inline_scripts: list[str] = []
        self.carried = ""
        self._reads: str | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.append(tag)
        self.addresses += [attributes[name] or "" for name in ("src", "href", "data-openapi") if name in attributes]
        self.handlers += [name for name in attributes if name.startswith("on")]
        self._reads = (attributes.get("type") or "javascript") if tag == "script" else None

    def handle_endtag(self, tag: str) -> None:
        self._reads = None

    def handle_data(self, data: str) -> None:
        if self._reads == "application/json":
            self.carried += data
        elif self._reads:
            self.inline_scripts.append(data)


@pytest.fixture
def assets(tmp_path: Path) -> DocsAssets:
    """The real files, with a stand-in for the viewer that `make assets` fetches."""
    viewer = tmp_path / "asyncapi"
    viewer.mkdir()
    (viewer / "bundle.js").write_text("window.AsyncApiStandalone = { render() {} };")
    (viewer / "style.css").write_text("body {}")
    return find_assets(fetched=tmp_path)


@pytest.fixture
def plain_assets(tmp_path: Path) -> DocsAssets:
    return find_assets(fetched=tmp_path / "empty")


def every_page(assets: DocsAssets, specification: dict[str, Any], title: str) -> Iterator[str]:
    assert assets.asyncapi is not None
    yield asyncapi_page(specification, assets.asyncapi)
    yield asyncapi_plain_page(specification, assets.plain_style)
    yield swagger_page(title, "openapi.json", assets.swagger)


def client(assets: DocsAssets, specification: dict[str, Any] = SPECIFICATION) -> TestClient:
    app = FastAPI(title="Vigil", docs_url=None, redoc_url=None)
    mount_docs(app, lambda: json.dumps(specification), assets)
    return TestClient(app)


def test_no_page_names_another_host(assets: DocsAssets) -> None:
    for page in every_page(assets, SPECIFICATION, "Vigil"):
        elements = Elements(page)
        assert "://" not in page
        assert elements.addresses
        for address in elements.addresses:
            assert not urlsplit(address).netloc
            assert urlsplit(address).scheme in {"", "data"}


def test_own_scripts_and_styles_name_no_other_host(assets: DocsAssets) -> None:
    own = [asset.path for asset in assets.files() if asset.path.parent == OWN_FILES]
    assert len(own) == 3
    code = [re.sub(r"^// .*$", "", path.read_text(), flags=re.MULTILINE) for path in own]
    assert [text for text in code if "//" in text] == []


def test_pages_carry_no_inline_script(assets: DocsAssets) -> None:
    for page in every_page(assets, SPECIFICATION, "Vigil"):
        assert Elements(page).inline_scripts == []
        assert Elements(page).handlers == []


def test_text_of_the_document_never_becomes_markup(assets: DocsAssets) -> None:
    hostile = json.loads(json.dumps(SPECIFICATION).replace("Vigil", json.dumps(HOSTILE)[1:-1]))
    hostile["info"]["description"] = hostile["info"]["version"] = HOSTILE
    for channel in hostile["channels"].values():
        channel["address"] = channel["description"] = HOSTILE
    hostile["components"]["messages"]["guard"]["title"] = HOSTILE
    hostile["components"]["schemas"][HOSTILE] = {
        "description": HOSTILE,
        "properties": {
            HOSTILE: {"type": HOSTILE, "description": HOSTILE, "default": HOSTILE, HOSTILE: HOSTILE},
            "constant": {"const": HOSTILE},
            "choice": {"enum": [HOSTILE]},
            "other": {"$ref": f"#/components/schemas/{HOSTILE}"},
        },
    }
    tame = [Elements(page) for page in every_page(assets, SPECIFICATION, "Vigil")]
    for page, tame_elements in zip(every_page(assets, hostile, HOSTILE), tame, strict=True):
        elements = Elements(page)
        assert elements.tags.count("script") == tame_elements.tags.count("script")
        assert "img" not in elements.tags
        assert elements.handlers == []


def test_viewer_page_carries_the_whole_document(assets: DocsAssets) -> None:
    assert assets.asyncapi is not None
    specification = {**SPECIFICATION, "x-note": HOSTILE}
    assert json.loads(Elements(asyncapi_page(specification, assets.asyncapi)).carried) == specification


def test_plain_page_lists_every_subject_with_its_operation_and_schema(plain_assets: DocsAssets) -> None:
    page = client(plain_assets).get("/asyncapi").text
    guard, scan = page.index("<code>vigil.guard.input</code>"), page.index("<code>vigil.pii.scan</code>")
    assert guard < scan
    assert "receive" in page[guard:scan]
    assert '<a href="#schema-GuardRequest">GuardRequest</a>' in page[guard:scan]
    assert "send" in page[scan:]
    assert "inline_field" in page[scan:]
    assert "minimum <code>7</code>" in page[scan:]


def test_plain_page_shows_each_field_of_a_schema(plain_assets: DocsAssets) -> None:
    schema = client(plain_assets).get("/asyncapi").text.partition('<section id="schema-GuardRequest">')[2]
    assert "<td><code>text</code></td><td>string</td><td>yes</td><td></td><td>What is judged.</td>" in schema
    assert "<td><code>language</code></td><td>string or null</td>" in schema
    assert 'list of <a href="#schema-Mode">Mode</a>' in schema
    assert "<code>&quot;fast&quot;</code>, <code>&quot;full&quot;</code>" in schema


def test_plain_page_finds_channels_whose_names_hold_wildcards(plain_assets: DocsAssets) -> None:
    specification = SPECIFICATION | {
        "channels": {"worker:vigil.guard.*": {"address": "vigil.guard.*"}},
        "operations": {"guard": {"action": "receive", "channel": {"$ref": "#/channels/worker:vigil.guard.%2A"}}},
    }
    answer = client(plain_assets, specification).get("/asyncapi")
    assert "<p>receive &middot; worker:vigil.guard.*</p>" in answer.text


def test_missing_viewer_gives_the_plain_page_without_any_script(plain_assets: DocsAssets) -> None:
    answer = client(plain_assets).get("/asyncapi")
    assert "script" not in Elements(answer.text).tags
    assert "script-src 'none'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(("path", "scripts"), [("/docs", "'self'"), ("/asyncapi", "'self' 'unsafe-eval'")])
def test_policy_allows_only_what_the_service_itself_sends(assets: DocsAssets, path: str, scripts: str) -> None:
    policy = client(assets).get(path).headers["content-security-policy"]
    directives = dict(directive.strip().split(" ", 1) for directive in policy.split(";"))
    assert directives["default-src"] == "'none'"
    assert directives["script-src"] == scripts
    assert directives["connect-src"] == "'self'"
    assert directives["frame-ancestors"] == "'none'"
    assert ":" not in policy.replace("data:", "")


@pytest.mark.parametrize("path", ["/docs", "/asyncapi"])
def test_every_file_a_page_loads_is_served_and_may_be_kept(assets: DocsAssets, path: str) -> None:
    browser = client(assets)
    loaded = [address for address in Elements(browser.get(path).text).addresses if address.startswith("assets/")]
    assert len(loaded) == 3
    for address in loaded:
        answer = browser.get(f"/{address}")
        assert answer.status_code == 200
        assert answer.headers["content-type"].partition(";")[0] in {"text/javascript", "text/css"}
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert browser.get(path).headers["cache-control"] == "no-cache"


def test_changed_file_gets_another_address(assets: DocsAssets, tmp_path: Path) -> None:
    assert assets.asyncapi is not None
    (tmp_path / "asyncapi" / "bundle.js").write_text("window.AsyncApiStandalone = null;")
    changed = find_assets(fetched=tmp_path).asyncapi
    assert changed is not None
    assert changed.script.url != assets.asyncapi.script.url
    assert changed.style.url == assets.asyncapi.style.url


@pytest.mark.parametrize("name", ["missing.js", "../pyproject.toml", "%2e%2e/pyproject.toml", "/etc/passwd", ""])
def test_only_the_files_of_the_pages_are_served(assets: DocsAssets, name: str) -> None:
    assert client(assets).get(f"/assets/{name}").status_code == 404


def test_document_is_served_as_json_and_built_once(assets: DocsAssets) -> None:
    built: list[str] = []

    def build() -> str:
        built.append("built")
        return json.dumps(SPECIFICATION)

    app = FastAPI(docs_url=None, redoc_url=None)
    mount_docs(app, build, assets)
    assert built == []
    browser = TestClient(app)
    browser.get("/asyncapi")
    browser.get("/asyncapi")
    assert browser.get("/asyncapi.json").json() == SPECIFICATION
    assert browser.get("/asyncapi.json").headers["content-type"] == "application/json"
    assert built == ["built"]


@pytest.mark.parametrize(
    "options", [{}, {"docs_url": None}, {"docs_url": None, "redoc_url": None, "openapi_url": None}]
)
def test_app_with_pages_from_other_hosts_is_refused(assets: DocsAssets, options: dict[str, None]) -> None:
    with pytest.raises(ConfigurationError, match="docs_url=None"):
        mount_docs(FastAPI(**options), lambda: "{}", assets)  # type: ignore[arg-type]


def test_missing_file_of_the_installation_is_named(assets: DocsAssets, tmp_path: Path) -> None:
    (tmp_path / "asyncapi" / "style.css").unlink()
    with pytest.raises(ConfigurationError, match=r"style\.css"):
        find_assets(fetched=tmp_path)


def test_pages_find_their_files_behind_a_path_prefix(assets: DocsAssets) -> None:
    openapi = "/openapi.json"
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=openapi)
    mount_docs(app, lambda: json.dumps(SPECIFICATION), replace(assets, asyncapi=None))
    addresses = Elements(TestClient(app).get("/docs").text).addresses
    assert "openapi.json" in addresses
    assert not [address for address in addresses if address.startswith("/")]
