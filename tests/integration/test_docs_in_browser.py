"""Shows in a real headless browser that cannot reach any other host that /asyncapi and /docs render in full."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI
from faststream.nats import NatsBroker
from faststream.specification.asyncapi import AsyncAPI
from pydantic import BaseModel

from app.http.assets import FETCHED_FILES, DocsAssets, find_assets
from app.http.pages import mount_docs

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
VIEWER_FETCHED = (FETCHED_FILES / "asyncapi" / "bundle.js").is_file()
BROWSER_TIMEOUT_S = 120.0

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]


class Question(BaseModel):
    wording: str


class Verdict(BaseModel):
    allowed: bool


def sample_specification() -> str:
    broker = NatsBroker("nats://127.0.0.1:1")

    @broker.publisher("sample.answers")
    @broker.subscriber("sample.questions")
    async def judge(question: Question) -> Verdict:
        return Verdict(allowed=bool(question.wording))

    return AsyncAPI(broker, title="Sample").to_specification().to_json()


@contextmanager
def served(assets: DocsAssets) -> Iterator[str]:
    app = FastAPI(title="Sample", docs_url=None, redoc_url=None)

    @app.post("/judge")
    async def judge(question: Question) -> Verdict:
        return Verdict(allowed=bool(question.wording))

    mount_docs(app, sample_specification, assets)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        # The socket already listens: a request that comes before the server has started waits in its queue.
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def render(url: str, profile: Path) -> str:
    """Return the page's HTML after its scripts ran; fail on any complaint of the browser about the page."""
    assert CHROMIUM is not None
    finished = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={profile}",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            "--enable-logging=stderr",
            "--virtual-time-budget=10000",
            "--dump-dom",
            url,
        ],
        capture_output=True,
        text=True,
        timeout=BROWSER_TIMEOUT_S,
        check=True,
    )
    # Refused scripts, failed loads and uncaught errors all are console messages.
    assert [line for line in finished.stderr.splitlines() if "CONSOLE" in line] == []
    return finished.stdout


@pytest.mark.parametrize(
    "viewer",
    [
        pytest.param(
            True,
            marks=pytest.mark.skipif(not VIEWER_FETCHED, reason="the viewer was not fetched (`make assets` needs npm)"),
        ),
        False,
    ],
    ids=["viewer", "plain"],
)
def test_asyncapi_page_shows_every_subject_and_schema(tmp_path: Path, viewer: bool) -> None:
    assets = find_assets()
    with served(assets if viewer else replace(assets, asyncapi=None)) as address:
        shown = render(f"{address}/asyncapi", tmp_path).partition('<div id="asyncapi">' if viewer else "<h1>")[2]
    for text in ("sample.questions", "sample.answers", "Question", "Verdict", "wording", "allowed"):
        assert text in shown


def test_openapi_page_shows_every_path_and_schema(tmp_path: Path) -> None:
    with served(find_assets()) as address:
        shown = render(f"{address}/docs", tmp_path)
    for text in ("/judge", "Question", "Verdict"):
        assert text in shown
