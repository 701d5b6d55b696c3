"""A body that never comes whole is its caller's affair, and one that is compressed is named as that."""

from __future__ import annotations

import gzip
import logging
from typing import Any

import pytest
from starlette.testclient import TestClient

from app.http import application
from app.settings import Settings
from tests.metric_values import growth_of
from tests.support import no_metering, open_access


class Open:
    """A service that lets everyone in and is never asked for a decision."""

    def __init__(self) -> None:
        self.access, self.metering = open_access(), no_metering()

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


@pytest.mark.parametrize("path", ["/guard", "/guard/batch", "/v1/guard/input"])
async def test_a_caller_that_leaves_within_its_body_is_no_failure(path: str, caplog: pytest.LogCaptureFixture) -> None:
    coming: list[dict[str, Any]] = [
        {"type": "http.request", "body": b'{"text": "kappa', "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> dict[str, Any]:
        return coming.pop(0)

    async def send(_: Any) -> None:
        """Nobody is there to read it."""

    service: Any = Open()
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": [], "scheme": "http"}
    with (
        caplog.at_level(logging.WARNING),
        growth_of("vigil_request_errors_total", code="internal-error") as failures,
        growth_of("vigil_request_errors_total", code="body-incomplete") as left,
    ):
        await application.build(service, Settings(), "0")(scope, receive, send)
    assert (failures.value, left.value) == (0, 1)
    assert caplog.records == []


@pytest.mark.parametrize(
    ("path", "media_type"),
    [("/guard", "application/json"), ("/v2/guard", "application/json"), ("/guard/stream", "application/x-ndjson")],
)
def test_a_compressed_body_is_refused_as_that_and_not_as_wrong_json(path: str, media_type: str) -> None:
    service: Any = Open()
    app = application.build(service, Settings(), "0")
    headers = {"content-type": media_type, "content-encoding": "gzip"}
    refused = TestClient(app).post(path, content=gzip.compress(b'{"text": "kappa"}'), headers=headers)
    assert refused.status_code == 415
    if path != "/v2/guard":
        assert refused.json()["errors"] == [{"field": "content-encoding", "reason": "the body must not be compressed"}]
