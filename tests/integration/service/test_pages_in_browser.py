"""The running service's own pages in a real browser without any other host: every subject with its message schema."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.test_docs_in_browser import CHROMIUM, render
from tests.running_service import RunningService

pytestmark = [
    pytest.mark.integration,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]

SUBJECTS = (
    "vigil.guard.*",
    "vigil.detection.",
    "vigil.pii.scan",
    "vigil.arbiter.decide",
    "vigil.logs.event",
    "vigil.dlq.*",
    "vigil.api.guard",
    "vigil.api.decision",
    "vigil.api.restore",
)
SCHEMAS = (
    "GuardRequest",
    "ScanJob",
    "DecideJob",
    "DecisionRecord",
    "GuardAnswer",
    "RestoreRequest",
    "RestoreAnswer",
    "Problem",
)


def test_the_asyncapi_page_shows_every_subject_and_schema(service: RunningService, tmp_path: Path) -> None:
    shown = render(f"{service.url}/asyncapi", tmp_path).partition('id="asyncapi"')[2] or ""
    shown = shown or render(f"{service.url}/asyncapi", tmp_path / "plain").partition("<h1>")[2]
    for text in SUBJECTS + SCHEMAS:
        assert text in shown


def test_the_openapi_page_shows_the_endpoints(service: RunningService, tmp_path: Path) -> None:
    shown = render(f"{service.url}/docs", tmp_path)
    for text in ("/guard", "/guard/batch", "/restore", "/health/ready", "GuardRequest", "GuardAnswer"):
        assert text in shown
